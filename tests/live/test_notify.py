"""`streamproc notify` as a process: killed, stopped and asked how it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from streamproc.kafka.broker import free_port
from streamproc.notify.sender import MARGIN_S
from streamproc.records import Notification, SensorEntry, Severity
from streamproc.settings.connection import Connection
from streamproc.store.protocol import Batch
from streamproc.store.sqlite.store import SqliteStore
from tests.live.processes import SOON_S, Site, Stage, eventually, running
from tests.receivers import Hook, hooked
from tests.slowness import in_time
from tests.store.builders import GROUP, notifications, save_entries

#: Long enough for a receiver on this machine, short enough for a test that waits until a killed process's hold ends.
TIMEOUT_S = 5
#: How long a process may take to end.
STOP_S = 5.0
STATUS = "SELECT status FROM notification_deliveries ORDER BY id"


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Site]:
    """A database, and no broker: none is needed."""
    async with running(Connection("127.0.0.1:1"), "none-", tmp_path) as site:
        yield site


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    """A receiver."""
    async with hooked() as made:
        yield made


async def started(site: Site, hook: Hook, timeout_s: int = TIMEOUT_S, **variables: str) -> Stage:
    """A process that posts each change at once, and works."""
    stage = await site.start(
        "notify",
        STREAMPROC_NOTIFY_WEBHOOK_URL=hook.url,
        STREAMPROC_NOTIFY_CHANNELS="webhook",
        STREAMPROC_NOTIFY_GROUP_SECONDS="0",
        STREAMPROC_NOTIFY_TIMEOUT_SECONDS=str(timeout_s),
        **variables,
    )
    await stage.until_told("notifying")
    return stage


async def tell(site: Site, *sensors: str) -> None:
    """Have the database say that these sensors are CRITICAL, as the sink does."""
    at = time.time_ns() // 1_000_000
    rows = [Notification(f"n-{s}", f"e-{s}", s, Severity.CRITICAL, at, s, "Look.") for s in sensors]
    store = SqliteStore(site.database)  # it waits for others' locks as a sink does
    await store.open()
    try:
        await save_entries(store, [SensorEntry(sensor) for sensor in sensors])
        await store.write(Batch(GROUP, notifications=notifications(*rows)))
    finally:
        await store.close()


async def all_sent(site: Site, count: int) -> bool:
    """Whether so many changes are written down as sent, and none otherwise."""
    return site.held.rows(STATUS) == [("sent",)] * count


@pytest.mark.timeout(400)
async def test_killed_amid_sending_nothing_is_lost_and_a_repeat_is_known(place: Site, hook: Hook) -> None:
    """The message on its way comes again under its identity once nobody holds it; the others come once."""
    first = await started(place, hook)
    await tell(place, "a")
    await eventually(lambda: all_sent(place, 1))
    hook.open.clear()
    hook.arrived.clear()
    await tell(place, "b", "c")
    await asyncio.wait_for(hook.arrived.wait(), SOON_S)
    first.kill()
    await first.ended()
    hook.open.set()
    second = await started(place, hook)
    await eventually(lambda: all_sent(place, 3), MARGIN_S + TIMEOUT_S + SOON_S)
    identities = hook.identities()
    assert len(identities) == 4
    assert len(set(identities)) == 3
    assert len({body for _, body in hook.requests}) == 3
    assert [line["changes"] for line in second.told("message may have been sent before")] == [1]


async def test_sigterm_ends_it_in_time(place: Site, hook: Hook) -> None:
    """Idle with code 0; where a receiver stands still, with code 3, and the message is sent by the next process."""
    stage = await started(place, hook)
    code, seconds = await stage.terminate()
    assert code == 0
    assert in_time(seconds, STOP_S)
    stage = await started(place, hook, timeout_s=60)
    hook.open.clear()
    await tell(place, "a")
    await asyncio.wait_for(hook.arrived.wait(), SOON_S)
    code, seconds = await stage.terminate()
    assert code == 3
    assert in_time(seconds, STOP_S)


async def test_it_tells_how_it_is(place: Site, hook: Hook) -> None:
    """Alive, ready, and what it counts; `streamproc health` asks it."""
    port = free_port()
    stage = await started(place, hook, STREAMPROC_NOTIFY_PORT=str(port))
    await tell(place, "a")
    await eventually(lambda: all_sent(place, 1))
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:

        async def ready() -> bool:
            async with session.get("/ready") as answer:
                return answer.status == 200

        await eventually(ready)
        async with session.get("/metrics") as answer:
            metrics = await answer.text()
    assert 'streamproc_notify_messages_total{channel="webhook",result="sent"} 1.0' in metrics
    assert 'streamproc_notify_waiting{channel="webhook"}' in metrics
    asked = await place.start(
        "health", "-m", "streamproc", "health", "notify", "--ready", STREAMPROC_NOTIFY_PORT=str(port)
    )
    assert await asked.ended() == 0
    assert (await stage.terminate())[0] == 0
