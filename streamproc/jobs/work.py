"""What a run's work is given: the database, what it counts, and word that it is to end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from math import inf
from time import monotonic
from typing import TypeVar

import structlog

from streamproc.errors import StoreUnavailable
from streamproc.jobs import metrics
from streamproc.monitor.standing import Standing
from streamproc.store.job_runs import JobStore

T = TypeVar("T")

#: The wait after a call of the database that failed, mostly for a lock of the sink's; doubled up to the longest.
FIRST_PAUSE_S = 0.1
LAST_PAUSE_S = 5.0
#: A run's work gives up a database that has been away for so long: the reference's half an hour for a job.
PATIENCE_S = 1_800.0

_log = structlog.get_logger(__name__)


class Stopped(Exception):  # noqa: N818  # no error: the run is asked to end
    """The run is to end here: the process is, or the job is somebody else's by now."""


class Asking:
    """Calls of the database, tried again while it is away, until `stop` is set."""

    def __init__(
        self, store: JobStore, standing: Standing, stop: asyncio.Event, patience_s: float = inf
    ) -> None:
        self.store, self._standing, self._stop, self._patience_s = store, standing, stop, patience_s

    async def ask(self, call: Callable[[], Awaitable[T]]) -> T:
        """The call's result; raises Stopped, or StoreUnavailable once patience is at its end."""
        failures, began = 0, monotonic()
        while True:
            try:
                with self._standing.asking():
                    return await call()
            except StoreUnavailable as error:
                if monotonic() - began > self._patience_s:
                    raise
                failures += 1
                seconds = min(FIRST_PAUSE_S * 2.0 ** min(failures - 1, 8), LAST_PAUSE_S)
                metrics.RETRIES.labels(reason=error.code).inc()
                _log.warning(
                    "database away, trying again", reason=str(error), code=error.code, in_seconds=seconds
                )
            await self.rest(seconds)

    async def rest(self, seconds: float) -> None:
        """Do nothing for so long; raises Stopped as soon as the run is to end."""
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return
        raise Stopped


class Progress(Asking):
    """A run that is under way, as its work sees it. `counts` is told at the end, and `faults`: parts that failed."""

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
