"""Messages that could not be delivered in time: lists them, and has them sent again by whoever runs `notify`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from streamproc.process import epoch_ms
from streamproc.registry.spans import moment_or_ago
from streamproc.settings import Settings
from streamproc.store import connect, must_exist
from streamproc.store.deliveries import Deliveries, Undelivered


async def undelivered(settings: Settings, since: str) -> list[Undelivered]:
    """Given-up messages with changes from a time on; raises RegistryError if `since` is not a time, or StoreError."""
    begin = moment_or_ago(since, epoch_ms())
    async with _opened(settings) as store:
        return await store.undelivered(begin)


async def send_again(settings: Settings, channel: str | None, since: str) -> dict[str, int]:
    """Have them sent again, on one channel or all; returns the number of changes for each channel that had any."""
    now = epoch_ms()
    begin = moment_or_ago(since, now)
    async with _opened(settings) as store:
        names = sorted({one.channel for one in await store.undelivered(begin)})
        counts = {name: await store.send_again(name, begin, now) for name in names if channel in {None, name}}
    return {name: count for name, count in counts.items() if count}


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[Deliveries]:
    must_exist(settings)
    store = connect(settings, process="notify")
    try:
        await store.open()
        yield store
    finally:
        await store.close()
