"""Looks regularly for jobs that are due, and runs them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from streamproc.jobs.catalogue import Job
from streamproc.jobs.runner import Runner
from streamproc.jobs.schedule import RUNS_LOOKED_AT, due, of_schedule
from streamproc.jobs.work import Stopped
from streamproc.store.job_runs import JobStore, Run

#: The time between two looks: schedules count minutes, and a look takes a millisecond.
LOOK_S = 5.0


class Seen(NamedTuple):
    """A job's runs, newest first, by schedule and by command."""

    scheduled: list[Run]
    commanded: list[Run]

    def last(self) -> Run | None:
        """The run that began last."""
        runs = [run for run in (*self.scheduled, *self.commanded) if run.outcome != "enrolled"]
        return max(runs, key=lambda run: run.number, default=None)

    def last_done(self) -> Run | None:
        """The last that did all its work."""
        runs = [run for run in (*self.scheduled, *self.commanded) if run.outcome == "done"]
        return max(runs, key=lambda run: run.number, default=None)


async def seen(store: JobStore, job: Job) -> Seen:
    """A job's runs in the database."""
    return Seen(
        await store.runs(job.name, "schedule", RUNS_LOOKED_AT),
        await store.runs(job.name, "command", RUNS_LOOKED_AT),
    )


class Desk:
    """The jobs of one process; several processes may have the same."""

    def __init__(self, jobs: Sequence[Job], runner: Runner, look_s: float = LOOK_S) -> None:
        self.jobs, self.runner = jobs, runner
        self.seen: dict[str, Seen] = {}
        self._look_s = look_s

    async def run(self, stop: asyncio.Event) -> None:
        """Look until `stop` is set."""
        try:
            while not stop.is_set():
                await self.look()
                await self.runner.asking.rest(self._look_s)
        except Stopped:
            return

    async def look(self) -> None:
        """Run what is due now, one after the other; raises Stopped where the process is asked to end meanwhile."""
        for job in self.jobs:
            await self._see(job)
            if job.schedule is None:
                continue
            now = self.runner.clock()
            if not of_schedule(job.schedule, self.seen[job.name].scheduled):
                schedule, since = str(job.schedule), job.schedule.last(now)
                await self.runner.asking.ask(
                    lambda: self.runner.store.enroll_job(job.name, schedule, since, now)  # noqa: B023  # awaited here
                )
                await self._see(job)
            wanted = due(job.schedule, self.seen[job.name].scheduled, now)
            if wanted is not None:
                await self.runner.run(job, "schedule", wanted)
                await self._see(job)

    async def _see(self, job: Job) -> None:
        self.seen[job.name] = await self.runner.asking.ask(lambda: seen(self.runner.store, job))
