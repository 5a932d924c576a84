"""Reading a topic beside the stream: what lies where, without a consumer group."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

#: Bytes of a partition in one fetch: few enough for a look at one record, and a state of 24 MB still comes in a few.
FETCH_BYTES = 1024 * 1024


@asynccontextmanager
async def ungrouped(bootstrap: str, fetch_bytes: int = FETCH_BYTES) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer that is in no group, and commits nothing; what it reads it has to be assigned."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=20,
        max_partition_fetch_bytes=fetch_bytes,
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def exists(consumer: AIOKafkaConsumer, topic: str) -> bool:
    """Whether there is such a topic. All are asked for: on some brokers, asking for one creates it."""
    return topic in await consumer.topics()


async def bounds(
    consumer: AIOKafkaConsumer, places: Iterable[TopicPartition]
) -> dict[TopicPartition, tuple[int, int]]:
    """Of each partition, the offset of its first record and the one after its last; the consumer is assigned them."""
    wanted = list(places)
    if consumer.assignment() != set(wanted):
        consumer.assign(wanted)
    begins = await consumer.beginning_offsets(wanted)
    ends = await consumer.end_offsets(wanted)
    return {place: (begins[place], ends[place]) for place in wanted}


async def at(consumer: AIOKafkaConsumer, place: TopicPartition, offset: int) -> Any:
    """The first record from this offset on, which there must be."""
    consumer.seek(place, offset)
    return await consumer.getone(place)
