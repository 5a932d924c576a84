"""One request: its sender, its body, its readings, Kafka, the answer."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from aiohttp import hdrs, web
from multidict import istr

from streamproc.errors import KafkaUnavailable
from streamproc.gateway import intake
from streamproc.gateway.access import Access, Writer
from streamproc.gateway.answers import Fault, place, taken
from streamproc.gateway.batch import too_many_faults
from streamproc.gateway.bodies import Encoding, Form, check_encoding, check_form
from streamproc.gateway.inflation import Inflation
from streamproc.gateway.load import Load, Share, check_length, peer, read_body
from streamproc.gateway.metrics import Metrics, field_label
from streamproc.gateway.problems import Problem, of_batch, of_fault, only, unavailable
from streamproc.gateway.publisher import PartlyAcknowledged

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamproc.gateway.publisher import Publisher
    from streamproc.gateway.rounds import Ack
    from streamproc.settings import Settings

IDEMPOTENCY_KEY = istr("Idempotency-Key")
#: A `packet_id` has 128 at most; with the index of a reading in a bulk, `/999999`, it stays below.
_KEY_LIMIT = 120
_AGAIN = "send it again, with the same ts, packet_id or Idempotency-Key, and it counts once"


class Read(Protocol):
    """Understands a body."""

    def __call__(self, body: bytes, terms: intake.Terms, *, lines: bool) -> intake.Batch | Fault:
        """Give its batch, or why nothing of it is looked at."""


#: The three ways in: a packet of a device, or several of any devices; a reading by itself; readings of any sensors.
READS: Mapping[str, Read] = {
    "/ingest/packets": intake.packets,
    "/ingest/readings": intake.reading,
    "/ingest/readings/bulk": intake.bulk,
}


class Head(NamedTuple):
    """What a request's headers tell."""

    writer: Writer
    form: Form
    encoding: Encoding | None
    key: str | None


#: What was told of the head where it was asked before the body was.
_HEAD = web.RequestKey("head", Head)


class Ingest:
    """The three ways in; each answers once Kafka has acknowledged, and raises a Problem where nothing is taken."""

    def __init__(
        self,
        settings: Settings,
        publisher: Publisher,
        access: Access,
        address_of: Callable[[web.Request], str] = peer,
    ) -> None:
        self.load = Load(settings.in_flight_limit, settings.in_flight_limit_bytes, address_of)
        self.metrics = Metrics(self.load, publisher)
        self._settings = settings
        self._publisher = publisher
        self._access = access
        self._inflation = Inflation(settings.inflated_limit_bytes)
        self._limits = intake.Limits(
            settings.packet_readings_limit, settings.allowed_skew_ms, settings.packets_limit
        )

    def handler(self, read: Read) -> Callable[[web.Request], Awaitable[web.Response]]:
        """The handler of a route whose bodies are read so."""

        async def handle(request: web.Request) -> web.Response:
            status, body = await self.take(request, read)
            return web.Response(status=status, body=body, content_type="application/json")

        return handle

    def check_head(self, request: web.Request) -> Head:
        """Tell what the headers tell, asked once a request; raises the Problem that they alone give."""
        headers = request.headers
        if hdrs.EXPECT in headers and _HEAD in request:
            return request[_HEAD]
        writer = self._access.admit(request)
        form = check_form(headers.get(hdrs.CONTENT_TYPE, ""))
        encoded = hdrs.CONTENT_ENCODING in headers
        encoding = check_encoding(headers.getall(hdrs.CONTENT_ENCODING)) if encoded else None
        key = only(headers, IDEMPOTENCY_KEY)
        head = Head(writer, form, encoding, None if key is None else _check_key(key))
        check_length(request, self._settings.body_limit_bytes)
        return head

    def keep_head(self, request: web.Request) -> None:
        """Check the head before the body has come, and keep what it tells."""
        request[_HEAD] = self.check_head(request)

    async def take(self, request: web.Request, read: Read) -> tuple[int, bytes]:
        """Give status and body of the answer, once Kafka has what is taken; raises the Problem where nothing is."""
        head = self.check_head(request)
        with Share(self.load) as share:
            body = await self._read(request, share, head.encoding)
            now_ms = time.time_ns() // 1_000_000
            terms = intake.Terms(self._limits, now_ms, head.writer, head.key)
            batch = read(body, terms, lines=head.form == "lines")
            del body  # what is understood of it is held while Kafka is waited for, not the text as well
            if isinstance(batch, Fault):
                self._count([batch])
                raise of_fault(batch)
            if batch.rejected:
                self._count([fault for result in batch.results for fault in result.rejected])
                if batch.untold:
                    self._count([too_many_faults()], batch.untold)
            if not batch.messages:
                raise of_batch(batch)
            share.take_place()
            return await self._publish(batch, now_ms)

    async def _read(self, request: web.Request, share: Share, encoding: Encoding | None) -> bytes:
        settings = self._settings
        body = await read_body(request, share, settings.body_limit_bytes, settings.body_timeout_seconds)
        if encoding is None:
            return body
        inflated = await self._inflation.inflate(body, encoding)
        share.take_bytes(len(inflated) - len(body))
        return inflated

    async def _publish(self, batch: intake.Batch, now_ms: int) -> tuple[int, bytes]:
        """Hand all records to Kafka at once, and tell of each what became of it."""
        started = time.perf_counter()
        fault: Fault | None = None
        acks: Sequence[Ack | None]
        try:
            acks = await self._publisher.send(batch.messages, now_ms)
        except PartlyAcknowledged as error:
            acks = error.acks
            fault = Fault("kafka-unavailable", f"{error}; {_AGAIN}", retry_after=1)
            self.metrics.unacknowledged.inc()
        except KafkaUnavailable as error:
            self.metrics.unacknowledged.inc()
            raise unavailable("kafka-unavailable", f"{error}; {_AGAIN}") from None
        self.metrics.ack_seconds.observe(time.perf_counter() - started)
        lost = place(batch.results, acks, fault)
        accepted = batch.accepted - lost
        self.metrics.readings.add(accepted)
        counts = (accepted, batch.rejected + lost)
        return taken(batch.results, acks, self._publisher.topic, counts)

    def _count(self, faults: Sequence[Fault], times: int = 1) -> None:
        for (kind, name), count in Counter((each.kind, field_label(each.field)) for each in faults).items():
            self.metrics.refused.labels(kind, name).inc(count * times)


def _check_key(given: str) -> str:
    """Take an idempotency key as it is, or as a quoted string (the IETF's draft has it so); both are the same key."""
    key = given[1:-1] if len(given) > 1 and given[0] == given[-1] == '"' else given
    if not 0 < len(key) <= _KEY_LIMIT or not key.isascii() or not key.isprintable():
        detail = f"Idempotency-Key: 1 to {_KEY_LIMIT} printable ASCII characters"
        raise Problem("invalid", detail, field="Idempotency-Key")
    return key
