"""Decides, at each record of `readings`, which device each sensor belongs to: by the registry, exactly as the engine does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from time import monotonic
from typing import NamedTuple

import structlog

from streamproc.core.chunk import Chunk
from streamproc.core.ownership import Owners
from streamproc.core.registry import parts
from streamproc.errors import KafkaUnavailable
from streamproc.registry.following import Followed, read_for
from streamproc.sink import metrics

#: What takes no longer than this is no wait: reading on in memory.
_WAIT_S = 0.001

_log = structlog.get_logger(__name__)


class Judged(NamedTuple):
    """The position of the registry that a chunk's records are judged by, and the owners as of that position."""

    position: int
    owners: Owners


class Judge:
    """Gives the records of `readings` the registry that they are judged by; waits for it for at most `wait_s`."""

    def __init__(self, registry: Followed, wait_s: float) -> None:
        self._registry, self._wait_s = registry, wait_s
        self._owners = Owners(registry.log)

    async def read_for(self, chunks: Sequence[Chunk], position: int) -> None:
        """Wait until the registry is read as far as a partition's chunks need it, which has reached this position (-1: none).

        Raises KafkaUnavailable where that takes too long.
        """
        began, chunk = monotonic(), chunks[0]
        try:
            async with asyncio.timeout(self._wait_s):
                # All that is there, which takes half a second to know, is asked for once: the records are here already.
                known = await read_for(self._registry, chunk, position, begins=True)
                for later in chunks[1:]:
                    await read_for(self._registry, later, position, begins=False)
        except TimeoutError:
            raise KafkaUnavailable(
                f"the topic `registry` was not read within {self._wait_s:.0f} s as far as {chunk.topic}/{chunk.partition} "
                f"needs it from offset {chunk.offsets[0]} on (read up to {self._registry.log.position}): see that it is "
                "there, and that this user of Kafka may read it"
            ) from None
        finally:
            if (waited := monotonic() - began) > _WAIT_S:
                metrics.REGISTRY_WAITED.inc(waited)
        if not known:
            metrics.REGISTRY_ANEW.inc()
            _log.warning(
                "registry ends before the position in the database: judged as of the time of its records",
                topic=chunk.topic,
                partition=chunk.partition,
                offset=int(chunk.offsets[0]),
                position=position,
                registry=self._registry.log.position,
            )

    def begin(self, chunk: Chunk, position: int) -> int:
        """The position that the chunk's first record is judged by, unless that record names another."""
        return self._registry.log.begin(position, int(chunk.timestamps[0]))

    def parts(self, chunk: Chunk, position: int) -> Iterator[tuple[Chunk, Judged]]:
        """The chunk cut where its records move the position, each part with what it is judged by."""
        if self._owners.registry is not self._registry.log:  # read anew, after the broker was away
            self._owners = Owners(self._registry.log)
        for part, judged_by in parts(chunk, position, self._registry.log):
            yield part, Judged(judged_by, self._owners)
