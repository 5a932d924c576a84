"""Checkpoints on their compacted topic: written block by block, read back when a partition is taken over.

Partition p of the topic `checkpoints` belongs to partition p of `readings`. Keys are `head` and the number of a block.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

import structlog
from aiokafka import TopicPartition

from streamproc.core.checkpoint import BLOCK_BYTES, Snapshot, encode, restore
from streamproc.core.engine import Options, PartitionState
from streamproc.errors import CheckpointError
from streamproc.kafka.reading import Manner, bounds, consuming, records
from streamproc.settings.connection import Connection

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer

#: Each checkpoint also writes one clean block in so many, the one written longest ago: so the live part of the topic, which a
#: restart has to read, stays short, and each block is written again every 64 checkpoints.
REFRESH = 64
#: A partition's whole state at 25,000 sensors is 25 MB; far more than that is no state but a hanging broker.
READ_TIMEOUT_S = 60.0
#: A whole state comes in a few fetches.
IN_BULK = Manner(fetch_bytes=8 * 1024 * 1024)

_log = structlog.get_logger(__name__)


class Checkpoints:
    """The checkpoints of one partition."""

    def __init__(self, producer: AIOKafkaProducer, topic: str, partition: int) -> None:
        self.producer, self.topic, self.partition = producer, topic, partition
        self.written: list[int] = []
        #: Bytes of a block, at most.
        self.limit = BLOCK_BYTES
        self._at: dict[bytes, int] = {}
        self.bytes = 0

    def snapshot(self, state: PartitionState) -> Snapshot:
        """What has changed since the last one; nothing may be awaited between this and the step before it.

        Raises CheckpointTooLargeError, and then all of it has still changed.
        """
        blocks = sorted((at, int(key)) for key, at in self._at.items() if key != b"head")
        for _, number in blocks[: -(-len(blocks) // REFRESH)]:
            state.dirty[number] = True
        return encode(state, self.written, self.limit)

    async def write(self, snapshot: Snapshot) -> int:
        """Write it; once Kafka has all of it, the lowest offset of the topic that a restart has to read from."""
        parts = {str(number).encode(): block for number, block in snapshot.blocks.items()} | {
            b"head": snapshot.head
        }
        sent = {
            key: await self.producer.send(self.topic, value, key, partition=self.partition)
            for key, value in parts.items()
        }
        for key, acknowledged in sent.items():
            self._at[key] = (await acknowledged).offset
        self.bytes = sum(map(len, parts.values()))
        return min(self._at.values())

    def restore(
        self, options: Options, found: Mapping[bytes, list[tuple[int, bytes]]]
    ) -> PartitionState | None:
        """The state that the records found by `read` hold, or None where there are none; raises CheckpointError."""
        if not found:
            return None
        if b"head" not in found:
            raise CheckpointError("a checkpoint has no head")
        state, self.written = restore(
            options,
            [value for _, value in found[b"head"]],
            {int(key): [value for _, value in versions] for key, versions in found.items() if key != b"head"},
        )
        self._at = {key: max(at for at, _ in versions) for key, versions in found.items()}
        return state


async def read(
    kafka: Connection, topic: str, starts: Mapping[int, int]
) -> dict[int, dict[bytes, list[tuple[int, bytes]]]]:
    """All records of these partitions of the checkpoints' topic from these offsets on: partition → key → (offset, value)."""
    found: dict[int, dict[bytes, list[tuple[int, bytes]]]] = {partition: {} for partition in starts}
    places = [TopicPartition(topic, partition) for partition in starts]
    async with consuming(kafka, IN_BULK) as consumer:
        spans = {
            place: (max(starts[place.partition], begin), end)
            for place, (begin, end) in (await bounds(consumer, places)).items()
        }
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                async for come in records(consumer, spans):
                    for place, some in come.items():
                        for record in some:
                            if record.key is not None and record.value is not None:
                                found[place.partition].setdefault(record.key, []).append(
                                    (record.offset, record.value)
                                )
        except TimeoutError:
            raise CheckpointError(
                f"the checkpoints on {topic} could not be read within {READ_TIMEOUT_S:.0f} s"
            ) from None
    return found
