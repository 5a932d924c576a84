"""What the gateway does with a body that comes on after its request was refused."""

from __future__ import annotations

import asyncio
import logging

import pytest
from aiohttp import StreamReader

from streamproc.gateway import connections, load
from streamproc.settings.access import Window
from tests.shell.served import Pair
from tests.shell.test_connections import SOON_S, connect, listening, rest

#: They wait for what comes over a connection: seconds in all.
pytestmark = pytest.mark.live


async def refused(pair: Pair, sent: bytes) -> None:
    """Begin a body of 50 bytes without a key, and see that it is refused."""
    reader, writer = pair
    writer.write(b"POST /ingest/packets HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n" + sent)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), SOON_S)
    assert head.startswith(b"HTTP/1.1 401 ")


async def test_fragments_are_dropped_in_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is awaited for each byte, and the end is seen at once."""
    monkeypatch.setattr(load, "_LINGER_SECONDS", 1_000.0)
    steps, whole = 0, StreamReader.readany

    async def counted(reader: StreamReader) -> bytes:
        nonlocal steps
        steps += 1
        return await whole(reader)

    monkeypatch.setattr(StreamReader, "readany", counted)
    async with listening(ingest_api_key="good") as (url, _), connect(url) as (reader, writer):
        await refused((reader, writer), b"")
        for _ in range(50):
            writer.write(b" ")
            await writer.drain()
        await rest(reader)
    assert steps <= 3


async def test_a_body_that_does_not_end_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """Its sender closes its side amid it: the connection ends, and nobody is to look into the gateway's log."""
    async with listening(ingest_api_key="good") as (url, _), connect(url) as (reader, writer):
        await refused((reader, writer), b"{")
        writer.write_eof()
        await rest(reader)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_whoever_does_not_end_a_body_is_ended_and_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer was there to read; an address that does so again and again is read from later."""
    monkeypatch.setattr(load, "_LINGER_SECONDS", 0.1)
    monkeypatch.setattr(connections, "_FAULTS", Window(1, 1_000))
    async with listening(ingest_api_key="good") as (url, counted):
        for delayed in (0, 1):
            async with connect(url) as (reader, writer):
                await refused((reader, writer), b"{")
                await rest(reader)
            assert counted.get_sample_value("streamproc_gateway_connections_delayed_total") == delayed
