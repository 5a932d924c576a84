"""The gateway's connections: how many there may be, and the bounds that aiohttp does not set on each.

aiohttp bounds the lines of a head, but not the time it takes to arrive, nor its total size (a megabyte); it waits for ever
for a client that does not read its answer; it accepts any number of connections. A client that sends its requests and then
closes its sending side (`nc -N`) still gets its answers.
"""

from __future__ import annotations

import asyncio
from collections import Counter as Tally
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web
from prometheus_client import Counter, Gauge

from streamproc.gateway.access.buckets import Buckets
from streamproc.gateway.direct import Direct
from streamproc.gateway.load import drop_rest, spread
from streamproc.gateway.problems import KINDS
from streamproc.settings.access import Window

if TYPE_CHECKING:
    from aiohttp import StreamReader
    from aiohttp.web_server import Server
    from prometheus_client import CollectorRegistry

    from streamproc.gateway.access.address import Addresses

#: A head is a few hundred bytes, with a proxy's and a token's headers a few thousand. Node.js has the same bound.
HEAD_BYTES = 16_384
#: How long a client may leave an answer unread that does not fit the buffers of its connection.
UNREAD_SECONDS = 30.0
#: A connection idle for less belongs to a client that is about to go on.
_IDLE_SECONDS = 1.0
#: How many connections are looked at for one that may go; those longest without a request come first.
_LOOKS = 16
#: Connections of an address that may end with what is no request: a device that fails sends a few of these, now and then.
_FAULTS = Window(50, 10)
#: How long a new connection of an address that has had more of them waits until it is read from: to open one and fail takes
#: the gateway as long as several packets, and 50 clients can do so 800 times a second.
_FAULTY_SECONDS = 1.0
#: What may stand before a request (RFC 9112, 2.2): boards send it behind a body (`println`), and no request need follow soon.
_ENDS_OF_LINES = b"\r\n"
#: What is read of a connection at a time. asyncio makes room for 256 KiB each time, which malloc takes from the system and
#: gives back (from 128 KiB on, until something larger has been freed): 15 us in place of 4 for a packet's 600 bytes.
_READ_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many connections there may be, in all and of one address, and the seconds that a head may take."""

    connections: int
    of_one: int
    head_seconds: float


class Crowd:
    """All connections, those longest without a request first."""

    def __init__(self, bounds: Bounds, addresses: Addresses, registry: CollectorRegistry) -> None:
        self.bounds = bounds
        self._addresses = addresses
        self._of: Tally[str] = Tally()
        self.order: OrderedDict[Connection, None] = OrderedDict()
        self._faults = Buckets([_FAULTS])
        self._refused = Counter(
            "streamproc_gateway_connections_refused",
            "Connections refused or closed by the gateway, by reason.",
            ["reason"],
            registry=registry,
        )
        self._delayed = Counter(
            "streamproc_gateway_connections_delayed",
            "Connections that waited, as others of their address had ended with what is no request.",
            registry=registry,
        )
        count = Gauge("streamproc_gateway_connections", "Connections there are.", registry=registry)
        count.set_function(lambda: len(self.order))
        most = Gauge(
            "streamproc_gateway_connections_bound", "Most connections there may be.", registry=registry
        )
        most.set(bounds.connections)

    def enter(self, connection: Connection, peer: str) -> str | None:
        """Take a connection in, and give its address for `leave`; None where there are too many, and it is to end."""
        address = "" if self._addresses.is_proxy(peer) else self._addresses.client(peer, ())
        if address and self._of[address] >= self.bounds.of_one:
            self.count("connection_limit_ip")
            return None
        if len(self.order) >= self.bounds.connections and not self._make_room():
            self.count("connection_limit")
            return None
        self._of[address] += 1
        self.order[connection] = None
        return address

    def leave(self, connection: Connection, address: str) -> None:
        """Forget a connection that was taken in."""
        self.order.pop(connection, None)
        self._of[address] -= 1
        if not self._of[address]:
            del self._of[address]

    def failed(self, address: str, now: float) -> None:
        """Count a connection that has ended with what is no request; those of proxies are many clients'."""
        if address:
            self._faults.take(address, now)

    def delays(self, address: str, now: float) -> bool:
        """Whether a new connection of this address is to wait."""
        if not address or not self._faults.wait(address, now):
            return False
        self._delayed.inc()
        return True

    def count(self, reason: str) -> None:
        """Count a connection that the gateway ends."""
        self._refused.labels(reason).inc()

    def _make_room(self) -> bool:
        """End one that has been idle for longest; HTTP lets either side do so between requests."""
        for _, connection in zip(range(_LOOKS), self.order, strict=False):
            idle = connection.idle_seconds()
            if idle is not None and idle >= _IDLE_SECONDS:
                self.count("made_room")
                self.order.pop(connection)
                connection.force_close()
                return True
        return False


