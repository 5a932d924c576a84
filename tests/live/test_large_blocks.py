"""A device that floods a block of sensors: beyond what a record holds, it is checkpointed and found again all the same."""

from __future__ import annotations

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer

from streamproc.core.checkpoint import resume, snapshot
from streamproc.core.engine import PartitionState
from streamproc.engine.app import MESSAGE_BYTES
from streamproc.engine.checkpoints import Checkpoints, read
from streamproc.engine.snapshots import Snapshots, find
from streamproc.kafka import clients
from streamproc.settings.connection import Connection
from tests.core.oracle import HERE, NOW, OPTIONS, Reading, Record, feed, new_state, whole

pytestmark = pytest.mark.live

#: Of 13 bytes each: two records and a half.
READINGS = 2_200_000


def flooded() -> PartitionState:
    """A state of two blocks, of which one remembers this many readings of one second."""
    state = new_state()
    feed(state, [Record(NOW, tuple(Reading(name, 1.0, NOW) for name in HERE[:300]), HERE[-1])])
    numbers = np.arange(READINGS, dtype=np.int64)
    state.recent.of(state.recent.generation(NOW)).add(numbers % 200, NOW + numbers % 1_000, numbers)
    return state


async def test_a_flood_is_checkpointed(bootstrap: Connection, topics: str) -> None:
    """What is read back is the state to the bit, as a checkpoint and as a snapshot."""
    state = flooded()
    producer: AIOKafkaProducer = clients.producer(bootstrap, max_request_size=MESSAGE_BYTES)
    await producer.start()
    try:
        mine = Checkpoints(producer, f"{topics}checkpoints", 0)
        low = await mine.write(mine.snapshot(state))
        await Snapshots(producer, f"{topics}snapshots", 0).write(snapshot(state))
    finally:
        await producer.stop()
    found = await read(bootstrap, f"{topics}checkpoints", {0: low})
    assert sorted(found[0]) == [b"0/0", b"0/1", b"0/2", b"1", b"head"]
    restored = mine.restore(OPTIONS, found[0])
    assert restored is not None
    assert whole(restored) == whole(state)
    taken = (await find(bootstrap, f"{topics}snapshots", {0: state.next_offset}))[0]
    assert whole(resume(OPTIONS, taken)) == whole(state)
