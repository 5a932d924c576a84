"""One request: its key, its body, its readings, Kafka, the answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from streamproc.errors import KafkaUnavailable
from streamproc.gateway import intake
from streamproc.gateway.access import Access, Writer
from streamproc.gateway.answers import Fault
from streamproc.gateway.load import Load, Share, check_length, read_body
from streamproc.gateway.metrics import Metrics, field_label
from streamproc.gateway.problems import Problem, of_fault, unavailable

if TYPE_CHECKING:
    from streamproc.gateway.publisher import Ack, Publisher
    from streamproc.settings import Settings

Read = Callable[[bytes, intake.Limits, int, Writer], intake.Batch | Fault]
#: Who writes, where it was asked before the body was.
_WRITER = web.RequestKey("writer", Writer)


class Ingest:
    """The three ways in; each answers 202 once Kafka has acknowledged, and raises a Problem otherwise."""

    def __init__(self, settings: Settings, publisher: Publisher, access: Access) -> None:
        self.load = Load(settings.in_flight_limit, settings.in_flight_limit_bytes)
        self.metrics = Metrics(self.load, publisher)
        self._settings = settings
        self._publisher = publisher
        self._limits = intake.Limits(settings.packet_readings_limit, settings.allowed_skew_ms)
        self._access = access

    async def packet(self, request: web.Request) -> web.Response:
        """POST /ingest/packets: one packet of a device."""
        return await self._take(request, intake.packet)

    async def reading(self, request: web.Request) -> web.Response:
        """POST /ingest/readings: one reading by itself."""
        return await self._take(request, intake.reading)

    async def bulk(self, request: web.Request) -> web.Response:
        """POST /ingest/readings/bulk: readings of any sensors; all of them or none are taken."""
        return await self._take(request, intake.bulk)

    def check_head(self, request: web.Request) -> Writer:
        """Tell who writes, asked once a request; raises the Problem that its headers alone give."""
        if _WRITER in request:
            return request[_WRITER]
        writer = self._access.admit(request)
        encoding = request.headers.get("Content-Encoding", "identity")
        if encoding.lower() != "identity":
            headers = {"Accept-Encoding": "identity"}
            raise Problem("encoding", f"{encoding[:64]!r}: send the body as it is", headers=headers)
        check_length(request, self._settings.body_limit_bytes)
        request[_WRITER] = writer
        return writer

    async def _take(self, request: web.Request, read: Read) -> web.Response:
        writer = self.check_head(request)
        with Share(self.load) as share:
            batch, now_ms = await self._read(request, share, read, writer)
            share.take_place()
            started = time.perf_counter()
            try:
                acks = await self._publisher.send(batch.messages, now_ms)
            except KafkaUnavailable as error:
                self.metrics.unacknowledged.inc()
                detail = f"{error}; send it again, with the same ts or packet_id, and it counts once"
                raise unavailable("kafka-unavailable", detail) from None
            self.metrics.ack_seconds.observe(time.perf_counter() - started)
        self.metrics.readings.inc(batch.readings)
        return _accepted(batch.readings, self._publisher.topic, acks)

    async def _read(
        self, request: web.Request, share: Share, read: Read, writer: Writer
    ) -> tuple[intake.Batch, int]:
        settings = self._settings
        body = await read_body(request, share, settings.body_limit_bytes, settings.body_timeout_seconds)
        now_ms = time.time_ns() // 1_000_000
        batch = read(body, self._limits, now_ms, writer)
        if isinstance(batch, Fault):
            self.metrics.refused.labels(batch.kind, field_label(batch.field)).inc()
            detail = f"{batch.field}: {batch.reason}" if batch.field else batch.reason
            raise of_fault(batch, detail)
        return batch, now_ms


def _accepted(readings: int, topic: str, acks: list[Ack]) -> web.Response:
    answer: dict[str, object] = {"accepted": readings, "topic": topic}
    if len(acks) == 1:
        answer |= {"partition": acks[0].partition, "offset": acks[0].offset}
    else:
        answer["partitions"] = _by_partition(acks)
    return web.Response(status=202, body=msgspec.json.encode(answer), content_type="application/json")


def _by_partition(acks: list[Ack]) -> list[dict[str, int]]:
    places: dict[int, list[int]] = {}
    for ack in acks:
        places.setdefault(ack.partition, []).append(ack.offset)
    return [
        {
            "partition": partition,
            "records": len(offsets),
            "first_offset": min(offsets),
            "last_offset": max(offsets),
        }
        for partition, offsets in sorted(places.items())
    ]
