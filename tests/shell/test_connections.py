"""What the gateway bounds of its connections, with sockets that send what no client library would."""

from __future__ import annotations

import asyncio
import re
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
from aiohttp import ClientSession
from prometheus_client import CollectorRegistry

from streamproc.errors import GatewayError
from streamproc.gateway import connections, load
from streamproc.gateway.listener import _file_limit
from streamproc.settings import Settings
from streamproc.settings.access import Window
from tests.shell.served import MemoryPublisher, Pair, Served, application, connected
from tests.shell.test_access import packet

#: They start programs, or wait: seconds in all.
pytestmark = pytest.mark.live

SOON_S = 60
#: What a head or a body may take where those that are whole have to come in time: a busy machine stands still for a second.
HEAD_S = 2.0
#: A head that lacks its end.
OPEN_HEAD = b"GET /health HTTP/1.1\r\nHost: x\r\n"
WHOLE = OPEN_HEAD + b"\r\n"


@asynccontextmanager
async def listening(
    publisher: MemoryPublisher | None = None, **given: Any
) -> AsyncIterator[tuple[str, CollectorRegistry]]:
    """Serve a gateway with these settings on any free port; give its URL and what its connections count."""
    settings = Settings.model_validate({"gateway_port": 0, **given})
    async with Served(application(settings, publisher or MemoryPublisher()), settings) as served:
        yield served.url, served.counted


def connect(url: str) -> AbstractAsyncContextManager[Pair]:
    """Open a bare connection."""
    return connected(int(url.rpartition(":")[2]))


async def rest(reader: asyncio.StreamReader) -> bytes:
    """Read until the gateway closes."""
    return await asyncio.wait_for(reader.read(), SOON_S)


async def ask(pair: Pair) -> bytes:
    """Send a request, and give the head of its answer."""
    reader, writer = pair
    writer.write(WHOLE)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), SOON_S)
    length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    await reader.readexactly(int(length.split()[1]))
    return head


@pytest.mark.parametrize("sent", [b"", b"G", OPEN_HEAD])
async def test_a_head_that_does_not_end(sent: bytes) -> None:
    """A head has its time: then it is 408, as a problem, and the end."""
    async with listening(body_timeout_seconds=0.2) as (url, counted), connect(url) as (reader, writer):
        writer.write(sent)
        answer = await rest(reader)
        last = answer[answer.rindex(b"HTTP/1.1") :]
        assert last.startswith(b"HTTP/1.1 408 ")
        assert b'"type":"urn:streamproc:problem:slow-head"' in last
        assert refused(counted, "slow-head") == 1


def refused(counted: CollectorRegistry, reason: str) -> float | None:
    """Tell how many connections were ended for this reason."""
    return counted.get_sample_value("streamproc_gateway_connections_refused_total", {"reason": reason})


async def test_who_keeps_sending_no_requests_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a few failures each new connection of the address is read from later; it is answered all the same."""
    monkeypatch.setattr(connections, "_FAULTS", Window(3, 1_000))
    async with listening() as (url, counted):
        for _ in range(3):
            async with connect(url) as (reader, writer):
                writer.write(b"POST /ingest/packets HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
                writer.write_eof()
                assert (await rest(reader)).startswith(b"HTTP/1.1 400 ")
        assert not counted.get_sample_value("streamproc_gateway_connections_delayed_total")
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with connect(url) as pair:
            assert (await ask(pair)).startswith(b"HTTP/1.1 200 ")
            assert loop.time() - began >= 1
            assert (await ask(pair)).startswith(b"HTTP/1.1 200 ")
        assert counted.get_sample_value("streamproc_gateway_connections_delayed_total") == 1


async def test_a_body_in_fragments_is_taken_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are gathered for a while, but what is whole does not wait."""
    monkeypatch.setattr(load, "_FRAGMENTS_SECONDS", 1_000.0)
    body = packet()
    async with listening(body_timeout_seconds=100) as (url, _), connect(url) as (reader, writer):
        writer.write(b"POST /ingest/packets HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body))
        for byte in body:
            writer.write(bytes([byte]))
            await writer.drain()
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), SOON_S)
        assert head.startswith(b"HTTP/1.1 202 ")


