"""What a job's code is given: the database, counters, and word when it must end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from math import inf
from typing import TypeVar

from streamproc.monitor.standing import Standing
from streamproc.store.job_runs import JobStore

T = TypeVar("T")

#: A run's work gives up a database that has been away for so long: the reference's half an hour for a job.
PATIENCE_S = 1_800.0


class Stopped(Exception):  # noqa: N818  # no error: the run is asked to end
    """The run must end here: its process ends, or another process has taken over."""


class Asking:
    """Calls the database, again and again while it is away, until `stop` is set."""

    def __init__(
        self, store: JobStore, standing: Standing, stop: asyncio.Event, patience_s: float = inf
    ) -> None:
        self.store, self._standing, self._stop, self._patience_s = store, standing, stop, patience_s

    async def ask(self, call: Callable[[], Awaitable[T]]) -> T:
        """The call's result; raises Stopped, or StoreUnavailable when it has waited too long."""
        return await self._standing.patiently(call, pause=self.rest, patience_s=self._patience_s)

    async def rest(self, seconds: float) -> None:
        """Do nothing for so long; raises Stopped as soon as the run is to end."""
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return
        raise Stopped


class Progress(Asking):
    """A run under way, as its work sees it. `counts`, and `faults` (parts that failed), are recorded at the end."""

    def __init__(
        self,
        store: JobStore,
        standing: Standing,
        stop: asyncio.Event,
        now: int,
        patience_s: float = PATIENCE_S,
    ) -> None:
        super().__init__(store, standing, stop, patience_s)
        self.now = now
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []


#: A job's work; it raises what it cannot bear, and Stopped where a call of its Progress does.
Work = Callable[[Progress], Awaitable[None]]
