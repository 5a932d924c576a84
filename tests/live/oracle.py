"""What the topics hold, and what the pure core makes of the same records: the two must be the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from faust.types import TP

from streamproc.core.engine import Options, PartitionState, run
from streamproc.core.registry import RegistryLog
from streamproc.engine.outputs import Message, messages
from streamproc.kafka import clients, groups
from streamproc.kafka.columns import gather
from streamproc.records import DeadLetter, LateReading, PredictionRows, SeverityEvent, WindowRows
from streamproc.registry.view import take_in
from streamproc.settings.connection import Connection
from streamproc.topics import load

#: How many each topic has.
PARTITIONS_OF = {spec.name: spec.partitions for spec in load()}
#: Those of `readings`.
PARTITIONS = PARTITIONS_OF["readings"]
#: What the engine writes, but for notifications, each of which says what an event says.
OUTPUTS = ("windows", "predictions", "events", "late", "dead-letter")

_window_rows = msgspec.json.Decoder(WindowRows).decode
_event = msgspec.json.Decoder(SeverityEvent).decode
_late = msgspec.json.Decoder(LateReading).decode
_letter = msgspec.json.Decoder(DeadLetter).decode
_predictions = msgspec.json.Decoder(PredictionRows).decode

Key = tuple[Any, ...]


class Reader:
    """All records of some topics so far, read on from one look to the next."""

    def __init__(self, consumer: AIOKafkaConsumer, prefix: str) -> None:
        self._consumer, self._prefix = consumer, prefix
        self._records: dict[str, dict[int, list[Any]]] = {}

    async def read(self, topic: str) -> dict[int, list[Any]]:
        """The records of a topic, by partition, up to what was its end when this was asked."""
        places = [place for place in self._consumer.assignment() if place.topic == self._prefix + topic]
        held = self._records.setdefault(topic, {place.partition: [] for place in places})
        ends = await self._consumer.end_offsets(places)
        while any([await self._consumer.position(place) < ends[place] for place in places]):
            for place, records in (await self._consumer.getmany(*places, timeout_ms=100)).items():
                held[place.partition] += records
        return {partition: list(records) for partition, records in held.items()}

    async def values(self, topic: str) -> list[bytes]:
        """The values of a topic's records so far."""
        return [record.value for records in (await self.read(topic)).values() for record in records]


@asynccontextmanager
async def reading(bootstrap: Connection, prefix: str, *topics: str) -> AsyncIterator[Reader]:
    """A reader of these topics, from their beginning."""
    consumer = clients.consumer(
        bootstrap,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        isolation_level="read_committed",
        fetch_max_wait_ms=20,
        max_partition_fetch_bytes=8 * 1024 * 1024,
    )
    await consumer.start()
    try:
        places = [
            TopicPartition(prefix + topic, partition)
            for topic in topics
            for partition in range(PARTITIONS_OF[topic])
        ]
        consumer.assign(places)
        yield Reader(consumer, prefix)
    finally:
        await consumer.stop()


async def committed(bootstrap: Connection, group: str, topic: str) -> dict[int, tuple[int, str]]:
    """What Kafka has as done: partition to offset and metadata."""
    places = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
    told = await groups.committed(bootstrap, group, places)
    return {place.partition: (at.offset, at.metadata) for place, at in told.items()}


@dataclass
class Results:
    """What came out, by what makes each thing one of its kind; a thing that comes twice must be the same twice."""

    windows: dict[Key, Key] = field(default_factory=dict)
    predictions: dict[Key, Key] = field(default_factory=dict)
    events: dict[Key, Key] = field(default_factory=dict)
    late: dict[Key, Key] = field(default_factory=dict)
    letters: dict[Key, Key] = field(default_factory=dict)
    repeated: int = 0

    def add(self, topic: str, value: bytes) -> None:
        """Take in a message of an output topic; fails if it says otherwise of something than one before."""
        match topic:
            case "windows":
                rows = _window_rows(value)
                columns = msgspec.structs.astuple(rows)[3:-1]
                for row in zip(*columns, strict=True):
                    self._put(self.windows, (row[0], rows.size_ms, row[1]), (rows.partition, *row))
            case "predictions":
                made = _predictions(value)
                for row in zip(*msgspec.structs.astuple(made)[1:-1], strict=True):
                    self._put(self.predictions, row[:3], row)
            case "events":
                event = _event(value)
                self._put(self.events, (event.event_id,), (orjson.dumps(msgspec.to_builtins(event)),))
            case "late":
                late = _late(value)
                self._put(self.late, (late.partition, late.offset, late.sensor), (value,))
            case "dead-letter":
                letter = _letter(value)
                self._put(self.letters, (letter.partition, letter.offset), (value,))

    def _put(self, held: dict[Key, Key], key: Key, row: Key) -> None:
        if key in held:
            assert held[key] == row, "the same, made again, is another"
            self.repeated += 1
        held[key] = row

    def lacks(self, other: Results) -> dict[str, set[Key]]:
        """What the other has that this has not, or otherwise."""
        missing = {}
        for name in ("windows", "predictions", "events", "late", "letters"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if lacking := {key for key, row in theirs.items() if mine.get(key) != row}:
                missing[name] = lacking
        return missing


def registry_of(records: Iterable[Any]) -> RegistryLog:
    """The registry that these records of its topic are."""
    log = RegistryLog()
    take_in(log, records)
    return log


def expected(
    readings: Mapping[int, Iterable[Any]], topic: str, registry: RegistryLog, lateness_ms: int = 1_000
) -> Results:
    """What the pure core makes of the records of `readings`, in one chunk a partition."""
    results = Results()
    for partition, records in readings.items():
        held = list(records)
        if not held:
            continue
        state = PartitionState(Options(topic, partition, PARTITIONS, allowed_lateness_ms=lateness_ms))
        for chunk, out in run(state, gather(TP(topic, partition), held), registry):
            for message in messages(state, chunk, out):
                _take(results, message)
    return results


def _take(results: Results, message: Message) -> None:
    if message.value is not None:
        results.add(message.topic, message.value)


async def found(reader: Reader) -> Results:
    """What is on the engine's output topics now."""
    results = Results()
    for name in OUTPUTS:
        for value in await reader.values(name):
            results.add(name, value)
    return results


async def settled(reader: Reader, topic: str, lateness_ms: int = 1_000) -> Results | None:
    """The results on the topics if nothing is missing by now, else None; fails where something should not be there.

    `reader` reads `readings`, `registry` and OUTPUTS.
    """
    wanted = await _possible(reader, topic, lateness_ms)
    results = await found(reader)
    possible = await _possible(reader, topic, lateness_ms)
    assert not (more := possible.lacks(results)), more
    return None if results.lacks(wanted) else results


async def _possible(reader: Reader, topic: str, lateness_ms: int) -> Results:
    """What the core makes of all records so far; of the registry it may know more than the records name."""
    readings = await reader.read("readings")
    return expected(readings, topic, registry_of((await reader.read("registry"))[0]), lateness_ms)
