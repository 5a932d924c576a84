"""A partition in a worker, with a producer that can refuse."""

from __future__ import annotations

import asyncio
from time import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prometheus_client import REGISTRY

from streamproc.core.chunk import TICK, Chunk, Headers
from streamproc.core.engine import Options, PartitionState
from streamproc.core.registry import RegistryLog
from streamproc.engine.checkpoints import Checkpoints
from streamproc.engine.partition import Partition
from streamproc.errors import CheckpointError
from streamproc.records import Range, SensorEntry
from streamproc.records.alerting import PolicyEntry
from streamproc.registry.following import Whole


class Refusing:
    """A producer that takes `room` messages and refuses the next one, as a full or closed one does."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.topics: list[str] = []
        #: Keys and values; none are a message's that has neither.
        self.sent: list[tuple[bytes, bytes]] = []

    async def send(
        self, topic: str, value: bytes | None = None, key: bytes | None = None, *_: object, **__: object
    ) -> asyncio.Future[Any]:
        """Take a message, and have Kafka confirm it at once."""
        if len(self.topics) == self.room:
            raise ConnectionError("no room")
        self.topics.append(topic)
        self.sent.append((key or b"", value or b""))
        confirmed = asyncio.get_running_loop().create_future()
        confirmed.set_result(SimpleNamespace(offset=len(self.topics) - 1))
        return confirmed


def held(producer: Refusing) -> Partition:
    """A new partition that sends by this producer."""
    state, checkpoints = PartitionState(Options("readings", 0, 1)), Checkpoints(producer, "checkpoints", 0)
    return Partition(state, checkpoints, producer, Whole(), str)


async def test_a_chunk_whose_outputs_were_not_all_sent_is_never_checkpointed() -> None:
    """The worker ends then, and its last checkpoint must not stand for outputs that nobody has."""
    producer = Refusing(room=1)
    partition = held(producer)
    bad = Chunk("readings", 0, np.arange(3), np.full(3, 1_700_000_000_000), [b"no", b"JSON", b"here"])
    further = Chunk("readings", 0, np.arange(3, 4), np.full(1, 1_700_000_000_000), [b"no JSON"])
    await partition.process(bad)
    with pytest.raises(ConnectionError):
        await partition.checkpoint()
    producer.room = 100
    with pytest.raises(ConnectionError):
        await partition.process(further)
    with pytest.raises(ConnectionError):
        await partition.checkpoint()
    assert producer.topics == ["dead-letter"]


def test_checkpoints_of_all_partitions_share_their_part_of_the_time() -> None:
    """One that takes 0.1 s of CPU time is written every 5 s by itself, and every 20 s where there are four."""
    producer = Refusing(room=0)
    partition = held(producer)
    partition.state.next_offset, partition.checkpoint_cpu_s = 1, 0.1
    partition.checkpointed -= 6
    assert partition.due(1.0, 1)
    assert not partition.due(1.0, 4)
    partition.checkpointed -= 15
    assert partition.due(1.0, 4)


async def test_a_chunk_that_was_not_taken_in_whole_is_never_checkpointed() -> None:
    """What ends the worker in the midst of a chunk leaves a state that stands for no place in the stream."""
    producer = Refusing(room=100)
    partition = held(producer)
    values: list[Any] = [b"no JSON", 3]
    with pytest.raises(TypeError):
        await partition.process(Chunk("readings", 0, np.arange(2), np.full(2, 1_700_000_000_000), values))
    with pytest.raises(CheckpointError):
        await partition.checkpoint()


async def test_a_block_too_large_for_a_record_is_in_several() -> None:
    """It comes back as it was: grown beyond a record, and beyond more, and small again; cut off amid it, as it was before."""
    producer, options = Refusing(room=1_000), Options("readings", 78, 79)
    checkpoints = Checkpoints(producer, "checkpoints", 78)
    partition = Partition(PartitionState(options), checkpoints, producer, Whole(), str)
    kept: list[tuple[bytes, bytes]] = []
    for offset, limit in enumerate((100_000, 700, 300, 400, 100_000)):
        value: list[bytes | None] = [b'{"sensor_id": "s", "value": %d, "ts": 1700000000}' % offset]
        await partition.process(
            Chunk("readings", 78, np.array([offset]), np.array([1_700_000_000_000]), value)
        )
        checkpoints.limit, before = limit, len(producer.topics)
        _, low = await partition.checkpoint()
        made = producer.sent[before:]
        assert low == before  # nothing older is needed
        assert (len(made) == 2) == (limit == 100_000)
        assert restored(options, kept + made) == (offset + 1, offset + 1)
        if offset:
            assert restored(options, [*kept, *made[:-2], made[-1]]) == (offset, offset)
        kept += made


def restored(options: Options, records: list[tuple[bytes, bytes]]) -> tuple[int, int]:
    """Where the state in these records of a checkpoints' topic goes on, and how many readings it remembers."""
    found: dict[bytes, list[tuple[int, bytes]]] = {}
    for at, (key, value) in enumerate(records):
        found.setdefault(key, []).append((at, value))
    state = Checkpoints(Refusing(0), "checkpoints", options.partition).restore(options, found)
    assert state is not None
    return state.next_offset, len(state.recent)


async def test_what_comes_again_is_passed_over_and_counted() -> None:
    """A rebalance may hand over records once more: they are no second reading, and the metric tells of them."""

    def passed_over() -> float:
        return REGISTRY.get_sample_value("streamproc_engine_passed_over_total", {"partition": "77"}) or 0.0

    producer = Refusing(room=100)
    state = PartitionState(Options("readings", 77, 78))
    partition = Partition(state, Checkpoints(producer, "checkpoints", 77), producer, Whole(), str)
    values = [b'{"sensor_id": "s", "value": %d}' % number for number in range(5)]
    whole = Chunk("readings", 77, np.arange(5), np.full(5, 1_700_000_000_000), values)
    before = passed_over()
    await partition.process(whole.cut(0, 3))
    assert passed_over() == before
    await partition.process(whole)
    await partition.process(whole)
    assert passed_over() == before + 3 + 5
    assert state.next_offset == 5


@pytest.mark.parametrize(("ago_ms", "ticks"), [(3_500_000, 0), (3_700_000, 1)])
async def test_a_reminder_that_is_due_moves_a_silent_partition(ago_ms: int, ticks: int) -> None:
    """A tick comes once it is, and not before; the record that the tick is brings it."""
    log = RegistryLog()
    log.append(0, 0, "s", SensorEntry("s", warning=Range(0, 80)))
    policy = PolicyEntry("*", remind_seconds=3_600.0)
    log.append_document(1, 0, policy.key, policy)
    producer = Refusing(room=1_000)
    state = PartitionState(Options("readings", 0, 1))
    partition = Partition(state, Checkpoints(producer, "checkpoints", 0), producer, Whole(log), str)
    now = round(1_000 * time())

    async def take(at: int, value: bytes | None, headers: Headers = ()) -> None:
        offset = state.next_offset
        given = {0: headers} if headers else {}
        await partition.process(Chunk("readings", 0, np.array([offset]), np.array([at]), [value], given))
        await asyncio.gather(*partition.outbox.waiting())

    await take(now - ago_ms, b'{"sensor_id": "s", "value": 90}')
    await take(now - ago_ms + 60_000, None, ((TICK, b"1"),))  # no window is open any more
    await partition.tick(0.0, state.next_offset)
    await take(now, None, ((TICK, b"1"),))
    assert producer.topics.count("readings") == ticks
    assert producer.topics.count("notifications") == 1 + ticks
