"""How many connections the console has."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from aiohttp import ClientSession, web

from streamproc.console.app import build
from streamproc.console.listening import Listening
from streamproc.console.live import Live
from streamproc.console.reading import Reading
from streamproc.monitor import Told
from streamproc.settings import Settings
from streamproc.store.opening import Database
from tests.live.processes import eventually

ASK = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
FOLLOW = b"GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


@asynccontextmanager
async def listening(tmp_path: Path, most: int) -> AsyncIterator[tuple[Listening, web.AppRunner]]:
    """A console that has so many connections at most."""
    settings = Settings.model_validate({"database": tmp_path / "streamproc.db"})
    database = Database(settings, "tests")
    told = Told("console", list, list)
    runner = web.AppRunner(
        build(settings, Live(99), Reading(database.opened), told), access_log=None, shutdown_timeout=0.1
    )
    await runner.setup()
    site = Listening(runner, "127.0.0.1", 0, most)
    await site.start()
    try:
        yield site, runner
    finally:
        await runner.cleanup()
        await database.close()


@asynccontextmanager
async def opened(site: Listening, ask: bytes = b"") -> AsyncIterator[asyncio.StreamReader]:
    """What comes over a connection that asks for this."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(site.name.rpartition(":")[2]))
    try:
        writer.write(ask)
        yield reader
    finally:
        writer.close()


async def status(reader: asyncio.StreamReader) -> int:
    """The status of the answer, 0 of a connection that was ended without one."""
    try:
        return int((await reader.readline() or b"- 0").split()[1])
    except ConnectionResetError:
        return 0


async def test_beyond_the_bound_a_connection_is_told_when_to_come_back(tmp_path: Path) -> None:
    """With a problem as any other refusal; once another has gone there is room, and who was there stays."""
    async with listening(tmp_path, 2) as (site, runner):
        async with opened(site, FOLLOW) as first, opened(site, FOLLOW) as second:
            assert [await status(each) for each in (first, second)] == [200, 200]
            async with opened(site) as third:
                head, _, body = (await third.read()).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
            assert b"\r\nRetry-After: 5\r\n" in head
            assert b"\r\nContent-Type: application/problem+json\r\n" in head
            assert f"\r\nContent-Length: {len(body)}\r\n".encode() in head
            problem = json.loads(body)
            assert (problem["type"], problem["retry_after"]) == ("urn:streamproc:problem:busy", 5)
            assert not first.at_eof()
            assert not second.at_eof()
        server = runner.server
        assert server is not None
        await eventually(lambda: asyncio.sleep(0, len(server.connections) < 2))
        async with ClientSession() as session, session.get(f"{site.name}/health") as response:
            assert response.status == 200


async def test_who_waits_for_nothing_makes_room(tmp_path: Path) -> None:
    """One that has never asked, then one kept alive since its answer, each for the next who comes; who follows live stays."""
    async with (
        listening(tmp_path, 3) as (site, _),
        opened(site, FOLLOW) as follower,
        opened(site) as silent,
        opened(site, ASK) as kept,
    ):
        assert [await status(each) for each in (follower, kept)] == [200, 200]
        head = await kept.readuntil(b"\r\n\r\n")
        await kept.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]))
        async with opened(site, FOLLOW) as third:
            assert await status(third) == 200
            assert await silent.read() == b""
            async with opened(site, FOLLOW) as fourth:
                assert await status(fourth) == 200
                assert await kept.read() == b""
                async with opened(site, FOLLOW) as fifth:
                    assert await status(fifth) == 503
                assert not any(each.at_eof() for each in (follower, third, fourth))


async def test_the_bound_holds_for_those_who_come_at_once(tmp_path: Path) -> None:
    """They are accepted together, before any of them has begun."""
    async with listening(tmp_path, 3) as (site, _), AsyncExitStack() as everyone:
        come = [everyone.enter_async_context(opened(site, FOLLOW)) for _ in range(40)]
        told = await asyncio.gather(*(status(each) for each in await asyncio.gather(*come)))
        assert told.count(200) == 3
