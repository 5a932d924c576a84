"""Brings the topic up to the database after edits by SQL, or edits that could not reach Kafka."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

import structlog

from streamproc.errors import StaleEntry, UnknownEntry
from streamproc.process import epoch_ms
from streamproc.records import ActionEntry, DeviceEntry, SensorEntry
from streamproc.records.alerting import Document
from streamproc.registry import checks
from streamproc.registry.document_checks import document_faults
from streamproc.registry.past import past
from streamproc.registry.service import LOOKS, Send, values
from streamproc.registry.thresholds import taken_over
from streamproc.store.documents import Unreadable
from streamproc.store.edits import (
    DATABASE,
    PREFIXES,
    Author,
    Edit,
    Entry,
    Found,
    Gone,
    Outcome,
    PutSensor,
    Registered,
    by_streamproc,
    kind_of,
    sensors,
    topic_key,
)
from streamproc.store.protocol import Store

#: Entries that are mended in one transaction: the sink's own writes wait for it, a few milliseconds.
PART = 500
#: Entries named in a line of the log.
_TOLD = 5

_log = structlog.get_logger(__name__)


class View(Protocol):
    """The topic as it is followed (`view.Registry`)."""

    entries: dict[str, SensorEntry]
    devices: dict[str, DeviceEntry]
    documents: dict[str, Document]

    async def caught_up(self) -> None:
        """Wait until all is read that is there now."""


class Mended(NamedTuple):
    """The result of a comparison: entries sent and removed, rows that are no valid entries, and entries only on the topic."""

    sent: int
    removed: int
    refused: int
    strays: int


class Mender:
    """Compares the registry in the database with the topic. `view` is of this topic, and started."""

    def __init__(self, store: Store, send: Send, view: View) -> None:
        self._store, self._send, self._view = store, send, view

    async def mend(self) -> Mended:
        """Send what differs. Looks again afterwards: an edit may have been made, and sent, between reading and sending.

        Raises StoreError, StoreUnavailable and KafkaError; the next call goes on.
        """
        sent, removed = 0, 0
        for _ in range(LOOKS):
            await self._view.caught_up()
            known = on_topic(self._view)
            rows = await self._store.registry()
            limited, notes = taken_over(sensors(rows), await self._store.thresholds())
            refused = dict(_refused(rows))
            edits = [*_limits(limited, rows), *_differences(rows, known, refused)]
            try:
                outcomes = await self._mend(edits)
            except StaleEntry:  # somebody has edited a sensor that has limits, just now
                continue
            sent += len(outcomes)
            removed += sum(outcome.entry is None for outcome in outcomes)
            if not outcomes:
                break
        cleared = await self._clear(rows)
        strays = [topic_key(*kind_of(edit.known)) for edit in edits if isinstance(edit, Gone)]
        _tell(refused, strays, notes)
        return Mended(sent + cleared, removed + cleared, len(refused), len(strays))

    async def _clear(self, rows: Registered) -> int:
        """Remove what is long over; how many entries those were."""
        by = by_streamproc()
        edits = await past(self._store, rows, by.at)
        if not edits:
            return 0
        try:
            outcomes = await self._store.edit_registry(edits, by)
        except (StaleEntry, UnknownEntry):  # somebody has edited one of them just now
            return 0
        await self._send(values({outcome.key: outcome.entry for outcome in outcomes}))
        _log.info("silences and handling that are long over removed", count=len(outcomes))
        return len(outcomes)

    async def _mend(self, edits: Iterable[Edit]) -> list[Outcome]:
        mended: list[Outcome] = []
        left = iter(edits)
        while part := list(islice(left, PART)):
            by = Author(DATABASE, epoch_ms())
            outcomes = await self._store.edit_registry(part, by)
            await self._send(values({outcome.key: outcome.entry for outcome in outcomes}))
            mended += outcomes
        if mended:
            names = [outcome.key for outcome in mended[:_TOLD]]
            _log.info("registry on the topic brought up to the database", count=len(mended), entries=names)
        return mended


def on_topic(view: View) -> dict[str, Entry]:
    """All that the topic has, by key."""
    devices = {topic_key("device", name): entry for name, entry in view.devices.items()}
    return {**devices, **view.documents, **view.entries}


def _differences(
    rows: Registered, known: Mapping[str, Entry], refused: Mapping[str, str]
) -> Iterator[Found | Gone]:
    for key, entry in rows.items():
        if entry is not None and entry != known.get(key) and key not in refused:
            yield Found(entry, known.get(key))
    for key, entry in known.items():
        if rows.get(key) is None:
            yield Gone(entry)


def _limits(limited: Iterable[SensorEntry], rows: Registered) -> Iterator[PutSensor]:
    """Ranges that other programs have set in `alert_thresholds` since; one that makes no sense stays there."""
    for entry in limited:
        if entry != rows.get(entry.sensor) and not any(checks.sensor_faults(entry)):
            yield PutSensor(entry, entry.version)


def _refused(rows: Registered) -> Iterator[tuple[str, str]]:
    """Rows that must not go to the topic, and why: whoever wrote them was not asked what an entry is."""
    for key, entry in rows.items():
        faults: Sequence[str] = ()
        if isinstance(entry, SensorEntry):
            faults = list(checks.sensor_faults(entry))
            if key.startswith(tuple(PREFIXES.values())) and not faults:
                faults = ["its name is that of another kind of entry"]
        elif isinstance(entry, DeviceEntry):
            faults = list(checks.device_faults(entry))
        elif isinstance(entry, ActionEntry):
            faults = list(checks.action_faults(entry))
        elif isinstance(entry, Unreadable):
            faults = [f"{key}: {entry.reason}"]
        elif entry is not None:
            faults = list(document_faults(entry))
        if faults:
            yield key, "; ".join(faults)


def _tell(refused: Mapping[str, str], strays: Sequence[str], notes: Sequence[str]) -> None:
    if notes:
        _log.warning("limits in alert_thresholds that are no ranges: left out", reasons=list(notes[:_TOLD]))
    if refused:
        reasons = list(refused.values())[:_TOLD]
        _log.warning("rows of the registry are not valid: not sent", count=len(refused), reasons=reasons)
    if strays:
        _log.warning(
            "the topic has entries that this database never had: left alone, `registry remove` takes them away",
            count=len(strays),
            entries=list(strays[:_TOLD]),
        )