async def test_a_later_head_that_does_not_end() -> None:
    """One that begins after an answer has its time as well."""
    async with listening(body_timeout_seconds=HEAD_S) as (url, _), connect(url) as (reader, writer):
        await ask((reader, writer))
        writer.write(OPEN_HEAD)
        assert (await rest(reader)).startswith(b"HTTP/1.1 408 ")


async def test_a_head_that_dribbles() -> None:
    """A byte now and then does not make the time longer."""
    async with listening(body_timeout_seconds=0.3) as (url, _), connect(url) as (reader, writer):
        # Its first line: a byte on its way when the connection ends is met with a reset.
        answer = asyncio.create_task(asyncio.wait_for(reader.readline(), SOON_S))
        for byte in OPEN_HEAD * 100:
            writer.write(bytes([byte]))
            done, _ = await asyncio.wait([answer], timeout=0.02)
            if done:
                break
        assert (await answer).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("behind", [b"", b"\r\n"])
async def test_a_connection_at_rest_stays(behind: bytes) -> None:
    """Between two requests a connection may rest for longer than a head may take; an end of line begins none."""
    async with listening(body_timeout_seconds=HEAD_S) as (url, _), connect(url) as pair:
        assert (await ask(pair)).startswith(b"HTTP/1.1 200")
        pair[1].write(behind)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pair[0].read(1), 1.5 * HEAD_S)
        assert (await ask(pair)).startswith(b"HTTP/1.1 200")


