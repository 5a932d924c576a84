"""Answers readings from the connection's callbacks, without the tasks that aiohttp makes for a request.

For each request aiohttp wakes the connection's task, which starts another one for the handler, waits for it, and then waits
for the next request: four turns of the event loop, though only two things happen, the body arrives and Kafka acknowledges.
So the handler of readings that arrived whole runs from these two callbacks, and aiohttp's task sleeps on. Everything else
wakes it: other requests, bodies that are not complete, and requests sent before the last one was answered.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.http import RawRequestMessage, StreamWriter

from streamproc.gateway.guard import ShortWay
from streamproc.gateway.protocol import Answering

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from aiohttp import StreamReader
    from aiohttp.web_server import Server

    from streamproc.gateway.ingest import Read


class Direct(Answering):
    """A connection that answers readings by itself."""

    __slots__ = ("_resting", "_run", "_short_way")

    def __init__(self, server: Server, **options: Any) -> None:
        super().__init__(server, **options)
        handler = server.request_handler
        self._short_way = handler if isinstance(handler, ShortWay) else None
        #: The handler of the request that is under way here, and what aiohttp's task waits for meanwhile.
        self._run: _Run | None = None
        self._resting: asyncio.Future[None] | None = None

    def data_received(self, data: bytes) -> None:
        """Take what has come, and see to the request that is whole with it."""
        self.receive(data)
        self.see_to_request()

    def receive(self, data: bytes) -> None:
        """Understand what has come, and wake nobody for it."""
        waiter, self._waiter = self._waiter, None
        try:
            super().data_received(data)
        finally:
            self._waiter = waiter

    def see_to_request(self) -> None:
        """Begin to answer the request that has come, or have aiohttp's task do so; nothing where another is under way."""
        waiter = self._waiter
        if not self._messages or waiter is None or waiter.done():
            return
        message, payload = self._messages[0]
        if (
            len(self._messages) == 1
            and payload.is_eof()
            and not self._buffer_paused
            and self._short_way is not None
            and isinstance(message, RawRequestMessage)
            and (read := self._short_way.read_of(message)) is not None
        ):
            self._begin(message, payload, read)
        else:
            waiter.set_result(None)

    def _begin(self, message: RawRequestMessage, payload: StreamReader, read: Read) -> None:
        """Answer this request, as aiohttp's task would begin to."""
        self._messages.popleft()
        assert self._parser is not None
        assert self._manager is not None
        assert self._request_factory is not None
        assert self._task_handler is not None
        self._parser.message_consumed()
        self._manager.requests_count += 1
        self._waiter, self._resting = None, self._waiter
        self._request_in_progress = True
        writer = StreamWriter(self, self._loop)
        request = self._request_factory(message, payload, self, writer, self._task_handler)
        assert isinstance(request, web.Request)
        self._run = _Run(self._answer(request, read), self._loop)
        self._run.go_on()

    async def _answer(self, request: web.Request, read: Read) -> None:
        stays = False
        try:
            assert self._short_way is not None
            response = await self._short_way.answer(request, read)
            _, gone = await self.finish_response(request, response, None)
            stays = bool(response.keep_alive) and not gone
        except ConnectionError:
            pass  # the client is gone: there is nobody to answer
        finally:
            self._end(stays=stays)

    def _end(self, *, stays: bool) -> None:
        """Wait for the next request, or close, as aiohttp's task would behind an answer."""
        self._run = None
        self._request_in_progress = False
        if self._handler_waiter is not None and not self._handler_waiter.done():
            self._handler_waiter.set_result(None)  # aiohttp's shutdown waits for the answer
        waiter, self._resting = self._resting, None
        assert waiter is not None
        if not stays or self._close or self._force_close:
            waiter.cancel()
            if self.transport is not None:
                self.transport.close()
            return
        self._keep_open()
        self._waiter = waiter
        if self._messages and not waiter.done():
            waiter.set_result(None)

    def _keep_open(self) -> None:
        """Give the next request its time to come."""
        self._keepalive = True
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(
                self._next_keepalive_close_time, self._process_keepalive
            )

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109  # aiohttp's
        """End, with the request that is under way where it takes longer than that."""
        await super().shutdown(timeout)
        if self._run is not None:
            self._run.stop()


class _Run:
    """A coroutine that is carried on where what it waits for is done: a task that begins at once, and whose end wakes nobody.

    It has no `asyncio.current_task()`: what asks for that, as `asyncio.timeout` does, is not for it.
    """

    __slots__ = ("_coroutine", "_loop", "_over")

    def __init__(self, coroutine: Coroutine[asyncio.Future[Any] | None, None, None], loop: Any) -> None:
        self._coroutine = coroutine
        self._loop: asyncio.AbstractEventLoop = loop
        self._over = False

    def go_on(self, _done: asyncio.Future[Any] | None = None) -> None:
        """Carry it on to the next that it waits for, or to its end."""
        if self._over:
            return
        try:
            awaited = self._coroutine.send(None)
        except (StopIteration, asyncio.CancelledError):
            self._over = True
        else:
            if awaited is None:  # asyncio.sleep(0)
                self._loop.call_soon(self.go_on)
            else:
                awaited._asyncio_future_blocking = False  # seen, as a task sees it  # noqa: SLF001
                awaited.add_done_callback(self.go_on)

    def stop(self) -> None:
        """End it where it waits."""
        self._over = True
        self._coroutine.close()
