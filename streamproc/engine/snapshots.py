"""Snapshots on their topic: a partition's whole state from time to time, so that work can start exactly at its offset.

Partition p of the topic `snapshots` belongs to partition p of `readings`. All records of a snapshot have its `next_offset` as
their key, and a header with their place in it: first the blocks by number, each in several records where one cannot hold it,
then the head, which is sent once Kafka has all of them.
The state is a function of the records before `next_offset`, so any complete snapshot is right, whoever wrote it and when.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass
from time import monotonic, time
from typing import TYPE_CHECKING, Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streamproc.core.checkpoint import Snapshot, block_count, check
from streamproc.core.pieces import PIECE_BYTES, sliced
from streamproc.engine import metrics
from streamproc.errors import CheckpointError, KafkaUnavailable, TopicsError
from streamproc.kafka.reading import Manner, at, bounds, consuming, records
from streamproc.settings import Settings
from streamproc.settings.connection import Connection

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer

    from streamproc.engine.partition import Partition

#: Headers of a block, of what goes on with the block before, since it was too large for one record, and of the head; each
#: with its place in the snapshot.
BLOCK, MORE, HEAD = "streamproc-block", "streamproc-more", "streamproc-head"
#: Few bytes a fetch, for a look at one record; a state of 24 MB still comes in some.
PIECEMEAL = Manner(fetch_bytes=1_048_576)
#: A snapshot of 25,000 sensors is 24 MB, and finding it reads as much again; far more than that is a hanging broker.
FIND_TIMEOUT_S = 120.0
#: After one that Kafka did not take: sooner than an interval, and late enough for a broker to have come back.
RETRY_S = 60.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Part:
    """A record of the topic: its snapshot, its place in it, and whether it is the head."""

    next_offset: int
    place: int
    kind: str
    value: bytes

    @property
    def is_head(self) -> bool:
        """Whether it is the snapshot's last record."""
        return self.kind == HEAD

    @classmethod
    def of(cls, record: Any) -> Part | None:
        """The part in a record of Kafka's; None if `Snapshots` did not write it."""
        places = [(name, value) for name, value in record.headers if name in (BLOCK, MORE, HEAD)]
        try:
            ((name, place),) = places
            part = cls(int(record.key), int(place), name, bytes(record.value))
        except (ValueError, TypeError):
            return None
        return part if part.place >= 0 else None


class Snapshots:
    """The snapshots of one partition: when one is due, and how it is written."""

    def __init__(self, producer: AIOKafkaProducer, topic: str, partition: int) -> None:
        self.producer, self.topic, self.partition = producer, topic, partition
        #: Bytes of the last one written here, and when (s since the epoch) the last one of all was written; 0: none is known.
        self.bytes, self.taken_at = 0, 0.0
        #: Bytes of a block in one record, at most.
        self.limit = PIECE_BYTES
        #: Whether it is known when the last one was taken.
        self.looked_back = False
        #: The offset that the last one reached, and when (monotonic) the next one is due. Of no record none is taken.
        self._reached, self._due_at = 0, 0.0

    async def look_back(self, kafka: Connection, readings: str, interval_s: float) -> None:
        """Find out when the last one was taken, by any owner.

        Without one, the time counts from the first record of the partition: replays of so little start there.
        Raises TopicsError where the topic is missing.
        """
        async with consuming(kafka, PIECEMEAL) as consumer:
            if self.topic not in await consumer.topics():
                raise TopicsError(f"topic {self.topic} does not exist: `streamproc topics apply` makes it")
            place = TopicPartition(self.topic, self.partition)
            last = await _last(consumer, place)
            if last is not None and (part := Part.of(last)) is not None:
                self._reached = part.next_offset
                # One that was not written to its end, or is not yet, has begun behind the head of the one before.
                head = last if part.is_head else await _before(consumer, place, last.offset - part.place)
                self.taken_at = head.timestamp / 1000 if head else 0.0
            if last is None:
                last = await _first(consumer, TopicPartition(readings, self.partition))
        age = time() - last.timestamp / 1000 if last is not None else 0.0
        # The broker's clock and this machine's may differ: one interval is the longest wait all the same.
        self.put_off(min(max(interval_s - age, 0.0), interval_s))
        self.looked_back = True

    def due(self, next_offset: int) -> bool:
        """Whether it is time, and there were new records since the last one."""
        return monotonic() >= self._due_at and next_offset > self._reached

    def put_off(self, seconds: float) -> None:
        """Delay the next one by so long."""
        self._due_at = monotonic() + seconds

    async def write(self, snapshot: Snapshot) -> None:
        """Write it; raises KafkaError if Kafka does not take it; `find` passes over an incomplete one."""
        key = str(snapshot.next_offset).encode()
        slices = [
            (MORE if more else BLOCK, value)
            for _, block in sorted(snapshot.blocks.items())
            for more, value in enumerate(sliced(block, self.limit))
        ]
        sent = [await self._send(value, key, kind, place) for place, (kind, value) in enumerate(slices)]
        for acknowledged in sent:
            await acknowledged
        await (await self._send(snapshot.head, key, HEAD, len(sent)))
        self._reached, self.taken_at = snapshot.next_offset, time()
        self.bytes = len(snapshot.head) + sum(map(len, snapshot.blocks.values()))

    async def _send(self, value: bytes, key: bytes, kind: str, place: int) -> asyncio.Future[Any]:
        sent: asyncio.Future[Any] = await self.producer.send(
            self.topic, value, key, partition=self.partition, headers=[(kind, str(place).encode())]
        )
        return sent


