"""One run of a job: claims it, holds it while it works, and writes down how it ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from uuid import uuid4

import structlog

from streamproc.errors import StoreError, StoreUnavailable
from streamproc.jobs import metrics
from streamproc.jobs.catalogue import Job
from streamproc.jobs.schedule import Due
from streamproc.jobs.work import Asking, Progress, Stopped
from streamproc.monitor.standing import Standing
from streamproc.process import epoch_ms
from streamproc.store.job_runs import Ended, Ending, JobStore, RunClaim, StartedBy

#: So long after the death of its process a job is taken over: longer than the clocks of machines differ, and than a database
#: restarts.
LEASE_S = 60.0
#: Four tries in a lease.
RENEW_S = 15.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Times:
    """How long a claim lasts, how often it is renewed, and how long to wait for a database that is away."""

    lease_s: float = LEASE_S
    renew_s: float = RENEW_S
    patience_s: float = inf


class Runner:
    """Runs jobs for one process, one at a time, until `stop` is set."""

    def __init__(
        self,
        store: JobStore,
        stop: asyncio.Event,
        times: Times | None = None,
        clock: Callable[[], int] = epoch_ms,
    ) -> None:
        self.store, self.clock = store, clock
        self.standing = Standing(metrics.RETRIES)
        #: The job that it is at.
        self.at: str | None = None
        self._stop, self._times = stop, times or Times()
        self.asking = Asking(store, self.standing, stop, self._times.patience_s)
        self._by = uuid4().hex

    async def run(self, job: Job, started_by: StartedBy, due: Due) -> Ended | None:
        """Run a job to its end; None if another process has it or takes it over. Raises Stopped before it begins."""
        now = self.clock()
        schedule = str(job.schedule) if started_by == "schedule" else ""
        claim = RunClaim(job.name, started_by, schedule, due.at, due.attempt, self._by, now, self._until(now))
        number = await self.asking.ask(lambda: self.store.claim_run(claim))
        if number is None:
            return None
        _log.info("job began", job=job.name, run=number, started_by=started_by, attempt=due.attempt)
        began, self.at = time.monotonic(), job.name
        try:
            ended = await self._worked(job, number)
            seconds = time.monotonic() - began
            if ended is not None and not await self._settled(number, ended):
                ended = None
        finally:
            self.at = None
        metrics.RUNS.labels(job=job.name, outcome=ended.outcome if ended else "lost").inc()
        metrics.SECONDS.labels(job=job.name).observe(seconds)
        _tell(job, number, ended, seconds)
        return ended

    def _until(self, now: int) -> int:
        return now + round(self._times.lease_s * 1000)

    async def _worked(self, job: Job, number: int) -> Ended | None:
        """How the work ended, or None where the job was lost to another process."""
        end = asyncio.Event()
        progress = Progress(self.store, self.standing, end, self.clock())
        work = asyncio.create_task(_outcome(job, progress), name=job.name)
        kept, stopped = asyncio.create_task(self._kept(number)), asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait([work, kept, stopped], return_when=asyncio.FIRST_COMPLETED)
            end.set()
            outcome, error = await work
            if kept.done():
                kept.result()
                return None
            return Ended(outcome, self.clock(), dict(progress.counts), error)
        finally:
            for task in (work, kept, stopped):
                task.cancel()
            await asyncio.gather(work, kept, stopped, return_exceptions=True)

    async def _kept(self, number: int) -> None:
        """Hold the job on; returns where it is another's by now."""
        held = True
        while held:
            await asyncio.sleep(self._times.renew_s)
            try:
                held = await self.store.renew_run(number, self._by, self._until(self.clock()))
            except StoreUnavailable as error:
                # Whoever would take it over cannot reach the database either, mostly.
                _log.warning("job not held on, trying again", run=number, reason=str(error), code=error.code)

    async def _settled(self, number: int, ended: Ended) -> bool:
        try:
            return await self.asking.ask(lambda: self.store.settle_run(number, self._by, ended))
        except Stopped:
            return False


async def _outcome(job: Job, progress: Progress) -> tuple[Ending, str | None]:
    """How the work ends, and why where it fails."""
    try:
        await job.work(progress)
    except Stopped:
        return "stopped", "its process was asked to end"
    except StoreError as error:
        return "failed", str(error)
    except Exception as error:  # noqa: BLE001  # one job that has a fault must not keep the others from running
        _log.exception("job failed", job=job.name)
        return "failed", f"{type(error).__name__}: {error}"
    if progress.faults:
        return "failed", "; ".join(progress.faults)
    return "done", None


def _tell(job: Job, number: int, ended: Ended | None, seconds: float) -> None:
    told = {"job": job.name, "run": number, "seconds": round(seconds, 1)}
    if ended is None:
        _log.warning("job is held by another process by now", **told)
    elif ended.outcome == "failed":
        _log.error("job ended", outcome=ended.outcome, reason=ended.error, **told, **ended.counts)
    else:
        _log.info("job ended", outcome=ended.outcome, **told, **ended.counts)
