"""Bounds how much the gateway holds at once, and reads bodies within that bound."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Self

from aiohttp import web

from streamproc.gateway.problems import Problem, unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from aiohttp import StreamReader


#: Of the bytes that may be held, what bodies of one address may have that are still on their way: who sends four of these
#: slowly needs four addresses to keep all others out. Whole bodies count for nobody: they go on to Kafka at once.
ARRIVING_SHARE = 0.25


#: What comes of a body at a time is mostly a packet of the network's, or several; who sends less sends byte by byte.
_FRAGMENT_BYTES = 256
#: How long fragments are gathered; the end of a body is seen at once.
_FRAGMENTS_SECONDS = 0.5
#: How long the rest of a refused body is read and dropped at least, so that the client sees the answer. Three times as long
#: at most: 500 that came together and are ended together come again together, which takes as long as thousands of packets.
_LINGER_SECONDS = 1.0
_LINGER_SPREAD = 2.0
#: By how much a time may be longer that a client is given.
_SPREAD = 0.2


def spread(seconds: float, by: float = _SPREAD) -> float:
    """A time-out, somewhat longer by chance: 500 slow clients that came together are not all thrown out in one moment."""
    return seconds * (1 + by * random.random())  # noqa: S311  # no secret


def peer(request: web.Request) -> str:
    """The address of the connection, whoever is behind it."""
    return request.remote or "unknown"


class Load:
    """Bytes of bodies held, and requests that wait for Kafka; both bounded, so that memory is.

    `address_of` tells whose a request is: of the bytes that are still arriving one address has a share and no more.
    """

    def __init__(self, limit: int, limit_bytes: int, address_of: Callable[[web.Request], str] = peer) -> None:
        self.limit = limit
        self.limit_bytes = limit_bytes
        self.arriving_limit_bytes = int(limit_bytes * ARRIVING_SHARE)
        self.address_of = address_of
        self.requests = 0
        self.bytes = 0
        #: Of addresses whose bodies are on their way: how many bytes of them have come.
        self.arriving: Counter[str] = Counter()


class Share:
    """One request's part of the load, given back on leaving its `with`."""

    __slots__ = ("_bytes", "_load", "_requests")

    def __init__(self, load: Load) -> None:
        self._load = load
        self._bytes = 0
        self._requests = 0

    def take_bytes(self, count: int) -> None:
        """Hold `count` more bytes (or fewer, where negative), or raise the Problem that there are too many."""
        load = self._load
        if load.bytes + count > load.limit_bytes:
            raise unavailable("busy", "too many bytes are waiting for Kafka", limit="in_flight_limit_bytes")
        load.bytes += count
        self._bytes += count

    @contextmanager
    def arriving(self, request: web.Request) -> Iterator[Callable[[int], None]]:
        """Hold what comes of a slow body; gives what counts it, which raises the Problem of an address that has too many."""
        load, held = self._load, 0
        address = load.address_of(request)

        def count(more: int) -> None:
            nonlocal held
            # What one body may have, an address may have: else with a small limit nothing would get through.
            if load.arriving[address] - held and load.arriving[address] + more > load.arriving_limit_bytes:
                detail = "bodies of this address that are on their way hold too many bytes"
                raise unavailable("busy", detail, limit="in_flight_limit_bytes")
            self.take_bytes(more)
            load.arriving[address] += more
            held += more

        try:
            yield count
        finally:
            load.arriving[address] -= held
            if not load.arriving[address]:
                del load.arriving[address]

    def take_place(self) -> None:
        """Join those who wait for Kafka, or raise the Problem that there are too many."""
        load = self._load
        if load.requests >= load.limit:
            raise unavailable("busy", "too many requests are waiting for Kafka", limit="in_flight_limit")
        load.requests += 1
        self._requests += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._load.bytes -= self._bytes
        self._load.requests -= self._requests


def check_length(request: web.Request, limit_bytes: int) -> None:
    """Raise the Problem of a body that says it is too large, before any of it is read."""
    length = request.content_length
    if length is not None and length > limit_bytes:
        raise _too_large(limit_bytes)


async def read_body(request: web.Request, share: Share, limit_bytes: int, timeout_seconds: float) -> bytes:
    """Read the body, at most `limit_bytes` of it, counting its bytes as they come.

    Raises the Problem of one that is too large, too slow or wrongly framed.
    """
    content = request.content
    try:
        if content.is_eof():  # the usual case: it came with the headers, so there is nothing to time
            body = content.read_nowait(-1)
            if len(body) > limit_bytes:
                raise _too_large(limit_bytes)
            share.take_bytes(len(body))
            return body
        async with asyncio.timeout(spread(timeout_seconds)):
            return await _gather(request, share, limit_bytes)
    except TimeoutError:
        raise Problem("slow-body", f"the body took more than {timeout_seconds:g} s") from None
    except web.RequestPayloadError as error:
        raise Problem("framing", str(error)) from None


async def _gather(request: web.Request, share: Share, limit_bytes: int) -> bytes:
    content, body = request.content, bytearray()
    with share.arriving(request) as count:
        while part := await content.readany():
            if len(body) + len(part) > limit_bytes:
                raise _too_large(limit_bytes)
            count(len(part))
            body += part
            if len(part) < _FRAGMENT_BYTES:
                await _some_more(content)
    return bytes(body)


async def drop_rest(content: StreamReader) -> None:
    """Read what comes of a body that is answered already, for a while; of one that comes in fragments see the end alone."""
    with suppress(TimeoutError, web.RequestPayloadError):
        async with asyncio.timeout(spread(_LINGER_SECONDS, _LINGER_SPREAD)):
            while len(await content.readany()) >= _FRAGMENT_BYTES:
                pass
            await content.wait_eof()


async def _some_more(content: StreamReader) -> None:
    """Wait for the end of what comes in fragments, or for as many of them as come in a while: each by itself is dear."""
    with suppress(TimeoutError):
        async with asyncio.timeout(spread(_FRAGMENTS_SECONDS)):
            await content.wait_eof()


def _too_large(limit_bytes: int) -> Problem:
    detail = f"a body may have {limit_bytes} bytes"
    return Problem("too-large", detail, limit="body_limit_bytes", allowed=limit_bytes)
