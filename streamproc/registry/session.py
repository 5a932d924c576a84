"""What the registry's commands open, and in whose name they edit."""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

from streamproc import settings
from streamproc.errors import RegistryError
from streamproc.records import SensorEntry
from streamproc.registry.mending import on_topic
from streamproc.registry.sender import connected
from streamproc.registry.service import Service
from streamproc.registry.thresholds import overruled, taken_over
from streamproc.registry.view import Registry
from streamproc.store import connect, must_exist
from streamproc.store.edits import Edit, Entry, Outcome, PutSensor
from streamproc.store.protocol import Store

#: A topic of 100,000 entries is read in a few seconds; without Kafka it would be waited for without end.
_READ_SECONDS = 30.0


@asynccontextmanager
async def looking() -> AsyncIterator[Store]:
    """The store of the settings, open; raises StoreError where there is none."""
    chosen = settings.load()
    must_exist(chosen)
    async with _opened(chosen) as store:
        yield store


@asynccontextmanager
async def _opened(chosen: settings.Settings) -> AsyncIterator[Store]:
    store = connect(chosen, process="registry")
    try:
        await store.open()
        yield store
    finally:
        await store.close()


async def edit(edits: Sequence[Edit], *, makes: bool = False) -> list[Outcome]:
    """Make edits in the name of the user who runs this, in a database that exists or that this `makes`.

    Without Kafka nothing is changed. Raises RegistryError and StoreError.
    """
    chosen = settings.load()
    if not makes:
        must_exist(chosen)
    async with connected(chosen) as send, _opened(chosen) as store:
        return await Service(store, send).edit(edits, actor())


async def known(key: str) -> Entry | None:
    """The entry that the database has by this key of the topic."""
    async with looking() as store:
        return (await store.registry([key])).get(key)


async def take_over() -> tuple[list[Outcome], list[str]]:
    """Take the limits of `alert_thresholds` over as ranges; returns what was changed, and notes on what could not be."""
    if settings.load().store != "sqlserver":
        raise RegistryError(
            "alert_thresholds is a table of SQL Server's databases, and this is SQLite: set DB_HOST"
        )
    async with looking() as store:
        entries, notes = taken_over(await store.entries(), await store.thresholds())
    there = await _topic()
    # Also what the database has by now, but the topic not: the migration's, or one that failed to be sent.
    wanted = [PutSensor(entry) for entry in entries if entry != there.get(entry.sensor)]
    return (await edit(wanted) if wanted else []), notes


async def overruled_of(entries: Collection[SensorEntry]) -> dict[str, list[str]]:
    """The ranges of these sensors, by name, that limits in `alert_thresholds` will soon overwrite."""
    if settings.load().store != "sqlserver" or not entries:
        return {}
    async with looking() as store:
        return overruled(entries, await store.thresholds())


async def on_topic_alone(keys: Collection[str]) -> set[str]:
    """Those of these keys that the topic has but the database has not."""
    async with looking() as store:
        found = await store.registry(keys)
    return {key for key in (await _topic()).keys() & set(keys) if found.get(key) is None}


async def _topic() -> dict[str, Entry]:
    """All that the topic has, by key; raises RegistryError where it cannot be read."""
    chosen = settings.load()
    view = Registry(chosen.kafka, chosen.topic("registry"))
    try:
        async with asyncio.timeout(_READ_SECONDS):
            await view.start()
    except TimeoutError:
        raise RegistryError(
            f"the topic {chosen.topic('registry')} at {chosen.bootstrap} cannot be read, so nothing was changed"
        ) from None
    await view.stop()
    return on_topic(view)


async def forget(keys: Collection[str]) -> None:
    """Remove entries from the topic that the database does not have."""
    if keys:
        async with connected(settings.load()) as send:
            await send(dict.fromkeys(keys))


def actor() -> str:
    """The user who runs this process, as the system knows them: an environment variable could say anything."""
    number = os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # a container's user need not have a name
        return f"uid {number}"