class Connection(Direct):
    """aiohttp's connection within bounds."""

    __slots__ = (
        *("_address", "_crowd", "_half_closed", "_head_bytes", "_head_timer", "_newest", "_seen_at"),
        "_unread_timer",
    )

    def __init__(self, crowd: Crowd, server: Server, **options: Any) -> None:
        super().__init__(server, **options)
        # aiohttp itself would wake for each byte of a refused body: `_handle_request` drops it.
        self._lingering_time = 0.0
        self._crowd = crowd
        self._address: str | None = None
        self._head_bytes = 0
        #: The body of the newest request: it alone may be coming still.
        self._newest: StreamReader | None = None
        self._half_closed = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._seen_at = self._loop.time()

    def idle_seconds(self) -> float | None:
        """How long it has been waiting for a request; None where one is under way."""
        return self._loop.time() - self._seen_at if self._waits() else None

    def _waits(self) -> bool:
        """Whether no whole head is there: aiohttp waits for one, or has not begun to."""
        if self._messages or self._request_in_progress:
            return False
        return not self._request_count or (self._waiter is not None and not self._waiter.done())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take part in the crowd, or be told that it is too large."""
        peer = transport.get_extra_info("peername")
        self._address = self._crowd.enter(self, peer[0] if isinstance(peer, tuple) else "unknown")
        if self._address is None:
            self._force_close = True
            assert isinstance(transport, asyncio.Transport)
            _end(transport, "busy", "there are too many connections", retry_after=1)
            return
        if hasattr(
            transport, "max_size"
        ):  # asyncio's own over a socket; TLS reads into a buffer that it keeps
            transport.max_size = _READ_BYTES
        super().connection_made(transport)
        if self._crowd.delays(self._address, self._loop.time()):
            assert isinstance(transport, asyncio.Transport)
            transport.pause_reading()
            self._head_timer = self._loop.call_later(spread(_FAULTY_SECONDS), self._go_on)
        else:
            self._begin_head()

    def _go_on(self) -> None:
        assert isinstance(self.transport, asyncio.Transport)
        self.transport.resume_reading()
        self._begin_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Leave the crowd."""
        self._end_head()
        self._end_unread()
        if self._address is not None:
            self._crowd.leave(self, self._address)
            self._address = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Hand on what has come, and see whether a head is whole, and soon enough."""
        waited = self._waits()
        self.receive(data)
        if self._messages:
            self._newest = self._messages[-1][1]
        if waited:
            self._see_head(data)
        self.see_to_request()

    def _see_head(self, data: bytes) -> None:
        """See whether the head that was waited for is whole, and bound one that is not."""
        if not self._waits():
            self._end_head()
            self._seen_at = self._loop.time()
            if self in self._crowd.order:
                self._crowd.order.move_to_end(self)
        elif (self._head_bytes or data.strip(_ENDS_OF_LINES)) and not self._force_close:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse("head-too-large", f"a request's head may have {HEAD_BYTES} bytes")
            elif self._head_timer is None:
                self._begin_head()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio says "bool | None"
        """Stay open for the answers of requests that are whole; their sender has closed its side, and reads on."""
        if self.ssl_context is not None:  # TLS has no half of a connection
            return False
        if self._waits() or self._newest is None:
            return False
        if not self._newest.is_eof():
            self._failed()
            self._newest.set_exception(web.RequestPayloadError("the body ends too soon"))
        self._half_closed = True
        self._close_behind_last()
        return True

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Count what is no HTTP, besides."""
        if status < web.HTTPInternalServerError.status_code:
            self._failed()
        return super().handle_error(request, status, exc, message)

    def _failed(self) -> None:
        self._crowd.failed(self._address or "", self._loop.time())

    async def _handle_request(self, request: web.BaseRequest, *given: Any) -> Any:
        """Answer the next request, and drop the rest of its body; close behind the last of who has closed its side."""
        if self._half_closed:
            self._close_behind_last()
        answered = await super()._handle_request(request, *given)
        if not request.content.is_eof():
            await drop_rest(request.content)
            if not (request.content.is_eof() or self._half_closed):  # else it has been counted
                self._failed()
        return answered

    def _close_behind_last(self) -> None:
        if not self._messages:
            self.close()

    def pause_writing(self) -> None:
        """Wait for a client that does not read, but not for ever."""
        super().pause_writing()
        self._unread_timer = self._loop.call_later(UNREAD_SECONDS, self._give_up)

    def resume_writing(self) -> None:
        """Go on: it has read."""
        self._end_unread()
        super().resume_writing()

    def _begin_head(self) -> None:
        self._head_timer = self._loop.call_later(spread(self._crowd.bounds.head_seconds), self._head_is_late)

    def _end_head(self) -> None:
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _end_unread(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._waits():
            self._refuse("slow-head", f"a request's head may take {self._crowd.bounds.head_seconds:g} s")

    def _give_up(self) -> None:
        self._crowd.count("unread")
        if self.transport is not None:
            self.transport.abort()

    def _refuse(self, kind: str, detail: str) -> None:
        """Answer what has come of a head, and end the connection."""
        self._crowd.count(kind)
        self._failed()
        self._end_head()
        if self.transport is not None:
            _end(self.transport, kind, detail)
        self.force_close()


def _end(transport: asyncio.Transport, kind: str, detail: str, **member: int) -> None:
    """Write a problem where there is no request to answer, and close."""
    status, title = KINDS[kind]
    body = msgspec.json.encode(
        {
            "type": f"urn:streamproc:problem:{kind}",
            "title": title,
            "status": status,
            "detail": detail,
            **member,
        }
    )
    lines = [f"HTTP/1.1 {status} {title}", "Content-Type: application/problem+json", "Connection: close"]
    lines += [f"Retry-After: {seconds}" for name, seconds in member.items() if name == "retry_after"]
    lines += [f"Content-Length: {len(body)}", "", ""]
    transport.write("\r\n".join(lines).encode() + body)
    transport.close()
