"""Sends letters again, and marks each on `dead-letter` so that the next redrive leaves it out.

First a batch of records is sent and acknowledged, then its marks are. If the redrive is killed in between, the next one sends
those records again: they keep the identity of their first arrival, so they make no second row, window count or event.
A Kafka transaction would be no better: `read_committed` readers would wait until a killed redrive's transaction times out
(a minute), and other readers would see its records anyway.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import time
from typing import Any

import msgspec
import numpy as np
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from streamproc.core.chunk import Chunk
from streamproc.dlq.found import MARK, Found, Place, is_left_out, read
from streamproc.dlq.index import Index
from streamproc.dlq.reader import Reader
from streamproc.dlq.resend import Resend, resend
from streamproc.errors import DeadLetterError, KafkaUnavailable
from streamproc.kafka import clients
from streamproc.kafka.diagnosis import failure
from streamproc.records import RedriveMark
from streamproc.settings.connection import Connection

#: Letters whose records are sent before their marks are: what a kill can have sent twice.
BATCH = 500
#: Bytes of records sent before their marks; with BATCH it bounds the memory.
BATCH_BYTES = 16_000_000
#: The largest record of `windows` and `predictions`, by topics.yaml.
MESSAGE_BYTES = 8_500_000
#: Letters that are named of those that could not be sent.
EXAMPLES = 20
#: How long Kafka may take to acknowledge a record.
REQUEST_MS = 30_000

_encode = msgspec.json.Encoder().encode
Marker = Callable[[Sequence[RedriveMark]], Awaitable[None]]


@dataclass(slots=True)
class Result:
    """The result of a redrive: records sent, letters left out, and the first of these with the reason."""

    sent: int = 0
    left: int = 0
    examples: list[tuple[Place, str]] = field(default_factory=list)

    def leave(self, place: Place, why: str) -> None:
        """Count a letter whose record cannot be sent."""
        self.left += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append((place, why))


@dataclass(frozen=True, slots=True)
class Source:
    """Where letters come from: the broker's name of `dead-letter`, and the prefix of all topics.

    `reader` reads letters, `originals` the refused records themselves meanwhile.
    """

    reader: Reader
    originals: Reader
    topic: str
    prefix: str = ""

    async def scan(self, index: Index) -> dict[int, int]:
        """Take the whole topic into the index; gives each partition's end."""
        bounds = await self.reader.bounds(self.topic)
        async for records in self.reader.records(self.topic, bounds):
            index.add(map(read, records))
        return {number: end for number, (_, end) in bounds.items()}

    async def catch_up(self, index: Index, ends: dict[int, int]) -> None:
        """Take in the marks of what others have sent since; new letters are not wanted."""
        bounds = await self.reader.bounds(self.topic)
        since = {
            number: (max(begin, ends.get(number, begin)), end) for number, (begin, end) in bounds.items()
        }
        async for records in self.reader.records(self.topic, since):
            index.add(map(read, records), marks_only=True)

    async def letters(self, places: Sequence[Place]) -> AsyncIterator[Found]:
        """The letters at these places, in their order."""
        async for record in self.reader.some(self.topic, places):
            found = read(record)
            if isinstance(found, Found):
                yield found

    async def prepare(self, found: Found) -> Resend | str:
        """The record to send for a letter, or why there is none."""
        letter, first, value = found.letter, found.letter.first, None
        if letter.topic == self.topic or letter.topic not in await self.originals.topics():
            return f"there is no topic {letter.topic} to send it to"
        if first is None or is_left_out(letter):
            record = await self.originals.one(letter.topic, letter.partition, letter.offset)
            if record is None:
                where = f"{letter.topic}/{letter.partition} at offset {letter.offset}"
                return f"the letter does not repeat the record, and it is gone from {where}"
            first = first or first_place(record)
            value = record.value if is_left_out(letter) else None
        return resend(found, first, value, self.prefix) or "the record had no value: there is nothing to send"


def first_place(record: Any) -> str:
    """Where a record first arrived, as partition:offset:timestamp."""
    chunk = Chunk(
        record.topic,
        record.partition,
        np.array([record.offset]),
        np.array([record.timestamp]),
        [record.value],
        {0: tuple(record.headers)} if record.headers else {},
    )
    return ":".join(map(str, chunk.origin(0)))


