"""Reads the topics `windows` and `events` from now on, in no group, and passes the records on."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streamproc.console import metrics
from streamproc.console.live import Live
from streamproc.core.chunk import REDRIVEN
from streamproc.errors import KafkaUnavailable
from streamproc.kafka.reading import Manner, bounds, consuming, partitions
from streamproc.monitor import Check
from streamproc.records import SeverityEvent, WindowRows
from streamproc.settings import Settings

#: Windows come once a second, and people see no difference of 100 ms; a broker that holds fetches so long has little to do.
#: A broker has 5 s to answer: it is there, or it counts as away.
MANNER = Manner(wait_ms=100, request_ms=5_000, gone="earliest")
#: Longest that one look waits, and most records of it: a message of windows has up to 25,000 rows.
POLL_MS, POLL_RECORDS = 500, 500
#: So often is Kafka asked where the topics end: that it answers, and how far behind this is.
CHECK_S = 3.0
#: Two checks have failed, or one that the broker has not answered at all, when the last word is as old as this.
OLD_S = 10.0
#: Records of a partition of `windows` that may wait: some seconds of a busy engine's. Beyond, they are passed over, for each
#: shows what the next shows better.
BEHIND = 200
#: Between two attempts while the broker is away; it takes about 4 s to come back.
RETRY_S = 1.0

_log = structlog.get_logger(__name__)
_event = msgspec.json.Decoder(SeverityEvent).decode
_windows = msgspec.json.Decoder(WindowRows).decode


class _Size(msgspec.Struct):
    """What of a message of windows tells whether it is worth decoding."""

    size_ms: int


_size = msgspec.json.Decoder(_Size).decode
#: What a record raises that is none of ours, has columns of different lengths, or times that there are not.
_UNTOLD = (msgspec.MsgspecError, IndexError, OverflowError)


class Following:
    """Follows the topics that the settings name, and passes their records to `live`."""

    def __init__(self, settings: Settings, live: Live) -> None:
        self._kafka, self._live = settings.kafka, live
        self._events, self._windows = settings.topic("events"), settings.topic("windows")
        self._heard_at: float | None = None
        self._reason = "Kafka was not reached yet"

    async def run(self) -> None:
        """Follow until cancelled; a broker that is away is waited for."""
        while True:
            try:
                async with consuming(self._kafka, MANNER) as consumer:
                    await self._follow(consumer)
            except (KafkaUnavailable, LookupError, OSError) as error:
                self._reason = str(error) or repr(error)
                self._live.stand(is_live=False)
                metrics.RETRIES.inc()
                _log.warning("topics cannot be followed, trying again", reason=self._reason, sampled=True)
            await asyncio.sleep(RETRY_S)

    def check(self) -> Check:
        """Whether Kafka has answered lately, so that the live view is up to date."""
        if self._heard_at is None:
            return Check("broker", False, self._reason)
        silence = monotonic() - self._heard_at
        return Check("broker", silence < OLD_S, f"last answer {silence:.1f} s ago")

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        places = await self._begin(consumer)
        self._hear()
        _log.info("topics are followed", partitions=[f"{place.topic}/{place.partition}" for place in places])
        while True:
            found = await consumer.getmany(timeout_ms=POLL_MS, max_records=POLL_RECORDS)
            for place, records in found.items():
                self._take(place, records)
            if self._heard_at is None or monotonic() - self._heard_at >= CHECK_S:
                await self._check(consumer, places)

    async def _begin(self, consumer: AIOKafkaConsumer) -> list[TopicPartition]:
        """Be where `events` was left, or at the topics' ends; raises LookupError where one is not there."""
        places = list[TopicPartition]()
        for topic in (self._events, self._windows):
            found = await partitions(consumer, topic)
            if not found:
                raise LookupError(f"topic {topic} does not exist, or may not be seen by this user of Kafka")
            places += found
        ends = await bounds(consumer, places)
        begins = dict[int, int]()
        for place, (first, end) in ends.items():
            at = end
            if place.topic == self._events:
                left = self._live.reached.get(place.partition, end)
                at = begins[place.partition] = left if first <= left <= end else end
            consumer.seek(place, at)
        self._live.begin(begins)
        return places

    def _take(self, place: TopicPartition, records: list[Any]) -> None:
        if place.topic == self._windows:
            self._take_windows(records)
            return
        for record in records:
            # One sent again for the database alone was told when it happened.
            is_told = any(name == REDRIVEN for name, _ in record.headers)
            try:
                event = None if is_told else _event(record.value or b"")
                self._live.change(place.partition, record.offset, event)
            except _UNTOLD as error:
                self._faulty(record, error)
                self._live.change(place.partition, record.offset, None)

    def _take_windows(self, records: list[Any]) -> None:
        for record in records:
            try:
                if self._live.follows(_size(record.value or b"").size_ms):
                    self._live.windows(_windows(record.value))
            except _UNTOLD as error:
                self._faulty(record, error)

    def _faulty(self, record: Any, error: Exception) -> None:
        metrics.FAULTY.inc()
        _log.warning(
            "record not understood",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            reason=str(error),
            sampled=True,
        )

    async def _check(self, consumer: AIOKafkaConsumer, places: list[TopicPartition]) -> None:
        """See where the topics end; a broker that does not tell is away, and is waited for."""
        try:
            ends = await consumer.end_offsets(places)
        except (KafkaError, OSError) as error:
            self._reason = repr(error)
            self._live.stand(is_live=self.check().ok)
            return
        self._hear()
        for place, end in ends.items():
            position = await consumer.position(place)
            if place.topic == self._windows and end - position > BEHIND:
                consumer.seek(place, end)
                metrics.SKIPPED.inc(end - position)
        known = {
            topic: consumer.partitions_for_topic(topic) or set() for topic in (self._events, self._windows)
        }
        if sum(map(len, known.values())) > len(places):
            raise LookupError("a topic has more partitions than it had")

    def _hear(self) -> None:
        self._heard_at = monotonic()
        self._live.stand(is_live=True)