class Timer:
    """Takes the snapshots of a worker's partitions as they are due, one at a time; results do not depend on them."""

    def __init__(self, settings: Settings) -> None:
        self._kafka, self._interval_s = settings.kafka, settings.snapshot_interval_seconds
        self._topic, self._readings = settings.topic("snapshots"), settings.topic("readings")
        self._held: dict[int, Snapshots] = {}

    def held(self, partition: int) -> Snapshots | None:
        """The snapshots of a partition that this worker has."""
        return self._held.get(partition)

    async def beat(self, producer: AIOKafkaProducer | None, partitions: Mapping[int, Partition]) -> None:
        """Take the snapshots that are due, of these partitions by number."""
        if producer is None or not self._interval_s:
            return
        # Whoever had a partition meanwhile may have taken one.
        self._held = {number: held for number, held in self._held.items() if number in partitions}
        for number, partition in list(partitions.items()):
            held = self._held.setdefault(number, Snapshots(producer, self._topic, number))
            if not held.looked_back and held.due(partition.state.next_offset):
                await self._guarded(held, held.look_back(self._kafka, self._readings, self._interval_s))
            if held.looked_back and held.due(partition.state.next_offset):
                await self._take(held, partition)

    async def _take(self, held: Snapshots, partition: Partition) -> None:
        snapshot = await partition.snapshot()
        if snapshot is None:
            return  # a moment later the blocks are even
        held.put_off(self._interval_s)
        if await self._guarded(held, held.write(snapshot)):
            _log.info(
                "snapshot", partition=held.partition, next_offset=snapshot.next_offset, bytes=held.bytes
            )

    async def _guarded(self, held: Snapshots, work: Awaitable[None]) -> bool:
        """Whether it went well; if not, it is tried again: a worker without snapshots still works."""
        try:
            await work
        except (KafkaError, KafkaUnavailable, TopicsError) as error:
            metrics.SNAPSHOT_FAILURES.labels(str(held.partition)).inc()
            _log.warning(
                "no snapshot: tried again", partition=held.partition, reason=str(error) or repr(error)
            )
            held.put_off(min(RETRY_S, self._interval_s))
            return False
        return True


