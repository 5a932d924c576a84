"""How many connections the console has."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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


@asynccontextmanager
async def listening(tmp_path: Path, most: int) -> AsyncIterator[tuple[Listening, web.AppRunner]]:
    """A console that has so many connections at most."""
    settings = Settings.model_validate({"database": tmp_path / "streamproc.db"})
    database = Database(settings, "tests")
    told = Told("console", list, list)
    runner = web.AppRunner(
        build(settings, Live(1), Reading(database.opened), told), access_log=None, shutdown_timeout=0.1
    )
    await runner.setup()
    site = Listening(runner, "127.0.0.1", 0, most)
    await site.start()
    try:
        yield site, runner
    finally:
        await runner.cleanup()
        await database.close()


async def held(site: Listening) -> asyncio.StreamWriter:
    """A connection that has asked once, and stays open."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(site.name.rpartition(":")[2]))
    writer.write(ASK)
    assert b" 200 " in await reader.readline()
    return writer


async def test_beyond_the_bound_a_connection_is_told_when_to_come_back(tmp_path: Path) -> None:
    """With a problem as any other refusal; once another has gone there is room, and who was there stays."""
    async with listening(tmp_path, 2) as (site, runner):
        first, second = await held(site), await held(site)
        reader, writer = await asyncio.open_connection("127.0.0.1", int(site.name.rpartition(":")[2]))
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"\r\nRetry-After: 5\r\n" in head
        assert b"\r\nContent-Type: application/problem+json\r\n" in head
        assert f"\r\nContent-Length: {len(body)}\r\n".encode() in head
        problem = json.loads(body)
        assert (problem["type"], problem["retry_after"]) == ("urn:streamproc:problem:busy", 5)
        writer.close()
        first.close()
        await first.wait_closed()
        server = runner.server
        assert server is not None
        await eventually(lambda: asyncio.sleep(0, len(server.connections) < 2))
        async with ClientSession() as session, session.get(f"{site.name}/health") as response:
            assert response.status == 200
        second.close()
