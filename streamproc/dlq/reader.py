"""The way to Kafka: all records of `dead-letter`, some of its letters again, and single records of other topics."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from streamproc.dlq.found import Place
from streamproc.errors import DeadLetterError, KafkaUnavailable

#: Bytes of one fetch: with aiokafka's one fetch ahead it bounds the memory. A larger record still comes, by itself.
FETCH_BYTES = 1_048_576
#: Longest that Kafka may give nothing of what it has: more than a broker takes to start again, and people wait for this.
SILENCE_S = 30.0
#: Longest that the broker may take for an answer.
REQUEST_MS = 10_000
#: Longest that one poll waits.
POLL_MS = 500
#: Records that are read past rather than sought over: a seek costs a fetch, 1 MB, or some thousand letters.
SEEK_RECORDS = 2_000


class Reader:
    """A consumer without a group: it disturbs nobody, and commits nothing."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self._topics: set[str] = set()

    async def topics(self) -> set[str]:
        """The topics that there were when this was first asked."""
        self._topics = self._topics or await self._consumer.topics()
        return self._topics

    async def bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        """Each partition's first offset that is still there, and its end; raises DeadLetterError if there is no topic."""
        if topic not in await self.topics():  # asking for one by its name may create it
            raise DeadLetterError(f"there is no topic {topic}; `streamproc topics apply` makes it")
        numbers = await self._numbers(topic)
        places = [TopicPartition(topic, number) for number in sorted(numbers)]
        begins = await self._consumer.beginning_offsets(places)
        ends = await self._consumer.end_offsets(places)
        return {place.partition: (begins[place], ends[place]) for place in places}

    async def _numbers(self, topic: str) -> set[int]:
        first = TopicPartition(topic, 0)
        self._consumer.assign([first])
        await self._consumer.end_offsets([first])  # from here on the consumer knows the topic's partitions
        return set(self._consumer.partitions_for_topic(topic) or {0})

    async def records(self, topic: str, parts: dict[int, tuple[int, int]]) -> AsyncIterator[list[Any]]:
        """The records of these partitions, each from one offset to another, in offset order, some at a time."""
        for number, (begin, end) in parts.items():
            if begin < end:
                async for some in self._part(TopicPartition(topic, number), begin, end):
                    yield some

    async def _part(self, place: TopicPartition, begin: int, end: int) -> AsyncIterator[list[Any]]:
        self._consumer.assign([place])
        self._consumer.seek(place, begin)
        last = monotonic()
        while await self._consumer.position(place) < end:
            got = (await self._consumer.getmany(place, timeout_ms=POLL_MS)).get(place, [])
            if got:
                last = monotonic()
                yield [record for record in got if record.offset < end]
            elif monotonic() - last > SILENCE_S:
                raise KafkaUnavailable(
                    f"Kafka has given nothing of {place.topic}/{place.partition} for {SILENCE_S:.0f} s"
                )

    async def some(self, topic: str, places: Sequence[Place]) -> AsyncIterator[Any]:
        """The records at these places, given in their order; what is gone by now is left out."""
        begin = 0
        for at in range(1, len(places) + 1):
            before = places[at - 1]
            if at < len(places):
                following = places[at]
                apart = following.offset - before.offset > SEEK_RECORDS
                if following.partition == before.partition and not apart:
                    continue
            wanted = {place.offset for place in places[begin:at]}
            part = {before.partition: (places[begin].offset, before.offset + 1)}
            async for records in self._retained(topic, part):
                for record in records:
                    if record.offset in wanted:
                        yield record
            begin = at

    async def _retained(self, topic: str, part: dict[int, tuple[int, int]]) -> AsyncIterator[list[Any]]:
        """The records of a part, from the first on that is still there."""
        bounds = await self.bounds(topic)
        kept = {
            number: (max(begin, bounds[number][0]), min(end, bounds[number][1]))
            for number, (begin, end) in part.items()
            if number in bounds
        }
        async for records in self.records(topic, kept):
            yield records

    async def one(self, topic: str, partition: int, offset: int) -> Any | None:
        """The record at a place, None where it is gone; raises DeadLetterError if there is no such topic."""
        try:
            async for records in self._retained(topic, {partition: (offset, offset + 1)}):
                for record in records:
                    return record
        except OffsetOutOfRangeError:  # gone between two requests
            return None
        return None


@asynccontextmanager
async def reading(bootstrap: str) -> AsyncIterator[Reader]:
    """A reader of the broker's topics; raises KafkaUnavailable where Kafka cannot be reached or fails."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        request_timeout_ms=REQUEST_MS,
        max_partition_fetch_bytes=FETCH_BYTES,
    )
    try:
        await consumer.start()
        yield Reader(consumer)
    except KafkaError as error:
        raise KafkaUnavailable(f"Kafka at {bootstrap}: {error}") from error
    finally:
        await consumer.stop()