async def test_a_body_may_take_its_own_time() -> None:
    """The head's time ends with the head: a body and an answer that take longer are not cut off by it."""
    publisher = MemoryPublisher()
    publisher.gate.clear()
    async with listening(publisher, body_timeout_seconds=2 * HEAD_S) as (url, _), connect(url) as pair:
        reader, writer = pair
        body = packet()
        writer.write(b"POST /ingest/packets HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body))
        answer = asyncio.create_task(reader.readline())
        await asyncio.wait([answer], timeout=HEAD_S)  # half of what the body may take
        writer.write(body)
        await asyncio.wait_for(publisher.reached.wait(), SOON_S)
        await asyncio.wait([answer], timeout=1.5 * HEAD_S)
        publisher.gate.set()
        assert (await asyncio.wait_for(answer, SOON_S)).startswith(b"HTTP/1.1 202 ")


@pytest.mark.parametrize("lines", [b"X-%d: " + b"y" * 4_000 + b"\r\n", b"X-%d: " + b"y" * 100 + b"\r\n"])
async def test_a_flood_of_headers(lines: bytes) -> None:
    """A head that does not end is refused at 16 KiB, or by its number of lines, not at a megabyte."""
    async with listening() as (url, _), connect(url) as (reader, writer):
        writer.write(OPEN_HEAD)
        sent = 0
        answer = asyncio.create_task(rest(reader))
        with suppress(ConnectionError):
            while not answer.done() and sent < 10_000_000:
                writer.write(lines % sent)
                sent += len(lines)
                await writer.drain()
                await asyncio.wait([answer], timeout=0.001)
        told = b""
        with suppress(ConnectionError):
            told = await answer
        assert sent < 4_000_000
        assert not told or told[8:13] in {b" 431 ", b" 400 "}


async def test_connections_of_one_address_are_bounded() -> None:
    """One too many is told so and closed; when another of them ends, there is room."""
    async with listening(connection_limit_ip=2) as (url, counted), AsyncExitStack() as stack:
        pairs = [await stack.enter_async_context(connect(url)) for _ in range(2)]
        for pair in pairs:
            await ask(pair)
        async with connect(url) as (reader, _):
            answer = await rest(reader)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 1" in answer
        assert refused(counted, "connection_limit_ip") == 1
        pairs[0][1].close()
        async with asyncio.timeout(SOON_S):
            while True:
                with suppress(ConnectionError, asyncio.IncompleteReadError, StopIteration):
                    async with connect(url) as pair:
                        if (await ask(pair)).startswith(b"HTTP/1.1 200"):
                            break


async def test_a_proxy_may_have_more() -> None:
    """Many clients come from a proxy's address."""
    given: dict[str, Any] = {"connection_limit_ip": 1, "trusted_proxies": "127.0.0.0/8"}
    async with listening(**given) as (url, _), AsyncExitStack() as stack:
        for _ in range(3):
            await ask(await stack.enter_async_context(connect(url)))


async def test_the_idlest_connection_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no room, the one that has been idle for longest goes, not one that works, nor the newcomer."""
    monkeypatch.setattr(connections, "_IDLE_SECONDS", 0.0)
    publisher = MemoryPublisher()
    publisher.gate.clear()
    body = packet()
    async with listening(publisher, connection_limit=3) as (url, counted), AsyncExitStack() as stack:
        pairs = [await stack.enter_async_context(connect(url)) for _ in range(3)]
        works, first, second = pairs
        works[1].write(
            b"POST /ingest/packets HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        await asyncio.wait_for(publisher.reached.wait(), SOON_S)
        for pair in (second, first):
            await ask(pair)
        new = await stack.enter_async_context(connect(url))
        assert (await ask(new)).startswith(b"HTTP/1.1 200")
        assert await rest(second[0]) == b""
        publisher.gate.set()
        assert (await asyncio.wait_for(works[0].readline(), SOON_S)).startswith(b"HTTP/1.1 202")
        assert (await ask(first)).startswith(b"HTTP/1.1 200")
        assert refused(counted, "made_room") == 1


async def test_no_room_while_all_work() -> None:
    """Where none is idle, the newcomer is told to come again."""
    async with listening(connection_limit=1) as (url, counted), connect(url) as pair:
        await ask(pair)
        async with connect(url) as (reader, _):
            assert (await rest(reader)).startswith(b"HTTP/1.1 503 ")
        assert refused(counted, "connection_limit") == 1
        assert counted.get_sample_value("streamproc_gateway_connections") == 1


async def test_half_closed_after_the_request() -> None:
    """A client that has sent all and closed its side (`nc -N`) gets its answer; amid its body, the reason why not."""
    publisher = MemoryPublisher()
    publisher.gate.clear()
    body = packet()
    head = b"POST /ingest/packets HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with listening(publisher) as (url, _):
        async with connect(url) as (reader, writer):
            writer.write(head + body)
            writer.write_eof()
            await asyncio.wait_for(publisher.reached.wait(), SOON_S)
            publisher.gate.set()
            answer = await rest(reader)
            assert answer.startswith(b"HTTP/1.1 202 ")
        async with connect(url) as (reader, writer):
            writer.write(head + body[:-1])
            writer.write_eof()
            answer = await rest(reader)
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert b"problem:framing" in answer
        async with connect(url) as (reader, writer):
            writer.write(WHOLE)
            writer.write_eof()
            assert (await rest(reader)).startswith(b"HTTP/1.1 200")
        async with connect(url) as (reader, writer):
            writer.write(OPEN_HEAD)
            writer.write_eof()
            assert await rest(reader) == b""
    assert len(publisher.sent) == 1


async def test_half_closed_after_several_requests() -> None:
    """All that are whole are answered, in their order, and then the connection ends."""
    publisher = MemoryPublisher()
    publisher.gate.clear()
    post = b"POST /ingest/packets HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
    one = post % (len(packet()), packet())
    async with listening(publisher) as (url, _):
        async with connect(url) as (reader, writer):
            writer.write(one + WHOLE + one + post % (1_000, b"{"))
            writer.write_eof()
            await asyncio.wait_for(publisher.reached.wait(), SOON_S)
            publisher.gate.set()
            told = re.findall(rb"HTTP/1\.1 (\d+) ", await rest(reader))
        assert told == [b"202", b"200", b"202", b"400"]
        async with connect(url) as (reader, writer):
            writer.write(one + OPEN_HEAD)
            writer.write_eof()
            assert re.findall(rb"HTTP/1\.1 (\d+) ", await rest(reader)) == [b"202"]
    assert len(publisher.sent) == 3


async def test_half_closed_amid_an_admins_body() -> None:
    """The client is told so; it is no failure of the gateway."""
    key = "a" * 16
    head = f"PUT /admin/sensors/s HTTP/1.1\r\nHost: x\r\nX-Admin-Key: {key}\r\nContent-Length: 9\r\n\r\n"
    async with listening(admin_api_key=key) as (url, _), connect(url) as (reader, writer):
        writer.write(head.encode() + b"{")
        writer.write_eof()
        answer = await rest(reader)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"problem:framing" in answer


@pytest.mark.live
async def test_an_answer_that_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends requests and reads nothing is cut off."""
    monkeypatch.setattr(connections, "UNREAD_SECONDS", 0.2)
    async with listening() as (url, counted):
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as mute:
            mute.setblocking(False)
            loop = asyncio.get_running_loop()
            with suppress(ConnectionError):
                async with asyncio.timeout(SOON_S):
                    while not refused(counted, "unread"):
                        with suppress(TimeoutError):
                            async with asyncio.timeout(0.05):
                                await loop.sock_sendall(
                                    mute, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 50
                                )
        assert refused(counted, "unread") == 1
        async with ClientSession() as client, client.get(url + "/health") as response:
            assert response.status == 200


async def test_an_address_that_is_taken() -> None:
    """It is told which setting to change."""
    async with listening() as (url, _):
        with pytest.raises(GatewayError, match="set GATEWAY_PORT"):
            async with listening(gateway_port=int(url.rpartition(":")[2])):
                pass
        with pytest.raises(GatewayError, match="cannot listen on"):
            async with listening(gateway_host="203.0.113.1"):
                pass


def test_files_bound_connections() -> None:
    """There are never more connections than files that the process may have, less some for the rest."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert _file_limit(1) == 1
    if hard != resource.RLIM_INFINITY:
        assert _file_limit(10 * hard) == hard - 256
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("last", [b"", b"Connection: close\r\n"])
async def test_the_short_way_answers_as_the_long_one(last: bytes) -> None:
    """Readings do not go through aiohttp's responses; who reads the answer cannot tell."""
    told = []
    for expect in (b"", b"Expect: nothing\r\n"):  # whatever is expected goes the long way
        async with listening(auto_register=True) as (url, _), connect(url) as (reader, writer):
            body = packet("d", "s")
            head = b"POST /ingest/packets HTTP/1.1\r\nHost: x\r\n" + expect + last
            writer.write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            answer = await asyncio.wait_for(reader.readuntil(b"}]}"), SOON_S)
            head, _, json = answer.partition(b"\r\n\r\n")
            told.append((sorted(re.sub(rb"Date: .*", b"Date", line) for line in head.split(b"\r\n")), json))
            if last:
                assert await rest(reader) == b""
    assert told[0] == told[1]
    assert b"HTTP/1.1 202 Accepted" in told[0][0]


async def test_many_may_wait_to_be_accepted() -> None:
    """A fleet that comes back while the gateway is busy with something else: none has to try again."""
    async with listening(connection_limit_ip=1_000) as (url, _), AsyncExitStack() as held:
        for _ in range(200):  # in one turn of the loop, so that none is accepted meanwhile
            held.enter_context(socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 0.9))
        async with connect(url) as pair:
            assert (await ask(pair)).startswith(b"HTTP/1.1 200")
