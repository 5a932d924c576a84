"""Readings that are answered from their connection's callbacks: what aiohttp's own tasks would see to besides."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from streamproc.gateway.app import INGEST
from streamproc.gateway.direct import Direct, _Run
from streamproc.settings import Settings
from tests.shell.served import PACKETS, MemoryPublisher, Served, application, packet

SOON_S = 60
BODY = packet(1)
HEAD = "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%s\r\n"
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def post(body: bytes = BODY, more: str = "", path: str = PACKETS) -> bytes:
    """Make a request; `more` are further lines of its head."""
    return (HEAD % (path, len(body), more)).encode() + body


POST = post()


class Gateway(Served):
    """A gateway over a Kafka in memory, which is told when it may acknowledge."""

    def __init__(self, publisher: MemoryPublisher, **given: Any) -> None:
        settings = Settings.model_validate({"gateway_port": 0, **given})
        super().__init__(application(settings, publisher), settings)
        self.publisher = publisher

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Pair]:
        """Open a connection that has been answered once."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(POST)
            assert await answer(reader) == 202
            self.publisher.reached.clear()
            yield reader, writer
        finally:
            writer.close()

    async def reached(self) -> None:
        """Wait until Kafka is asked to take a request's records."""
        await asyncio.wait_for(self.publisher.reached.wait(), SOON_S)
        self.publisher.reached.clear()

    @property
    def under_way(self) -> int:
        """Requests that are counted as waiting for Kafka."""
        return self.app[INGEST].load.requests


@pytest.fixture
async def gateway(publisher: MemoryPublisher) -> AsyncIterator[Gateway]:
    """Serve a gateway."""
    async with Gateway(publisher) as served:
        yield served


async def answer(reader: asyncio.StreamReader) -> int:
    """Read an answer, and give its status."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), SOON_S)
    length = re.search(rb"(?i)content-length: (\d+)", head)
    assert length is not None
    await reader.readexactly(int(length.group(1)))
    return int(head.split()[1])


async def ended(reader: asyncio.StreamReader) -> bool:
    """Wait for the connection's end; whether nothing more was sent before."""
    return await asyncio.wait_for(reader.read(), SOON_S) == b""


async def until(true: Callable[[], object]) -> None:
    """Wait for what nothing tells of."""
    async with asyncio.timeout(SOON_S):
        while not true():  # noqa: ASYNC110  # see above
            await asyncio.sleep(0.01)


async def test_no_task_is_made_for_readings(gateway: Gateway) -> None:
    """What comes whole is carried on without one; what comes in pieces has its own, which may wait."""
    async with gateway.connect() as (reader, writer):
        before = asyncio.all_tasks()
        gateway.publisher.gate.clear()
        for pieces, tasks in (([POST], 0), ([POST[:-1], POST[-1:]], 1)):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            await gateway.reached()
            assert len(asyncio.all_tasks() - before) <= tasks
            gateway.publisher.gate.set()
            assert await answer(reader) == 202
            gateway.publisher.gate.clear()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (post(b"{"), 400),
        (post(b'{"device_uuid":"d","readings":[]}'), 422),
        (post(more="Content-Type: text/xml\r\n"), 415),
        (post(path=f"{PACKETS}?x=1"), 202),
        (post(path="/ingest/nothing"), 404),
        (post(more="Content-Encoding: identity\r\n"), 202),
        (post(more="Expect: 100-continue-not\r\n"), 202),
        (
            POST.replace(b"HTTP/1.1", b"HTTP/1.0").replace(
                b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n"
            ),
            202,
        ),
        (b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", 200),
    ],
)
async def test_each_answer_leaves_room_for_the_next(gateway: Gateway, sent: bytes, status: int) -> None:
    """Whichever way a request goes, and whatever it is answered, readings that follow are taken."""
    async with gateway.connect() as (reader, writer):
        for each, expected in ((sent, status), (POST, 202), (sent, status)):
            writer.write(each)
            assert await answer(reader) == expected
    assert gateway.under_way == 0