async def find(kafka: Connection, topic: str, offsets: Mapping[int, int]) -> dict[int, Snapshot]:
    """By partition, the newest complete snapshot that reaches no further than this offset of `readings`, if any.

    `core.checkpoint.resume` makes a state of it. Raises CheckpointError if the topic cannot be read in time.
    """
    found: dict[int, Snapshot] = {}
    async with consuming(kafka, PIECEMEAL) as consumer:
        if topic not in await consumer.topics():
            _log.warning("no such topic: `streamproc topics apply` makes it", topic=topic)
            return found
        try:
            async with asyncio.timeout(FIND_TIMEOUT_S):
                for partition, offset in offsets.items():
                    snapshot = await _newest(consumer, TopicPartition(topic, partition), offset)
                    if snapshot is not None:
                        found[partition] = snapshot
        except TimeoutError:
            raise CheckpointError(f"{topic} could not be read within {FIND_TIMEOUT_S:.0f} s") from None
    return found


async def _newest(consumer: AIOKafkaConsumer, place: TopicPartition, offset: int) -> Snapshot | None:
    """Look where snapshots begin to reach beyond the offset, then back from there, one by one."""
    begin, end = (await bounds(consumer, [place]))[place]
    end = await _beyond(consumer, place, begin, end, offset)
    while end > begin:
        last = Part.of(await at(consumer, place, end - 1))
        first = end - 1 if last is None else max(end - 1 - last.place, begin)
        try:
            if last is None or last.next_offset <= offset:
                return await _whole(consumer, place, range(first, end), last)
        except CheckpointError as error:
            _log.warning(
                "snapshot cannot be used: the one before is looked for",
                partition=place.partition,
                at=end - 1,
                next_offset=last.next_offset if last else None,
                reason=str(error),
            )
        end = first
    return None


async def _beyond(
    consumer: AIOKafkaConsumer, place: TopicPartition, begin: int, end: int, offset: int
) -> int:
    """The place on the topic before which snapshots reach no further than the offset, found by halving.

    They lie in the order of their offsets but for those of stale owners, which may be missed: an older one is right too.
    """
    probe = end - 1  # mostly the newest one is wanted
    while begin < end:
        part = Part.of(await at(consumer, place, probe))
        if part is not None and part.next_offset > offset:
            end = probe
        else:
            begin = probe + 1
        probe = (begin + end) // 2
    return end


async def _whole(
    consumer: AIOKafkaConsumer, place: TopicPartition, span: range, head: Part | None
) -> Snapshot:
    """The snapshot with this head, which lies where the span of the topic ends; raises CheckpointError if it is not sound.

    The head is looked at first: after a change of version there may be gigabytes of what cannot be read.
    """
    if head is None or not head.is_head:
        raise CheckpointError("it ends without a head")
    block_count(head.value)
    parts = dict[int, Part]()
    async for come in records(consumer, {place: (span.start, span.stop)}):
        parts |= {part.place: part for part in _blocks(come[place], head.next_offset)}
    blocks = list[bytes]()
    for _, part in sorted(parts.items()):
        if part.kind == BLOCK or not blocks:
            blocks.append(part.value)
        else:
            blocks[-1] += part.value
    snapshot = Snapshot(head.next_offset, head.value, dict(enumerate(blocks)))
    check(snapshot)
    return snapshot


def _blocks(some: Iterable[Any], next_offset: int) -> list[Part]:
    """The blocks of this snapshot among records."""
    parts = [Part.of(record) for record in some]
    return [part for part in parts if part and part.next_offset == next_offset and not part.is_head]


async def _last(consumer: AIOKafkaConsumer, place: TopicPartition) -> Any | None:
    """The last record of a partition; None where it has none."""
    begin, end = (await bounds(consumer, [place]))[place]
    return await at(consumer, place, end - 1) if end > begin else None


async def _before(consumer: AIOKafkaConsumer, place: TopicPartition, offset: int) -> Any | None:
    """The record before an offset; None where the partition begins there."""
    begin, _ = (await bounds(consumer, [place]))[place]
    return await at(consumer, place, offset - 1) if offset > begin else None


async def _first(consumer: AIOKafkaConsumer, place: TopicPartition) -> Any | None:
    """The first record of a partition; None where it has none."""
    begin, end = (await bounds(consumer, [place]))[place]
    return await at(consumer, place, begin) if end > begin else None
