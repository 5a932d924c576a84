"""Edits the registry: first the database, then the topic; for the commands and the admin API alike."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
import structlog
from aiokafka.errors import KafkaError

from streamproc.errors import EntryNotSent, RegistryError, RowsRefused, UnknownEntry
from streamproc.process import epoch_ms
from streamproc.store.edits import Author, Edit, Entry, Outcome, Registered
from streamproc.store.protocol import Store

#: Puts records on the topic, keys to values, and returns once Kafka has them with acks=all; raises KafkaError.
Send = Callable[[Mapping[str, bytes | None]], Awaitable[None]]

#: Looks whether others have edited the same entries meanwhile. Each look is after a send, so whoever sends last has seen all
#: edits but those that others are about to send; more than three in a row are edits without end, and a sink mends the rest.
LOOKS = 3

_encode = msgspec.json.Encoder().encode
_log = structlog.get_logger(__name__)


class Service:
    """Edits the registry. `send` is used for one edit at a time."""

    def __init__(self, store: Store, send: Send) -> None:
        self.store = store
        self._send = send
        self._turn = asyncio.Lock()

    async def edit(self, edits: Sequence[Edit], actor: str) -> list[Outcome]:
        """Make edits, all or none, and send them to the topic; returns the resulting entries.

        Unchanged entries are sent, too, so that an edit that did not reach the topic can be repeated. Raises RegistryError
        with all faults if nothing was changed, EntryNotSent if the database has the edit and the topic has not.
        """
        author = Author(actor, epoch_ms())
        async with self._turn:
            try:
                outcomes = await self.store.edit_registry(edits, author)
            except RowsRefused as error:
                raise RegistryError(f"the database does not take it: {error}") from error
            await self._tell(outcomes)
        changed = [outcome.key for outcome in outcomes if outcome.changed]
        _log.info("registry edited", actor=actor, entries=changed[:_TOLD], count=len(changed))
        return outcomes

    async def _tell(self, outcomes: Sequence[Outcome]) -> None:
        """Send the entries, and again those that somebody else has changed before they were sent."""
        due: Registered = {outcome.key: outcome.entry for outcome in outcomes}
        for _ in range(LOOKS):
            if not due:
                return
            try:
                await self._send(values(due))
            except (KafkaError, OSError) as error:  # a TimeoutError is an OSError
                raise EntryNotSent(
                    f"saved in the database, but not sent to Kafka; do it again, or a sink does in a while: {error!r}"
                ) from error
            now = await self.store.registry(list(due))
            due = {key: now.get(key) for key, sent in due.items() if now.get(key) != sent}

    async def entry(self, key: str) -> Entry:
        """The entry with this key on the topic; raises UnknownEntry."""
        entry = (await self.store.registry([key])).get(key)
        if entry is None:
            raise UnknownEntry(f"{key} is not registered")
        return entry


#: Entries named in a line of the log.
_TOLD = 10


def values(entries: Registered) -> dict[str, bytes | None]:
    """The records of the topic for these entries; None deletes.

    >>> values({"a": None})
    {'a': None}
    """
    return {key: None if entry is None else _encode(entry) for key, entry in entries.items()}
