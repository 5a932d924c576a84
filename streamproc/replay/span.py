"""From times to offsets: which records of each partition are replayed, from where, and how many can be compared yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streamproc.core.checkpoint import Snapshot
from streamproc.core.counted import counted
from streamproc.engine.snapshots import find
from streamproc.errors import ReplayError
from streamproc.kafka.diagnosis import failure
from streamproc.kafka.groups import committed
from streamproc.kafka.reading import partitions
from streamproc.replay.engine import OUTPUTS
from streamproc.replay.request import Request
from streamproc.settings import Settings
from streamproc.store.protocol import Place, Store

#: How long the sink may take for what is on its topics now: it writes within a second where it runs.
SINK_S = 15.0
#: The time between two looks at how far it is.
LOOK_S = 0.2


class Span(msgspec.Struct, frozen=True):
    """What is replayed of a partition, one of so many: begin..end-1, after the records from `start` on have warmed it up.

    `first` is the first record that Kafka still has; `start` is there, or where a snapshot of the state is (`is_snapshot`).
    `asked` is where the range ends, of which what comes before `end` can be compared by now: the worker has come to the
    record `sent`, and the sink has written what comes of what is before `end`.
    """

    partition: int
    partitions: int
    first: int
    start: int
    begin: int
    end: int
    asked: int
    sent: int
    is_snapshot: bool

    @property
    def cold(self) -> bool:
        """Whether the state begins with a record that was not the partition's first."""
        return not self.is_snapshot and self.first > 0

    @property
    def uncompared(self) -> bool:
        """Whether there are records in the range, and none of them can be compared."""
        return self.end <= self.begin < self.asked


async def spans(
    settings: Settings,
    request: Request,
    store: Store,
    consumer: AIOKafkaConsumer,
    stopped: Callable[[], bool],
) -> list[Span]:
    """The spans of all partitions that have records in the range; raises ReplayError, KafkaUnavailable."""
    places = await _places(settings, consumer)
    firsts, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
    begins = await _at(consumer, request.begin_ms, ends)
    asked = ends if request.end_ms is None else await _at(consumer, request.end_ms, ends)
    ranges = {place.partition: asked[place] for place in places if begins[place] < asked[place]}
    sent = await _committed(settings, ranges) if ranges else {}
    written = await _written(settings, store, consumer, ranges, sent, stopped)
    found = []
    for place in places:
        if place.partition in ranges:
            begin = max(begins[place], firsts[place])
            end = max(begin, min(asked[place], written[place.partition]))
            snapshot = await snapshot_before(settings, place.partition, begin)
            if snapshot and snapshot.next_offset < firsts[place]:
                snapshot = None  # records between it and the range are gone
            found.append(
                Span(
                    partition=place.partition,
                    partitions=len(places),
                    first=firsts[place],
                    start=snapshot.next_offset if snapshot else firsts[place],
                    begin=begin,
                    end=end,
                    asked=asked[place],
                    sent=sent[place.partition],
                    is_snapshot=snapshot is not None,
                )
            )
    return found


async def snapshot_before(settings: Settings, partition: int, offset: int) -> Snapshot | None:
    """The newest state of the partition that was kept at or before an offset."""
    return (await find(settings.kafka, settings.topic("snapshots"), {partition: offset})).get(partition)


async def _places(settings: Settings, consumer: AIOKafkaConsumer) -> list[TopicPartition]:
    """The partitions of `readings`."""
    places = await partitions(consumer, settings.topic("readings"))
    if not places:
        raise ReplayError(f"Kafka at {settings.bootstrap} has no topic {settings.topic('readings')}")
    return places


async def _at(
    consumer: AIOKafkaConsumer, time_ms: int, ends: dict[TopicPartition, int]
) -> dict[TopicPartition, int]:
    """The offset of the first record at or after a time, the partition's end where there is none."""
    found = await consumer.offsets_for_times(dict.fromkeys(ends, time_ms))
    return {place: found[place].offset if found[place] else end for place, end in ends.items()}


async def _written(
    settings: Settings,
    store: Store,
    consumer: AIOKafkaConsumer,
    ranges: dict[int, int],
    sent: dict[int, int],
    stopped: Callable[[], bool],
) -> dict[int, int]:
    """Up to which record of each partition the database has all that comes of it.

    What the worker has committed, it has `sent`; and the sink writes that once it has come to where its topics end now.
    """
    if not ranges:
        return {}
    readings = settings.topic("readings")
    wanted = {
        partition: {
            settings.topic(name): end for name, end in (await _ends(consumer, settings, partition)).items()
        }
        for partition in ranges
    }
    deadline = monotonic() + SINK_S
    while True:
        reached = await store.offsets(settings.group("sink"))
        behind = [
            number
            for number, topics in wanted.items()
            if any(reached.get((topic, number), 0) < end for topic, end in topics.items())
            or reached.get((readings, number), 0) < min(sent[number], ranges[number])
        ]
        if not behind or monotonic() > deadline or stopped():
            break
        await asyncio.sleep(LOOK_S)  # a database sets no event
    return {number: 0 if number in behind else _least(sent, reached, (readings, number)) for number in ranges}


def _least(sent: dict[int, int], reached: dict[Place, int], place: Place) -> int:
    return min(sent[place[1]], reached.get(place, 0))


async def _ends(consumer: AIOKafkaConsumer, settings: Settings, partition: int) -> dict[str, int]:
    """Where the topics that the sink reads beside `readings` end."""
    places = {TopicPartition(settings.topic(name), partition): name for name in OUTPUTS}
    return {places[place]: end for place, end in (await consumer.end_offsets(list(places))).items()}


async def _committed(settings: Settings, ranges: dict[int, int]) -> dict[int, int]:
    """What the worker's group has committed of these partitions, 0 where nothing was."""
    places = [TopicPartition(settings.topic("readings"), number) for number in ranges]
    try:
        told = await committed(settings.kafka, settings.group("worker"), places)
    except KafkaError as error:
        raise await failure(settings.kafka, error) from error
    return dict.fromkeys(ranges, 0) | {place.partition: at.offset for place, at in told.items()}


def told(spans: list[Span]) -> list[str]:
    """What a reader of the results has to know of the spans, a line each."""
    lines = []
    for span in spans:
        if span.cold:
            lines.append(
                f"partition {span.partition}: Kafka has nothing before offset {span.first}, so the learners start there, "
                "knowing nothing: results may differ from those that were made with what came before"
            )
        if span.begin == span.first and span.first > 0:
            lines.append(
                f"partition {span.partition}: the range reaches back before offset {span.first}, the first kept"
            )
        if span.end < span.asked:
            lines.append(f"partition {span.partition}: {_left_out(span)}")
    return lines


def _left_out(span: Span) -> str:
    """How much of a span is not compared, and who has to go on first."""
    records = span.asked - span.end
    if not span.uncompared:
        return (
            f"left out: {counted(records, 'record')} of the range, from offset {span.end} on, for "
            "worker or sink have not written what comes of them yet"
        )
    told = f"NOTHING is compared of its {counted(records, 'record')}, "
    if span.sent <= span.begin:
        return (
            told
            + f"for the worker has not processed them: it is at offset {span.sent}; does `streamproc worker` run?"
        )
    return told + "for the sink has not written all that comes of them; does `streamproc sink` run?"
