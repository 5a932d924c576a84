"""Reads topics beside the stream: their offsets, and the records between two places, without joining a consumer group.

Such a reader is assigned its partitions and commits nothing, so it disturbs nobody. No record comes for some offsets: those
that were deleted or compacted away, transaction markers, and aborted records. So reading ends when the *position* reaches
the end, not with a certain record.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import Any, Literal, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError

from streamproc.errors import KafkaUnavailable
from streamproc.kafka import clients
from streamproc.kafka.diagnosis import failure
from streamproc.kafka.stray import told_apart
from streamproc.settings.connection import Connection

T = TypeVar("T")

#: The first offset of each partition that is read, and the one after the last.
Spans = Mapping[TopicPartition, tuple[int, int]]
#: Gives what has come of these partitions, or nothing where nothing has for a moment.
Poll = Callable[[list[TopicPartition]], Awaitable[Mapping[TopicPartition, T]]]

#: Longest that one poll waits.
POLL_MS = 500


@dataclass(frozen=True, slots=True)
class Manner:
    """How a consumer reads."""

    #: Bytes of a partition in one fetch: with aiokafka's one fetch ahead it bounds the memory. A larger record comes alone.
    fetch_bytes: int = 1_048_576
    #: How long the broker holds a fetch for which it has nothing: what the next look somewhere else may have to wait.
    wait_ms: int = 20
    #: Longest that the broker may take for an answer; aiokafka's own.
    request_ms: int = 40_000
    #: What a transaction has written is read once it is committed; without, at once, and although it is aborted.
    isolation: Literal["read_committed", "read_uncommitted"] = "read_uncommitted"
    #: Where to go on if a record is gone: at the first that is there, or nowhere: it is an error.
    gone: Literal["earliest", "none"] = "earliest"


@asynccontextmanager
async def consuming(
    kafka: Connection, manner: Manner, group: str | None = None
) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer that is told its partitions, and commits nothing; raises KafkaUnavailable for each fault of Kafka's.

    `group` is a name for the broker's logs and quotas alone.
    """
    consumer = clients.consumer(
        kafka,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset=manner.gone,
        max_partition_fetch_bytes=manner.fetch_bytes,
        fetch_max_wait_ms=manner.wait_ms,
        request_timeout_ms=manner.request_ms,
        isolation_level=manner.isolation,
    )
    try:
        with told_apart():
            await consumer.start()
            yield consumer
    except KafkaError as error:
        raise await failure(kafka, error) from error
    finally:
        await consumer.stop()


async def partitions(consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    """The topic's partitions by number; none where there is no such topic. The first is assigned.

    All topics are asked for: on some brokers, asking for one by its name creates it.
    """
    if topic not in await consumer.topics():
        return []
    first = TopicPartition(topic, 0)
    consumer.assign([first])
    await consumer.end_offsets([first])  # from here on the consumer knows the topic's partitions
    numbers = consumer.partitions_for_topic(topic) or {0}
    return [TopicPartition(topic, number) for number in sorted(numbers)]


async def bounds(
    consumer: AIOKafkaConsumer, places: Iterable[TopicPartition]
) -> dict[TopicPartition, tuple[int, int]]:
    """Of each partition, the offset of its first record and the one after its last; the consumer is assigned them."""
    wanted = list(places)
    if consumer.assignment() != set(wanted):
        consumer.assign(wanted)
        await _allowed(consumer, {place.topic for place in wanted})
    begins = await consumer.beginning_offsets(wanted)
    ends = await consumer.end_offsets(wanted)
    return {place: (begins[place], ends[place]) for place in wanted}


async def _allowed(consumer: AIOKafkaConsumer, topics: set[str]) -> None:
    """Raise TopicAuthorizationFailedError for topics that this client may not see: aiokafka would ask on and only log why."""
    client = consumer._client  # noqa: SLF001  # it has no public way to ask
    await client.force_metadata_update()
    if hidden := topics & client.cluster.unauthorized_topics:
        raise TopicAuthorizationFailedError(*sorted(hidden))


async def at(consumer: AIOKafkaConsumer, place: TopicPartition, offset: int) -> Any:
    """The first record from this offset on, which there must be; the consumer has to be assigned the partition."""
    consumer.seek(place, offset)
    return await consumer.getone(place)


async def records(
    consumer: AIOKafkaConsumer, spans: Spans, silence_s: float = inf
) -> AsyncIterator[dict[TopicPartition, list[Any]]]:
    """The records of the spans, some at a time, each partition's in their order; of an empty span none.

    The consumer is assigned those that are read. Raises KafkaUnavailable after so many seconds without any progress.
    """

    async def poll(behind: list[TopicPartition]) -> dict[TopicPartition, list[Any]]:
        found: dict[TopicPartition, list[Any]] = await consumer.getmany(*behind, timeout_ms=POLL_MS)
        return found

    async for found in polled(consumer, spans, poll, silence_s):
        wanted = {
            place: [record for record in some if record.offset < spans[place][1]]
            for place, some in found.items()
        }
        if any(wanted.values()):
            yield wanted


async def polled(
    consumer: AIOKafkaConsumer, spans: Spans, poll: Poll[T], silence_s: float = inf
) -> AsyncIterator[Mapping[TopicPartition, T]]:
    """What each poll gives until all is read, nothing too, so that the caller can stop; what came last may reach further."""
    # What is not to be read must not be fetched: beyond a partition's end, Kafka would begin anew.
    wanted = {place: span for place, span in spans.items() if span[0] < span[1]}
    if wanted:
        consumer.assign(list(wanted))
    for place, (begin, _) in wanted.items():
        consumer.seek(place, begin)
    heard, reached = monotonic(), dict[TopicPartition, int]()
    while True:
        positions = {place: await consumer.position(place) for place in wanted}
        behind = [place for place, (_, end) in wanted.items() if positions[place] < end]
        if not behind:
            return
        if positions != reached:
            heard, reached = monotonic(), positions
        elif monotonic() - heard > silence_s:
            raise KafkaUnavailable(
                f"Kafka has given nothing of {', '.join(f'{place.topic}/{place.partition}' for place in behind)} "
                f"for {silence_s:.0f} s"
            )
        yield await poll(behind)
