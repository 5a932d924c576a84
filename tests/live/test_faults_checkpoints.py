"""Checkpoints that are damaged, of another version or of another topic: told, and never the cause of wrong numbers."""

from __future__ import annotations

import os
import pickle
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import TopicPartition

from streamproc.core.checkpoint import FORMAT
from streamproc.kafka import clients
from streamproc.settings.connection import Connection
from tests.live.feed import send, signal
from tests.live.oracle import PARTITIONS
from tests.live.pipeline import Pipeline, running_pipeline

TOLD = "checkpoint cannot be used"

Parts = dict[bytes, bytes]


class Bomb:
    """What pickle would run when it reads this: a command that leaves a file behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        """Touch the file."""
        return os.system, (f"touch {self.trace}",)


def sealed(body: bytes) -> bytes:
    """A part of a checkpoint as it is written: its checksum is right, whatever is in it."""
    return zlib.crc32(body).to_bytes(4, "little") + body


def opened(part: bytes) -> list[Any]:
    """What a part of a checkpoint holds."""
    fields: list[Any] = msgspec.msgpack.decode(part[4:])
    return fields


def of_version(part: bytes, version: int) -> bytes:
    """The same part of another version."""
    return sealed(msgspec.msgpack.encode([version, *opened(part)[1:]]))


def flipped(part: bytes) -> bytes:
    """The part with one bit turned over, in its middle."""
    middle = len(part) // 2
    return part[:middle] + bytes([part[middle] ^ 1]) + part[middle + 1 :]


def bombed(part: bytes, bomb: Bomb) -> bytes:
    """The part, one record further, with a pickle in place of its first bytes column."""
    fields = opened(part)
    fields[2] += 1  # of two blocks that are as far the first one counts
    at = next(i for i, field in enumerate(fields) if isinstance(field, bytes))
    return sealed(msgspec.msgpack.encode([*fields[:at], pickle.dumps(bomb), *fields[at + 1 :]]))


def more_blocks(part: bytes) -> bytes:
    """A head that counts on a block that was never written."""
    fields = opened(part)
    blocks = next(i for i, field in enumerate(fields) if isinstance(field, list))
    fields[blocks] = [*fields[blocks], fields[2]]
    fields[2] += 1  # of two heads that are as far the first one counts
    return sealed(msgspec.msgpack.encode(fields))


#: What the error line says, and the parts to be written over a partition's.
DAMAGES: list[tuple[str, Callable[[Parts, Bomb], Parts]]] = [
    ("damaged: ", lambda parts, _: {b"0": parts[b"0"][:-100]}),
    ("damaged: 0 bytes", lambda *_: {b"0": b""}),
    ("a block of a checkpoint is damaged", lambda parts, _: {b"0": flipped(parts[b"0"])}),
    ("a head of a checkpoint is damaged", lambda parts, _: {b"head": flipped(parts[b"head"])}),
    (f"format {FORMAT - 1}", lambda parts, _: {b"0": of_version(parts[b"0"], FORMAT - 1)}),
    (f"format {FORMAT + 1}", lambda parts, _: {b"head": of_version(parts[b"head"], FORMAT + 1)}),
    ("block 1 of a checkpoint is missing", lambda parts, _: {b"head": more_blocks(parts[b"head"])}),
    ("damaged: ", lambda _, bomb: {b"0": pickle.dumps(bomb)}),
    ("another layout", lambda _, bomb: {b"0": sealed(pickle.dumps(bomb))}),
    ("does not fit together", lambda parts, bomb: {b"0": bombed(parts[b"0"], bomb)}),
]


async def newest(line: Pipeline, partition: int) -> Parts:
    """The last version of each part of the partition's checkpoint."""
    place = TopicPartition(f"{line.site.prefix}checkpoints", partition)
    consumer = clients.consumer(line.site.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    parts: Parts = {}
    try:
        consumer.assign([place])
        (end,) = (await consumer.end_offsets([place])).values()
        while await consumer.position(place) < end:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                parts |= {record.key: record.value for record in records}
    finally:
        await consumer.stop()
    return parts


async def feed(line: Pipeline, made: Iterator[list[tuple[str, bytes]]], seconds: int) -> None:
    """Send so much of the made signal."""
    for batch in islice(made, seconds):
        for device, value in batch:
            await send(line.producer, line.topic, device, value)
    await line.producer.flush()


@pytest.mark.timeout(400)
async def test_damaged_checkpoints_are_told_and_built_anew(bootstrap: Connection, tmp_path: Path) -> None:
    """Whatever is wrong with it, an error line says what, the state is built from the topic, and no result changes.

    Each time another damage in each of the partitions.
    """
    bomb = Bomb(tmp_path / "the-bomb-went-off")
    made = signal(12, 10_000)
    async with running_pipeline(bootstrap, tmp_path, "worker") as line:
        worker = line.site.stages[0]
        for first in range(0, len(DAMAGES), PARTITIONS):
            await feed(line, made, 10)
            before = await line.until_settled()
            assert (await worker.terminate())[0] == 0
            reasons = {}
            for partition, (reason, damage) in enumerate(DAMAGES[first : first + PARTITIONS]):
                reasons[partition] = reason
                for key, value in damage(await newest(line, partition), bomb).items():
                    topic = f"{line.site.prefix}checkpoints"
                    await line.producer.send_and_wait(topic, value, key, partition=partition)
            worker = await line.site.worker()
            told = {line["partition"]: line for line in worker.told(TOLD)}
            assert told.keys() == reasons.keys()
            assert all(reason in told[partition]["reason"] for partition, reason in reasons.items()), told
            assert {line["level"] for line in told.values()} == {"error"}
            await feed(line, made, 5)
            after = await line.until_settled()
            assert not after.lacks(before)
    assert not bomb.trace.exists()
