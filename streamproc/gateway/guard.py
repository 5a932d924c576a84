"""Answers and counts every request, whatever becomes of it; readings take a short way.

aiohttp's router, middlewares and responses cost as much time as a packet's readings do, and three paths without cookies need
none of it. So a POST of readings goes straight to `ingest`; all other requests, and refusals, go through aiohttp.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from aiohttp import HttpVersion11, hdrs, web

from streamproc.gateway.bodies import ACCEPT_ENCODING, ACCEPT_POST
from streamproc.gateway.ingest import READS
from streamproc.gateway.problems import Problem, of_http
from streamproc.gateway.protocol import Receipt

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp.http import RawRequestMessage
    from aiohttp.typedefs import Handler, Middleware

    from streamproc.gateway.ingest import Ingest, Read
    from streamproc.gateway.metrics import Metrics

log = structlog.get_logger()


def guard(metrics: Metrics) -> Middleware:
    """Make the middleware that answers whatever is refused as a problem, and counts."""

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await _answered(request, handler(request))
        resource = request.match_info.route.resource
        metrics.requests.add(1, resource.canonical if resource else "other", response.status)
        return response

    return guarded


def take_short_way(runner: web.AppRunner, ingest: Ingest) -> None:
    """Have the runner's connections, which must be `protocol.Answering`, answer readings by the short way."""
    server = runner.server
    assert server is not None
    server.request_handler = ShortWay(server.request_handler, ingest)


class ShortWay:
    """Answers POSTs of readings; what else there is goes the long way."""

    def __init__(
        self, long_way: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], ingest: Ingest
    ) -> None:
        self._long_way = long_way
        self._ingest = ingest

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer the request."""
        assert isinstance(request, web.Request)
        headers = request.headers
        read = READS.get(request.rel_url.raw_path) if request.method == hdrs.METH_POST else None
        if (
            read is None
            or request.version != HttpVersion11
            or hdrs.EXPECT in headers
            or hdrs.UPGRADE in headers
        ):
            return await self._long_way(request)
        return await self.answer(request, read)

    @staticmethod
    def read_of(message: RawRequestMessage) -> Read | None:
        """How the body of a request that needs no task of its own is read; None where it may need one, as to inflate it."""
        headers = message.headers
        if (
            message.method != hdrs.METH_POST
            or message.version != HttpVersion11
            or hdrs.CONTENT_ENCODING in headers
            or hdrs.EXPECT in headers
            or hdrs.UPGRADE in headers
        ):
            return None
        return READS.get(message.path)

    async def answer(self, request: web.Request, read: Read) -> web.StreamResponse:
        """Answer readings."""
        response = await _answered(request, _receipt(request, self._ingest, read))
        self._ingest.metrics.requests.add(1, request.rel_url.raw_path, response.status)
        return response


async def _receipt(request: web.Request, ingest: Ingest, read: Read) -> web.StreamResponse:
    return Receipt(*await ingest.take(request, read))


async def _answered(request: web.Request, answer: Awaitable[web.StreamResponse]) -> web.StreamResponse:
    """The answer, or what is told in its place; the connection ends with it where some of the body has not been read."""
    try:
        response = await answer
    except ConnectionError:
        raise  # the client is gone: there is nobody to answer
    except Exception as error:  # noqa: BLE001  # the task's edge: each kind has its answer
        response = _refusal(request, error)
    if not request.content.is_eof():
        response.force_close()
    return response


def _refusal(request: web.Request, error: Exception) -> web.Response:
    """The answer to a request that raised this."""
    if isinstance(error, Problem):
        return error.response()
    if isinstance(error, web.HTTPMethodNotAllowed) and request.method == hdrs.METH_OPTIONS:
        return _options(error)
    if isinstance(error, web.HTTPException):
        return of_http(error).response()
    log.error("request_failed", path=request.path, exc_info=error)  # what a client can send never gets here
    return Problem("internal", "see the gateway's log").response()


def _options(error: web.HTTPMethodNotAllowed) -> web.Response:
    """Tell what may be sent here, to who asks."""
    methods = {*error.allowed_methods, hdrs.METH_OPTIONS}
    headers: dict[str, str] = {"Allow": ", ".join(sorted(methods))}
    if hdrs.METH_POST in methods:
        headers |= ACCEPT_POST | ACCEPT_ENCODING
    return web.Response(status=204, headers=headers)
