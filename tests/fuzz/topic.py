"""What is on the topic afterwards: each record is one that the engine decodes whole, within its bounds, in its partition."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition

from streamproc.core.chunk import Chunk
from streamproc.core.codec import TS_LIMIT, VALUE_LIMIT, decode
from streamproc.core.routing import home
from streamproc.gateway.batch import RECORD_LIMIT_BYTES
from streamproc.topics import load

_SOON_S = 120.0


async def records_of(bootstrap: str, topic: str) -> list[Any]:
    """Read all of the topic."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        await consumer._client.add_topic(topic)
        places = [TopicPartition(topic, each) for each in sorted(consumer.partitions_for_topic(topic) or ())]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        found: list[Any] = []
        async with asyncio.timeout(_SOON_S):
            while any([await consumer.position(place) < ends[place] for place in places]):
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    found += batch
        return found
    finally:
        await consumer.stop()


async def faults_on(bootstrap: str, topic: str, skew_ms: int) -> tuple[int, list[str]]:
    """Read all of the topic: how many records there are, and what is wrong with any of them."""
    partitions = next(spec.partitions for spec in load() if topic.endswith(spec.name))
    found = await records_of(bootstrap, topic)
    return len(found), [told for record in found if (told := _fault(record, partitions, skew_ms))]


def _fault(record: Any, partitions: int, skew_ms: int) -> str | None:
    """What is wrong with a record; None: nothing."""
    place = f"{record.partition}:{record.offset}"
    if len(record.value) > RECORD_LIMIT_BYTES:
        return f"{place} has {len(record.value)} bytes"
    offsets, times = (np.array([each], dtype=np.int64) for each in (record.offset, record.timestamp))
    found = decode(Chunk(record.topic, record.partition, offsets, times, [record.value]), skew_ms)
    if found.rejected or not len(found):
        return f"{place} is not decoded: {found.rejected} {record.value[:500]!r}"
    key = found.device[0] or found.sensor[0]
    if record.key != key.encode() or record.partition != home(key, partitions):
        return f"{place} has key {record.key!r}, and is of {key!r}"
    if (
        not (np.abs(found.value) <= VALUE_LIMIT).all()
        or not ((found.ts >= 0) & (found.ts <= TS_LIMIT * 1000)).all()
    ):
        return f"{place} has numbers out of bounds: {record.value[:500]!r}"
    return None
