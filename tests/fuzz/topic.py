"""What is on the topic afterwards: each record is one that the engine decodes whole, within its bounds, in its partition."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamproc.core.chunk import Chunk
from streamproc.core.codec import TS_LIMIT, VALUE_LIMIT, decode
from streamproc.core.routing import home
from streamproc.gateway.batch import RECORD_LIMIT_BYTES
from streamproc.settings.connection import Connection
from tests.live.oracle import PARTITIONS
from tests.live.test_gateway import records


async def faults_on(kafka: Connection, topic: str, skew_ms: int) -> tuple[int, list[str]]:
    """Read all of the topic: how many records there are, and what is wrong with any of them."""
    found = await records(kafka, topic)
    return len(found), [told for record in found if (told := _fault(record, PARTITIONS, skew_ms))]


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
