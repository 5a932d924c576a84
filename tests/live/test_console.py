"""`streamproc console` as a process, on a real broker: what comes is told as it does, once, to whoever comes back too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from time import time

import aiohttp
import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from streamproc.core.chunk import REDRIVEN
from streamproc.kafka.broker import free_port
from streamproc.records import SensorEntry, Severity, SeverityEvent
from streamproc.store.sqlite.store import SqliteStore
from tests.live.processes import SOON_S, Site, Stage
from tests.shell.test_console_live import names, parsed, rows, until
from tests.slowness import in_time
from tests.store.builders import event, save_entries

#: How long a process may take to end.
STOP_S = 5.0


class Console:
    """A console that runs, and a way to ask it."""

    def __init__(self, stage: Stage, port: int) -> None:
        self.stage, self.port = stage, port

    @asynccontextmanager
    async def following(
        self, path: str = "/api/live", place: str = ""
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A stream, from a place on or from now."""
        headers = {"Last-Event-ID": place} if place else {}
        timeout = aiohttp.ClientTimeout(sock_read=SOON_S)
        async with (
            aiohttp.ClientSession(f"http://127.0.0.1:{self.port}", timeout=timeout) as session,
            session.get(path, headers=headers) as response,
        ):
            assert response.status == 200
            yield response


async def started(site: Site) -> Console:
    """One that follows the topics."""
    port = free_port()
    stage = await site.start("console", CONSOLE_PORT=str(port))
    await stage.until_told("topics are followed")
    await stage.until_told("console listens")
    return Console(stage, port)


@pytest.fixture
async def console(site: Site) -> Console:
    """One with a database that has a sensor."""
    store = SqliteStore(site.database)
    await store.open()
    await save_entries(store, [SensorEntry("a")])
    await store.close()
    return await started(site)


async def tell(
    site: Site, producer: AIOKafkaProducer, change: SeverityEvent, **headers: bytes
) -> tuple[int, int]:
    """Write a change as the engine does; gives its partition and offset."""
    given = [(name.replace("_", "-"), value) for name, value in headers.items()]
    told = await producer.send_and_wait(
        f"{site.prefix}events", msgspec.json.encode(change), key=change.sensor.encode(), headers=given
    )
    return told.partition, told.offset


async def test_what_comes_is_told_once(site: Site, console: Console, producer: AIOKafkaProducer) -> None:
    """Changes and windows within moments; what came while nobody followed, on coming back; what cannot be known, `reset`."""
    warned, back = (
        event("a", Severity.WARN, Severity.NORMAL, 1),
        event("a", Severity.NORMAL, Severity.WARN, 2),
    )
    async with console.following("/api/live?sensor=a") as response:
        assert (await until(response, "state"))[0][2] == {"live": True}
        began = time()
        await producer.send_and_wait(f"{site.prefix}events", b"no event")
        await producer.send_and_wait(f"{site.prefix}windows", msgspec.json.encode(rows("b", "a")))
        await until(response, "window")
        await tell(site, producer, warned)
        ((place, _, data),) = await until(response, "change")
        assert in_time(time() - began, 2.0)
        assert (data["event_id"], data["severity"]) == (warned.event_id, "WARN")
        assert place is not None
    await tell(site, producer, back, **{REDRIVEN: b"1"})
    partition, offset = await tell(site, producer, back)
    async with console.following(place=place) as response:
        ((place_behind, _, data),) = [each for each in await until(response, "change") if each[1] == "change"]
        assert data["severity"] == "NORMAL"
        assert f"{partition}:{offset + 1}" in (place_behind or "").split(","), "the one sent again is told"
    await console.stage.until_told("record not understood")
    console.stage.kill()
    await console.stage.ended()
    again = await started(site)
    async with again.following(place=place) as response:
        assert names(await until(response, "reset")) == ["state", "reset"]


async def test_sigterm_ends_it_and_all_who_follow_hear_of_it(console: Console) -> None:
    """With code 0 within 5 s, while streams are open."""
    async with console.following() as first, console.following() as second:
        await asyncio.gather(until(first, "state"), until(second, "state"))
        ending = asyncio.create_task(console.stage.terminate())
        await asyncio.gather(until(first, "end"), until(second, "end"))
        code, seconds = await ending
    assert code == 0
    assert in_time(seconds, STOP_S)


@asynccontextmanager
async def asleep(console: Console) -> AsyncIterator[asyncio.StreamReader]:
    """One who follows and reads no more than the first words."""
    reader, writer = await asyncio.open_connection("127.0.0.1", console.port, limit=2**10)
    try:
        writer.write(b"GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"event: state")
        yield reader
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def test_one_who_takes_nothing_is_cut_off(
    site: Site, console: Console, producer: AIOKafkaProducer
) -> None:
    """Whoever does not read holds no more than is bounded, his connection ends, and others follow as before."""
    change = msgspec.structs.replace(event("a", Severity.WARN, Severity.NORMAL), explanation="x" * 20_000)
    topic, value = f"{site.prefix}events", msgspec.json.encode(change)
    async with asleep(console) as reader:
        before = console.stage.memory_bytes()
        async with (
            aiohttp.ClientSession(f"http://127.0.0.1:{console.port}") as session,
            asyncio.timeout(SOON_S),
        ):
            cut_off = False
            while not cut_off:
                await asyncio.gather(*[await producer.send(topic, value, key=b"a") for _ in range(50)])
                async with session.get("/metrics") as answer:
                    cut_off = "\nstreamproc_console_clients_cut_off_total 1.0" in await answer.text()
            text = b"some"
            with suppress(ConnectionError):  # he is told, or no more is written to him
                while text and b"event: end" not in text:
                    text = await reader.read(2**16)
    assert console.stage.memory_bytes() - before < 100_000_000
    async with console.following() as response:
        await until(response, "state")
        await tell(site, producer, event("b", Severity.WARN, Severity.NORMAL))
        text = b""
        async with asyncio.timeout(SOON_S):
            while "b" not in names(parsed(text)):  # of those before, some may come only now
                chunk = await response.content.readany()
                assert chunk, text
                text += chunk
