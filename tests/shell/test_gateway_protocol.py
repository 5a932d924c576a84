"""What is asked and answered before a body is: who sends it, and where aiohttp itself refuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from streamproc.gateway.access import Writer
from streamproc.gateway.answers import Fault, ProblemDetails
from streamproc.gateway.problems import Problem
from streamproc.gateway.protocol import Answering
from streamproc.settings import Settings
from tests.shell.served import CALLERS, PACKETS, MemoryPublisher, Served, application, problem


@asynccontextmanager
async def answering() -> AsyncIterator[int]:
    """Serve a gateway over connections of ours; gives the port."""
    runner = web.AppRunner(application(Settings.model_validate({}), MemoryPublisher()), access_log=None)
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
    ],
)
async def test_what_is_no_http_is_a_problem(sent: bytes) -> None:
    """It gets 400 with the reason, and the connection ends."""
    assert await refused(sent) == (400, "bad-request")


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % (b"x" * 5_000), (414, "url-too-long")),
        (b"GET /%s" % (b"x" * 5_000), (414, "url-too-long")),
        (b"GET /health HTTP/1.1\r\nX: %s\r\n\r\n" % (b"x" * 9_000), (431, "head-too-large")),
        (b"GET /health HTTP/1.1\r\n%s: x\r\n\r\n" % (b"X" * 9_000), (431, "head-too-large")),
        (b"GET /health HTTP/1.1\r\n" + b"X: 1\r\n" * 129 + b"\r\n", (431, "head-too-large")),
    ],
    ids=["url", "url-open", "value", "name", "number"],
)
async def test_a_head_beyond_its_bounds_is_told_which(sent: bytes, answered: tuple[int, str]) -> None:
    """A URL that is too long is 414, a header or their number 431, and the connection ends."""
    assert await refused(sent) == answered


async def refused(sent: bytes) -> tuple[int, str]:
    """Send this and read to the end: status and kind of the problem that is the answer."""
    async with answering() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        answer = await asyncio.wait_for(reader.read(), 60)
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Content-Type: application/problem+json" in head
    told = msgspec.json.decode(body, type=ProblemDetails)
    assert int(head.split()[1]) == told.status
    assert told.detail
    assert "\n" not in told.detail
    return told.status, told.type.removeprefix("urn:streamproc:problem:")


class Chosen:
    """Lets in only device `d` with sensor `a`, and nobody without a name."""

    callers = CALLERS

    def admit(self, request: web.Request) -> Writer:
        """Give what refuses other devices and sensors."""
        if "X-Name" not in request.headers:
            raise Problem("key-missing", "say your name")
        return Writer(self.refuses, self.refuses_device)

    def refuses_device(self, device: str | None) -> Fault | None:
        """Refuse other devices."""
        return None if device == "d" else Fault("key-wrong", "another's device")

    def refuses(self, device: str | None, sensor: str) -> Fault | None:
        """Refuse other sensors."""
        assert device == "d"
        return None if sensor == "a" else Fault("invalid", "another's sensor")


async def test_access_is_asked_of_head_device_and_sensor(publisher: MemoryPublisher) -> None:
    """Who may write is asked of the head, of each packet's device, and of each reading's sensor."""
    app = application(Settings.model_validate({}), publisher, Chosen())
    one = '{"device_uuid": "%s", "readings": [{"sensor_uuid": "%s", "value": 1}]}'
    async with TestClient(Served(app)) as client:
        await problem(await client.post(PACKETS, data=one % ("d", "a")), 401, "key-missing")
        named = {"X-Name": "me"}
        foreign = await client.post(PACKETS, data=one % ("e", "a"), headers=named)
        assert (await problem(foreign, 403, "key-wrong"))["field"] == "device_uuid"
        other = await client.post(PACKETS, data=one % ("d", "b"), headers=named)
        assert (await problem(other, 422, "invalid"))["field"] == "readings[0].sensor_uuid"
        assert (await client.post(PACKETS, data=one % ("d", "a"), headers=named)).status == 202
    assert len(publisher.sent) == 1
