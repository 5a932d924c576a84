"""Where an event's records are read from: the nearest snapshot before them, or the topic's beginning."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition

from streamproc.core.checkpoint import Snapshot
from streamproc.core.chunk import Chunk
from streamproc.core.registry import RegistryLog
from streamproc.engine.options import options
from streamproc.errors import ExplainError
from streamproc.explain.recompute import Recomputation, Recomputed, fresh
from streamproc.kafka.chunks import read
from streamproc.kafka.reading import bounds, partitions
from streamproc.records import SeverityEvent
from streamproc.registry import Registry
from streamproc.replay.span import snapshot_before
from streamproc.settings import Settings

#: A registry of 100,000 entries is read in a few seconds; without its topic it would be waited for without end.
_REGISTRY_S = 60.0


@dataclass(frozen=True, slots=True)
class Source:
    """A partition's records: Kafka has `first`..`end`-1; reading begins at `start`, with a `snapshot`'s state, if any.

    The event's own begin at `begin`: of a silence that no reading came before, at its time.
    """

    place: TopicPartition
    partitions: int
    first: int
    end: int
    begin: int
    start: int
    snapshot: Snapshot | None

    @property
    def cold(self) -> bool:
        """Whether the state begins with a record that was not the partition's first."""
        return self.snapshot is None and self.first > 0

    def has(self, event: SeverityEvent) -> bool:
        """Whether all records that the event came from are there."""
        return self.first <= self.begin < self.end and event.lineage.last_offset < self.end


async def source_of(settings: Settings, consumer: AIOKafkaConsumer, event: SeverityEvent) -> Source:
    """Where the records of an event are; raises ExplainError if Kafka has no such partition."""
    lineage = event.lineage
    places = await partitions(consumer, lineage.topic)
    place = TopicPartition(lineage.topic, lineage.partition)
    if place not in places:
        raise ExplainError(
            f"the event came by partition {lineage.partition} of {lineage.topic}, which Kafka at {settings.bootstrap} does "
            "not have: see that STREAMPROC_BOOTSTRAP names the right one"
        )
    first, end = (await bounds(consumer, [place]))[place]
    begin = lineage.first_offset
    if begin < 0:
        found = (await consumer.offsets_for_times({place: event.at}))[place]
        begin = found.offset if found else end
    kept = None
    if first <= begin < end:
        kept = await snapshot_before(settings, place.partition, begin)
        if kept is not None and kept.next_offset < first:
            kept = None  # records between it and the event are gone
    return Source(place, len(places), first, end, begin, kept.next_offset if kept else first, kept)


async def registry_of(settings: Settings) -> RegistryLog:
    """All edits of the registry that Kafka keeps; raises ExplainError if it cannot be read."""
    view = Registry(settings.kafka, settings.topic("registry"))
    try:
        async with asyncio.timeout(_REGISTRY_S):
            await view.start()
    except TimeoutError:
        raise ExplainError(
            f"the topic {settings.topic('registry')} at {settings.bootstrap} cannot be read: is it there? "
            "`streamproc topics check` tells"
        ) from None
    await view.stop()
    return view.log


async def recompute(
    settings: Settings, consumer: AIOKafkaConsumer, source: Source, event: SeverityEvent
) -> Recomputed:
    """Recompute the event with the engine's core; raises KafkaUnavailable."""
    wanted = options(settings, source.place.partition, source.partitions)
    work = Recomputation(fresh(wanted, source.snapshot), await registry_of(settings), event)
    async for chunk in _records(consumer, source):
        at = int(chunk.offsets.searchsorted(source.begin))
        if at:
            work.warm(chunk.cut(0, at))
        if at < len(chunk) and work.take(chunk.cut(at, len(chunk))):
            break
    return work.outcome()


def _records(consumer: AIOKafkaConsumer, source: Source) -> AsyncIterator[Chunk]:
    return read(consumer, source.place, source.start, source.end, lambda: False)
