"""The process `streamproc jobs`, and one run by command."""

from __future__ import annotations

import asyncio
from time import monotonic

import structlog

from streamproc.jobs import health
from streamproc.jobs.catalogue import Job, jobs
from streamproc.jobs.desk import Desk, Seen, seen
from streamproc.jobs.runner import Runner, Times
from streamproc.jobs.schedule import Due
from streamproc.jobs.work import PATIENCE_S
from streamproc.monitor import Address, Told, serving
from streamproc.settings import Settings
from streamproc.store import connect_jobs, must_exist
from streamproc.store.closing import CLOSE_S, closed_in_time
from streamproc.store.job_runs import Ended

#: A run that is asked to end has this long for the call that is under way; the whole stop has 5 s.
STOP_S = 4.0

_log = structlog.get_logger(__name__)


async def run(settings: Settings, stop: asyncio.Event) -> bool:
    """Run what is due until `stop` is set; returns whether a run under way at that moment has ended."""
    store = connect_jobs(settings)
    desk = Desk(jobs(settings), Runner(store, stop))
    address = Address(settings.jobs_host, settings.jobs_port, "STREAMPROC_JOBS_PORT")
    told = Told("jobs", lambda: health.checks(desk), lambda: health.gauges(desk))
    async with serving(address, told):
        schedules = {job.name: str(job.schedule or "off") for job in desk.jobs}
        _log.info("jobs", schedules=schedules, database=settings.database_place)
        left_s = 0.0
        try:
            left_s = await _work(desk, stop)
        finally:
            closed = await closed_in_time(store, left_s + CLOSE_S)
    return left_s > 0 and closed


async def run_once(settings: Settings, job: Job, stop: asyncio.Event) -> Ended | None:
    """Run a job now; None if another process runs it. Raises StoreError, or work.Stopped before it begins."""
    must_exist(settings)
    store = connect_jobs(settings)
    runner = Runner(store, stop, Times(patience_s=PATIENCE_S))
    try:
        return await runner.run(job, "command", Due(runner.clock(), 1))
    finally:
        await closed_in_time(store)


async def seen_now(settings: Settings) -> list[tuple[Job, Seen]]:
    """All jobs, with their runs in the database; raises StoreError."""
    must_exist(settings)
    store = connect_jobs(settings)
    try:
        return [(job, await seen(store, job)) for job in jobs(settings)]
    finally:
        await store.close()


async def _work(desk: Desk, stop: asyncio.Event) -> float:
    """Work until asked to end; the seconds of STOP_S that were left when all had come to its end, 0 where it had not."""
    work = asyncio.create_task(desk.run(stop), name="desk")
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([work, stopped], return_when=asyncio.FIRST_COMPLETED)
        asked = monotonic()
        _, late = await asyncio.wait([work], timeout=STOP_S)
        if late:
            _log.warning("ended before the run was: it is taken over once its lease is over")
            return 0.0
        work.result()
        return max(STOP_S - (monotonic() - asked), CLOSE_S)
    finally:
        for task in (work, stopped):
            task.cancel()
        await asyncio.gather(work, stopped, return_exceptions=True)
