"""A partition in a worker, with a producer that can refuse."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from streamproc.core.chunk import Chunk
from streamproc.core.engine import Options, PartitionState
from streamproc.core.registry import RegistryLog
from streamproc.engine.checkpoints import Checkpoints
from streamproc.engine.partition import Partition
from streamproc.errors import CheckpointError


class Refusing:
    """A producer that takes `room` messages and refuses the next one, as a full or closed one does."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.topics: list[str] = []

    async def send(self, topic: str, *_: object, **__: object) -> asyncio.Future[Any]:
        """Take a message, and have Kafka confirm it at once."""
        if len(self.topics) == self.room:
            raise ConnectionError("no room")
        self.topics.append(topic)
        confirmed = asyncio.get_running_loop().create_future()
        confirmed.set_result(None)
        return confirmed


class Read:
    """A registry that is read to its end."""

    def __init__(self) -> None:
        self.log = RegistryLog()

    async def reached(self, position: int) -> bool:
        """Whether it is as long."""
        return self.log.position >= position

    async def caught_up(self) -> None:
        """It is."""


async def test_a_chunk_whose_outputs_were_not_all_sent_is_never_checkpointed() -> None:
    """The worker ends then, and its last checkpoint must not stand for outputs that nobody has."""
    producer = Refusing(room=1)
    partition = Partition(
        PartitionState(Options("readings", 0, 1)),
        Checkpoints(producer, "checkpoints", 0),
        producer,
        Read(),
        str,
    )
    bad = Chunk("readings", 0, np.arange(3), np.full(3, 1_700_000_000_000), [b"no", b"JSON", b"here"])
    with pytest.raises(ConnectionError):
        await partition.process(bad)
    producer.room = 100
    with pytest.raises(CheckpointError):
        await partition.checkpoint()
    assert producer.topics == ["dead-letter"]