async def redrive(
    source: Source,
    index: Index,
    producer: AIOKafkaProducer,
    *,
    marker: Marker | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Result:
    """Send the records of the wanted letters that wait, and mark them. After KafkaUnavailable, call it again.

    `marker` returns once the marks are kept, by default on `dead-letter`; `progress` is told how many letters are done.
    """
    marker = marker or on_topic(producer, source.topic)
    result, after, done = Result(), Place(-1, -1), 0
    while places := index.waiting(after, BATCH):
        ready: list[Resend] = []
        async for found in source.letters(places):
            prepared = await source.prepare(found)
            if isinstance(prepared, str):
                result.leave(found.place, prepared)
                continue
            ready.append(prepared)
            if sum(len(one.value) for one in ready) >= BATCH_BYTES:
                await _send(producer, ready, marker, result)
                ready = []
        await _send(producer, ready, marker, result)
        after, done = places[-1], done + len(places)
        progress(done)
    return result


async def _send(producer: AIOKafkaProducer, ready: Sequence[Resend], marker: Marker, result: Result) -> None:
    """Send these records, and mark those that Kafka has."""
    marks = []
    sent = [await _sent(producer, one) for one in ready]
    for one, told in zip(ready, sent, strict=True):
        if isinstance(told, str):
            result.leave(one.found.place, told)
            continue
        try:
            at = await told
        except MessageSizeTooLargeError:
            result.leave(
                one.found.place, "Kafka refuses so large a record: see the topic's max.message.bytes"
            )
            continue
        marks.append(one.mark(f"{at.topic}/{at.partition}/{at.offset}", int(time() * 1000)))
    await marker(marks)
    result.sent += len(marks)


async def _sent(producer: AIOKafkaProducer, one: Resend) -> asyncio.Future[Any] | str:
    """Kafka's word on the record to come, or why it cannot be sent."""
    letter = one.found.letter
    if letter.partition not in await producer.partitions_for(letter.topic):
        return f"topic {letter.topic} has no partition {letter.partition} any more"
    try:
        told: asyncio.Future[Any] = await producer.send(
            letter.topic, one.value, one.key, partition=letter.partition, headers=list(one.headers)
        )
    except MessageSizeTooLargeError as error:
        return str(error)
    return told


def on_topic(producer: AIOKafkaProducer, topic: str) -> Marker:
    """Writes marks to `dead-letter`, in the partitions of their letters, so that they come after them."""

    async def mark(marks: Sequence[RedriveMark]) -> None:
        sent = [
            await producer.send(
                topic,
                _encode(one),
                partition=int(one.letter.partition(":")[0]),
                headers=[(MARK, b"redriven")],
            )
            for one in marks
        ]
        for told in sent:
            await told

    return mark


@asynccontextmanager
async def producing(kafka: Connection) -> AsyncIterator[AIOKafkaProducer]:
    """A producer that waits for all replicas; raises KafkaUnavailable where Kafka cannot be reached or fails."""
    producer = clients.producer(
        kafka,
        acks="all",
        enable_idempotence=True,
        linger_ms=5,
        max_request_size=MESSAGE_BYTES,
        request_timeout_ms=REQUEST_MS,
    )
    try:
        await producer.start()
        yield producer
    except KafkaError as error:
        raise KafkaUnavailable(
            f"{await failure(kafka, error)}; what was sent is marked or harmless, so redrive again"
        ) from error
    finally:
        await producer.stop()


async def rehearse(source: Source, index: Index, show: Callable[[Resend], None]) -> Result:
    """What `redrive` would do, as far as is known; `show` is given each record, and nothing is sent."""
    result, after = Result(), Place(-1, -1)
    while places := index.waiting(after, BATCH):
        async for found in source.letters(places):
            prepared = await source.prepare(found)
            if isinstance(prepared, str):
                result.leave(found.place, prepared)
            else:
                result.sent += 1
                show(prepared)
        after = places[-1]
    return result


async def letter_at(source: Source, place: Place) -> Found:
    """The letter at a place; raises DeadLetterError that says what is there instead, or what the topic holds."""
    record = None
    bounds = await source.reader.bounds(source.topic)
    if place.partition in bounds:
        record = await source.reader.one(source.topic, place.partition, place.offset)
    if record is None:
        held = ", ".join(f"{number}:{begin} to {number}:{end - 1}" for number, (begin, end) in bounds.items())
        raise DeadLetterError(f"there is no letter {place}; the topic holds {held}")
    found = read(record)
    if isinstance(found, RedriveMark):
        raise DeadLetterError(f"{place} is no letter: it says that letter {found.letter} was sent again")
    if found is None:
        raise DeadLetterError(f"{place} is no letter of streamproc: somebody else wrote it")
    return found
