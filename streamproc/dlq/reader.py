"""Reads from Kafka: all records of `dead-letter`, single letters again, and single records of other topics."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from streamproc.dlq.found import Place
from streamproc.errors import DeadLetterError
from streamproc.kafka.reading import Manner, bounds, consuming, partitions, records
from streamproc.settings.connection import Connection

#: People wait: the broker has 10 s for an answer. A record that is gone is told of, not taken for another.
FOR_PEOPLE = Manner(request_ms=10_000, gone="none")
#: Longest that Kafka may give nothing of what it has: more than a broker takes to start again, and people wait for this.
SILENCE_S = 30.0
#: Records that are read past rather than sought over: a seek costs a fetch, 1 MB, or some thousand letters.
SEEK_RECORDS = 2_000


class Reader:
    """A consumer without a group: it disturbs nobody, and commits nothing."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self._topics: set[str] = set()
        self._places: dict[str, list[TopicPartition]] = {}

    async def topics(self) -> set[str]:
        """The topics that existed when this was first asked."""
        self._topics = self._topics or await self._consumer.topics()
        return self._topics

    async def bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        """Each partition's first offset that is still there, and its end; raises DeadLetterError if there is no topic."""
        if topic not in await self.topics():  # asking for one by its name may create it
            raise DeadLetterError(f"there is no topic {topic}; `streamproc topics apply` makes it")
        if topic not in self._places:
            self._places[topic] = await partitions(self._consumer, topic)
        found = await bounds(self._consumer, self._places[topic])
        return {place.partition: limits for place, limits in found.items()}

    async def records(self, topic: str, parts: dict[int, tuple[int, int]]) -> AsyncIterator[list[Any]]:
        """The records of these partitions, each from one offset to another, in offset order, some at a time."""
        for number, part in parts.items():
            place = TopicPartition(topic, number)
            async for come in records(self._consumer, {place: part}, SILENCE_S):
                yield come[place]

    async def some(self, topic: str, places: Sequence[Place]) -> AsyncIterator[Any]:
        """The records at these places, in their order, without those that are gone."""
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
            async for some in self._retained(topic, part):
                for record in some:
                    if record.offset in wanted:
                        yield record
            begin = at

    async def _retained(self, topic: str, part: dict[int, tuple[int, int]]) -> AsyncIterator[list[Any]]:
        """The records of a part, from the first on that is still there."""
        there = await self.bounds(topic)
        kept = {
            number: (max(begin, there[number][0]), min(end, there[number][1]))
            for number, (begin, end) in part.items()
            if number in there
        }
        async for some in self.records(topic, kept):
            yield some

    async def one(self, topic: str, partition: int, offset: int) -> Any | None:
        """The record at a place, None if it is gone; raises DeadLetterError if there is no such topic."""
        try:
            async for some in self._retained(topic, {partition: (offset, offset + 1)}):
                for record in some:
                    return record
        except OffsetOutOfRangeError:  # gone between two requests
            return None
        return None


@asynccontextmanager
async def reading(kafka: Connection) -> AsyncIterator[Reader]:
    """A reader of the broker's topics; raises KafkaUnavailable if Kafka cannot be reached or fails."""
    async with consuming(kafka, FOR_PEOPLE) as consumer:
        yield Reader(consumer)
