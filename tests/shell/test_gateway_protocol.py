"""What is answered where aiohttp itself refuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from aiohttp import web

from streamproc.gateway.answers import ProblemDetails
from streamproc.gateway.app import build
from streamproc.gateway.protocol import Answering
from streamproc.settings import Settings
from tests.shell.test_gateway import MemoryPublisher


@asynccontextmanager
async def answering() -> AsyncIterator[int]:
    """Serve a gateway over connections of ours; gives the port."""
    runner = web.AppRunner(build(Settings.model_validate({}), MemoryPublisher()), access_log=None)
    await runner.setup()
    server, loop = runner.server, asyncio.get_running_loop()
    assert server is not None
    options = server._kwargs
    listening = await loop.create_server(lambda: Answering(server, loop=loop, **options), "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        await runner.cleanup()


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01",
        b"HELO gateway\r\n\r\n",
        b"POST /ingest/packets HTTP/9.9\r\n\r\n",
        b"POST /ingest/packets HTTP/1.1\r\nno header\r\n\r\n",
        b"POST /ingest/packets HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST /ingest/packets HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /%s HTTP/1.1\r\nHost: x\r\n\r\n" % (b"x" * 5_000),
        b"POST /ingest/packets HTTP/1.1\r\nX: %s\r\n\r\n" % (b"x" * 9_000),
        b"POST /ingest/packets HTTP/1.1\r\n" + b"X: 1\r\n" * 129 + b"\r\n",
    ],
)
async def test_what_is_no_http_is_a_problem(sent: bytes) -> None:
    """It gets 400 with the reason, and the connection ends."""
    async with answering() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        answer = await asyncio.wait_for(reader.read(), 60)
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b" 400 " in head.partition(b"\r\n")[0]
    assert b"Content-Type: application/problem+json" in head
    told = msgspec.json.decode(body, type=ProblemDetails)
    assert (told.status, told.type) == (400, "urn:streamproc:problem:bad-request")
    assert told.detail
    assert "\n" not in told.detail
