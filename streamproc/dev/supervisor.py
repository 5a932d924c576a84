"""Keeps children running: one that ends is restarted after a growing pause, and the reason is shown."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from streamproc.dev.process import complaints, tail
from streamproc.errors import StreamprocError

#: The first pause: long enough not to spin, short enough not to be felt.
FIRST_PAUSE_S = 0.5
#: The longest pause: a newcomer who has repaired the cause does not wait for more.
LONGEST_PAUSE_S = 30.0
#: A child that has run for so long was well; its next end counts as its first.
STEADY_S = 20.0
#: What is left of the time for stopping to the child that the others work on, however slow they are.
RESERVE_S = 1.0

#: Faust tells some ten steps of its way out after why it goes.
TOLD_LINES = 30


class Running(Protocol):
    """A child that runs: a process or the broker."""

    @property
    def pid(self) -> int:
        """Its process id."""
        ...

    async def wait(self) -> int:
        """Its exit code (negative: the signal) once it has ended."""
        ...

    async def stop(self, timeout_s: float) -> None:
        """End it cleanly, by force after `timeout_s`."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...


@dataclass(frozen=True, slots=True)
class Child:
    """What to keep running, how to start it, the file that it logs to, and whether the others work on it to their end."""

    name: str
    start: Callable[[], Awaitable[Running]]
    log: Path
    base: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """A child ended, or could not be started, though nobody asked; it starts again after `pause_s`."""

    name: str
    reason: str
    last_lines: list[str]
    pause_s: float


@dataclass(frozen=True, slots=True)
class Restarted:
    """A child that had ended runs again."""

    name: str
    pid: int


Notice = Ended | Restarted


def back_off(ends: int) -> float:
    """The pause in seconds before a child starts again that has ended `ends` times in a row.

    >>> [back_off(ends) for ends in (1, 2, 3, 7, 1000)]
    [0.5, 1.0, 2.0, 30.0, 30.0]
    """
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(ends - 1, 16))


def reason(code: int) -> str:
    """An exit code in words.

    >>> reason(2), reason(-9)
    ('ended with exit code 2', 'was killed by SIGKILL')
    """
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


@dataclass(slots=True)
class _Kept:
    child: Child
    log_start: int = 0
    running: Running | None = None
    task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.log_start = self.child.log.stat().st_size if self.child.log.exists() else 0
        self.running = await self.child.start()


@dataclass(slots=True)
class Supervisor:
    """Runs children in the order in which they were added; stops them side by side, and after them what they work on."""

    tell: Callable[[Notice], None]
    _kept: list[_Kept] = field(default_factory=list)

    async def add(self, child: Child) -> Running:
        """Start a child and keep it running; raises what its first start raises."""
        kept = _Kept(child)
        self._kept.append(kept)
        await kept.start()
        assert kept.running is not None
        kept.task = asyncio.create_task(self._keep(kept, kept.running), name=f"keep {child.name}")
        return kept.running

    async def _keep(self, kept: _Kept, running: Running) -> None:
        clock = asyncio.get_running_loop().time
        ends = 0
        while True:
            born = clock()
            why = reason(await running.wait())
            ends = 1 if clock() - born >= STEADY_S else ends + 1
            running, ends = await self._start_again(kept, why, ends)

    async def _start_again(self, kept: _Kept, why: str, ends: int) -> tuple[Running, int]:
        """Start a child until it does; gives it and how often it has ended or failed in a row."""
        while True:
            last_lines = complaints(tail(kept.child.log, kept.log_start, TOLD_LINES))
            self.tell(Ended(kept.child.name, why, last_lines, back_off(ends)))
            kept.running = None
            await asyncio.sleep(back_off(ends))
            try:
                await kept.start()
            except (OSError, StreamprocError) as error:
                why, ends = f"did not start: {error}", ends + 1
                continue
            assert kept.running is not None
            self.tell(Restarted(kept.child.name, kept.running.pid))
            return kept.running, ends

    async def stop(self, within_s: float) -> None:
        """Stop the children; those too slow are killed."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        await self._let_go()
        for base, reserve in ((False, RESERVE_S), (True, 0.0)):
            grace = max(deadline - loop.time() - reserve, RESERVE_S)
            running = [kept.running for kept in self._kept if kept.child.base is base]
            await asyncio.gather(*(child.stop(grace) for child in running if child is not None))
        self._kept.clear()

    async def _let_go(self) -> None:
        """Start nothing again from now on."""
        tasks = [kept.task for kept in self._kept if kept.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def kill(self) -> None:
        """End all children at once; `stop` then returns at once too."""
        for kept in self._kept:
            if kept.task is not None:
                kept.task.cancel()
            if kept.running is not None:
                kept.running.kill()