async def test_requests_that_do_not_wait_for_answers(gateway: Gateway) -> None:
    """What is sent before the answer to the request before is answered in its order, behind it."""
    async with gateway.connect() as (reader, writer):
        gateway.publisher.gate.clear()
        writer.write(POST)
        await gateway.reached()
        writer.write(post(b"{") + POST + b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" + POST)
        await writer.drain()
        gateway.publisher.gate.set()
        assert [await answer(reader) for _ in range(5)] == [202, 400, 202, 200, 202]
        writer.write(POST)
        assert await answer(reader) == 202


async def test_more_requests_than_are_read_ahead(gateway: Gateway) -> None:
    """A client that sends hundreds while the first one waits gets all its answers."""
    async with gateway.connect() as (reader, writer):
        gateway.publisher.gate.clear()
        writer.write(POST)
        await gateway.reached()
        writer.write(POST * 300)
        gateway.publisher.gate.set()
        assert [await answer(reader) for _ in range(301)] == [202] * 301


async def test_connection_close(gateway: Gateway) -> None:
    """Who asks for the connection's end has it, behind the answer."""
    async with gateway.connect() as (reader, writer):
        writer.write(post(more="Connection: close\r\n"))
        assert await answer(reader) == 202
        assert await ended(reader)
    await until(lambda: not _connections(gateway))
    assert gateway.under_way == 0


async def test_an_idle_connection_ends(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time for the next request counts from the last answer, and not while one is under way."""
    seen: list[float] = []
    monkeypatch.setattr(Direct, "_keep_open", _keeping(Direct._keep_open, seen))
    async with gateway.connect() as (reader, writer):
        gateway.publisher.gate.clear()
        writer.write(POST)
        await gateway.reached()
        [connection] = _connections(gateway)
        connection._keepalive_timeout = 0.05
        assert connection._keepalive_handle is not None
        connection._keepalive_handle.cancel()
        connection._next_keepalive_close_time = 0.0
        connection._process_keepalive()  # as its timer would, amid the request
        gateway.publisher.gate.set()
        assert await answer(reader) == 202
        assert await ended(reader)
        assert asyncio.get_running_loop().time() >= seen[-1] + 0.05


def _keeping(kept: Any, seen: list[float]) -> Any:
    """Note when the time for the next request begins."""

    def keep_open(connection: Direct) -> None:
        seen.append(connection._loop.time())
        kept(connection)

    return keep_open


def _connections(gateway: Gateway) -> list[Direct]:
    assert gateway.runner is not None
    assert gateway.runner.server is not None
    return [each for each in gateway.runner.server.connections if isinstance(each, Direct)]


async def test_a_client_that_leaves(gateway: Gateway) -> None:
    """Its readings are taken all the same, and nothing is left of it."""
    async with gateway.connect() as (_, writer):
        gateway.publisher.gate.clear()
        before = len(gateway.publisher.sent)
        writer.write(POST)
        await gateway.reached()
        assert gateway.under_way == 1
        own: socket.socket = writer.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # it ends with a reset
        [connection] = _connections(gateway)
        writer.transport.abort()
        await until(lambda: connection.transport is None)
        gateway.publisher.gate.set()
        await until(lambda: not _connections(gateway))
        assert gateway.under_way == 0
        assert len(gateway.publisher.sent) == before + 1


async def test_the_end_waits_for_an_answer(gateway: Gateway) -> None:
    """A gateway that stops answers what is under way, and closes the connection behind it."""
    async with gateway.connect() as (reader, writer):
        gateway.publisher.gate.clear()
        writer.write(POST)
        await gateway.reached()
        closing = asyncio.create_task(gateway.close())
        await until(lambda: _connections(gateway)[0]._handler_waiter)
        gateway.publisher.gate.set()
        assert await answer(reader) == 202
        assert await ended(reader)
        await asyncio.wait_for(closing, SOON_S)
        assert gateway.under_way == 0


async def test_the_end_does_not_wait_for_ever(publisher: MemoryPublisher) -> None:
    """Where Kafka does not acknowledge, the request ends with the gateway, and gives back what it held."""
    gateway = Gateway(publisher)
    gateway.shutdown_timeout = 0.05
    async with gateway, gateway.connect() as (reader, writer):
        publisher.gate.clear()
        writer.write(POST)
        await gateway.reached()
        await asyncio.wait_for(gateway.close(), SOON_S)
        assert gateway.under_way == 0
        assert await ended(reader)
        publisher.gate.set()
        await asyncio.sleep(0)  # what it waited for is done, and carries nothing on


async def test_what_fails_unforeseen_is_a_500(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is logged and told; the connection stays, as the body has been read."""

    async def fail(*_: object) -> None:
        raise ZeroDivisionError

    async with gateway.connect() as (reader, writer):
        with monkeypatch.context() as patched:
            patched.setattr(gateway.publisher, "send", fail)
            writer.write(POST)
            assert await answer(reader) == 500
        writer.write(POST)
        assert await answer(reader) == 202


async def test_a_coroutine_is_carried_on() -> None:
    """Over a turn of the loop, a future's result and a future's failure, to its end; stopped, it goes no further."""
    loop, told = asyncio.get_running_loop(), list[object]()
    given, failing, never = loop.create_future(), loop.create_future(), loop.create_future()

    async def work() -> None:
        try:
            told.append("begun")
            await asyncio.sleep(0)
            told.append(await given)
            with pytest.raises(ZeroDivisionError):
                await failing
            told.append("failed")
            await never
        finally:
            told.append("over")

    run = _Run(work(), loop)
    run.go_on()
    assert told == ["begun"]
    given.set_result(1)
    failing.set_exception(ZeroDivisionError())
    await until(lambda: len(told) == 3)
    run.stop()
    assert told == ["begun", 1, "failed", "over"]
    never.set_result(None)
    await asyncio.sleep(0)
    assert told[-1] == "over"


async def test_a_coroutine_that_is_cancelled_ends() -> None:
    """Where what it waits for is, as a task's would."""
    future = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def work() -> None:
        try:
            await future
        finally:
            over.set()

    _Run(work(), asyncio.get_running_loop()).go_on()
    future.cancel()
    await asyncio.wait_for(over.wait(), SOON_S)


async def test_other_servers_connections_know_no_short_way() -> None:
    """A connection of a server that has none leaves all to aiohttp."""

    async def read(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    app = web.Application()
    app.router.add_post(PACKETS, read)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    server, loop = runner.server, asyncio.get_running_loop()
    assert server is not None
    listening = await loop.create_server(lambda: Direct(server, loop=loop), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
    writer.write(POST + POST)
    assert [await answer(reader), await answer(reader)] == [200, 200]
    writer.close()
    listening.close()
    await runner.cleanup()
