"""A gateway served as its process serves it: over its own connections, readings by the short way; and a Kafka in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry
from yarl import URL

from streamproc.errors import KafkaUnavailable
from streamproc.gateway.access import Access, Writer
from streamproc.gateway.access.callers import Callers
from streamproc.gateway.access.following import Known
from streamproc.gateway.access.gate import Gate
from streamproc.gateway.access.metrics import Counts
from streamproc.gateway.app import INGEST, build
from streamproc.gateway.guard import take_short_way
from streamproc.gateway.intake import Message
from streamproc.gateway.listener import Listener
from streamproc.gateway.problems import KINDS
from streamproc.gateway.publisher import PartlyAcknowledged
from streamproc.gateway.rounds import Ack
from streamproc.settings import Settings

Client = TestClient[web.Request, web.Application]
DEVICE = "00000000-0000-0000-0000-00000000000A"
PACKETS, READINGS, BULK = "/ingest/packets", "/ingest/readings", "/ingest/readings/bulk"
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]
#: Who sends what is taken whatever it is.
ANYONE = Writer()
#: Those who call, for an Access of a test's own: without limits.
CALLERS = Callers(Settings.model_validate({}), Counts())


def application(
    settings: Settings, publisher: MemoryPublisher, access: Access | None = None
) -> web.Application:
    """Build the gateway; where `access` is not given, its gate is open to sensors that nobody has registered."""
    unregistered = settings.model_copy(update={"auto_register": True})
    return build(settings, publisher, access or Gate(unregistered, Known(), Counts()))


class Served(TestServer):
    """A gateway's application for a `TestClient`; without settings, on any free port."""

    def __init__(self, app: web.Application, settings: Settings | None = None) -> None:
        super().__init__(app)
        self.settings = settings or Settings.model_validate({"gateway_host": "127.0.0.1", "gateway_port": 0})
        #: Whether readings are answered by the short way, as the gateway's process has it, or by aiohttp's own.
        self.short_way = True
        #: How long requests that are under way are waited for at the end.
        self.shutdown_timeout = 60.0
        #: What the connections count.
        self.counted = CollectorRegistry()

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        return self

    async def start_server(self, loop: Any = None, **given: Any) -> None:
        """Listen."""
        del loop, given
        if self.runner is not None:
            return
        runner = self.runner = web.AppRunner(
            self.app, access_log=None, shutdown_timeout=self.shutdown_timeout
        )
        await runner.setup()
        if self.short_way:
            take_short_way(runner, self.app[INGEST])
        listener = Listener(runner, self.settings, None, self.counted)
        await listener.start()
        self.url = listener.name
        self._root = URL(self.url)
        self.scheme, self.port = self._root.scheme, self._root.port


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Pair]:
    """Open a bare connection, to send what no client library would."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@dataclass
class MemoryPublisher:
    """Keeps what is sent; `gate` holds acknowledgements back, `away` is why there are none, `lost` has keys without one."""

    topic: str = "readings"
    sent: list[tuple[Message, int]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    away: str | None = None
    lost: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.gate.set()

    async def send(self, messages: Sequence[Message], now_ms: int) -> list[Ack]:
        """Keep the messages, once the gate is open."""
        if self.away:
            raise KafkaUnavailable(self.away)
        self.reached.set()
        await self.gate.wait()
        first = len(self.sent)
        self.sent += [(message, now_ms) for message in messages]
        acks = [Ack(len(message.key) % 3, first + index) for index, message in enumerate(messages)]
        if self.lost:
            some = zip(messages, acks, strict=True)
            raise PartlyAcknowledged("lost", [None if each.key in self.lost else ack for each, ack in some])
        return acks

    async def fault(self) -> str | None:
        """Tell why there is no Kafka."""
        return self.away

    @property
    def up(self) -> bool:
        """Whether there is Kafka."""
        return self.away is None

    @property
    def queued(self) -> int:
        """Nothing waits in memory."""
        return 0


async def serving(
    publisher: MemoryPublisher, access: Access | None = None, **settings: Any
) -> AsyncIterator[Client]:
    """Serve a gateway with small limits, where `settings` do not say otherwise; its connections have the usual ones."""
    small = {
        "body_limit_bytes": 4_096,
        "packet_readings_limit": 20,
        "body_timeout_seconds": 60,  # else a body of many pieces would be too slow where the machine is busy
        "in_flight_limit": 2,
        "in_flight_limit_bytes": 1_048_576,
    }
    made = Settings.model_validate({**small, **settings})
    async with TestClient(Served(application(made, publisher, access))) as client:
        yield client


def packet(*values: object, **more: object) -> bytes:
    """Make a packet of these values."""
    readings = [{"sensor_uuid": f"s{index}", "value": value} for index, value in enumerate(values)]
    return msgspec.json.encode({"device_uuid": DEVICE, "readings": readings, **more})


async def problem(response: ClientResponse, status: int, kind: str) -> dict[str, Any]:
    """Check that the answer is this problem, whole, and return it."""
    body: dict[str, Any] = msgspec.json.decode(await response.read())
    assert (response.status, body["type"]) == (status, f"urn:streamproc:problem:{kind}")
    assert response.content_type == "application/problem+json"
    assert body["status"] == status
    assert body["title"] == KINDS[kind][1]
    assert body["detail"]
    return body


async def metrics(client: Client) -> str:
    """Return the text of /metrics."""
    return await (await client.get("/metrics")).text()
