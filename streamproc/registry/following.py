"""How a stage waits until it has read the registry as far as a chunk of records needs it."""

from __future__ import annotations

from typing import Protocol

from streamproc.core.chunk import Chunk
from streamproc.core.registry import RegistryLog


class Followed(Protocol):
    """The registry as `registry.view.Registry` follows it."""

    log: RegistryLog

    async def reached(self, position: int) -> bool:
        """Wait until `log` has come to this position; False where the topic ends before it."""

    async def caught_up(self) -> None:
        """Wait until `log` has all that was on the topic when this was asked."""


class Whole:
    """A registry that is complete: all of it is in `log`, and nothing more comes."""

    def __init__(self, log: RegistryLog | None = None) -> None:
        self.log = log or RegistryLog()

    async def reached(self, position: int) -> bool:
        """Whether it is as long."""
        return self.log.position >= position

    async def caught_up(self) -> None:
        """It is."""


async def read_for(registry: Followed, chunk: Chunk, position: int, *, begins: bool) -> bool:
    """Wait until the registry is read as far as a chunk needs it; its partition has reached `position` (-1: none).

    Where judging `begins` here, that is as far as the position, too, and without one, all that there is. False where the
    topic ends before the position: it was made anew.
    """
    known = True
    if begins and not (position >= 0 and await registry.reached(position)):
        known = position < 0
        await registry.caught_up()
    for wanted in sorted({wanted for _, wanted in chunk.edits()}):
        if wanted > position and not await registry.reached(wanted):
            break
    return known
