"""Checkpoints on their compacted topic: written block by block, read back when a partition is taken over.

Partition p of the topic `checkpoints` belongs to partition p of `readings`. Keys are `head` and the block's number; a block
that is too large for one record is split, with keys `number/place`.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from aiokafka import TopicPartition

from streamproc.core.checkpoint import Snapshot, encode, restore
from streamproc.core.engine import Options, PartitionState
from streamproc.core.pieces import PIECE_BYTES, labelled, sliced, whole
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


class Checkpoints:
    """The checkpoints of one partition."""

    def __init__(self, producer: AIOKafkaProducer, topic: str, partition: int) -> None:
        self.producer, self.topic, self.partition = producer, topic, partition
        self.written: list[int] = []
        #: Bytes of a block in one record, at most.
        self.limit = PIECE_BYTES
        #: Where each key lies that the newest checkpoint is made of.
        self._at: dict[bytes, int] = {}
        self.bytes = 0

    def snapshot(self, state: PartitionState) -> Snapshot:
        """What has changed since the last checkpoint; nothing may be awaited between the last step and this call."""
        oldest = dict[int, int]()
        for key, at in self._at.items():
            if (number := _number(key)) is not None:
                oldest[number] = min(at, oldest.get(number, at))
        for number in sorted(oldest, key=oldest.__getitem__)[: -(-len(oldest) // REFRESH)]:
            state.dirty[number] = True
        return encode(state, self.written)

    async def write(self, snapshot: Snapshot) -> int:
        """Write it; returns, once Kafka has all of it, the lowest offset of the topic that a restart has to read from."""
        parts = self._parts(snapshot) | {b"head": snapshot.head}
        sent = {
            key: await self.producer.send(self.topic, value, key, partition=self.partition)
            for key, value in parts.items()
        }
        for key in [key for key in self._at if _number(key) in snapshot.blocks]:
            del self._at[key]  # it may have been in more pieces, or in none
        for key, acknowledged in sent.items():
            self._at[key] = (await acknowledged).offset
        self.bytes = sum(map(len, parts.values()))
        return min(self._at.values())

    def _parts(self, snapshot: Snapshot) -> dict[bytes, bytes]:
        """The blocks by their keys."""
        parts = {}
        for number, block in snapshot.blocks.items():
            if len(block) <= self.limit:
                parts[b"%d" % number] = block
            else:
                pieces = labelled(snapshot.next_offset, sliced(block, self.limit))
                parts |= {b"%d/%d" % (number, place): piece for place, piece in enumerate(pieces)}
        return parts

    def restore(
        self, options: Options, found: Mapping[bytes, list[tuple[int, bytes]]]
    ) -> PartitionState | None:
        """The state in the records found by `read`, or None if there are none; raises CheckpointError."""
        if not found:
            return None
        if b"head" not in found:
            raise CheckpointError("a checkpoint has no head")
        heads = [value for _, value in found[b"head"]]
        state, self.written = restore(options, heads, _versions(found))
        self._at = {key: max(at for at, _ in versions) for key, versions in found.items()}
        return state


def _number(key: bytes) -> int | None:
    """The block that a key is of; None for the head's."""
    return None if key == b"head" else int(key.partition(b"/")[0])


def _versions(found: Mapping[bytes, list[tuple[int, bytes]]]) -> dict[int, list[bytes]]:
    """The versions of each block that are whole."""
    versions, pieces = defaultdict[int, list[bytes]](list), defaultdict[int, list[bytes]](list)
    for key, values in found.items():
        if (number := _number(key)) is not None:
            (pieces if b"/" in key else versions)[number] += [value for _, value in values]
    for number, its in pieces.items():
        versions[number] += whole(its)
    return versions


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
