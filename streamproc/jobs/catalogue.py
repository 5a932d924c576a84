"""The jobs, as the settings configure them."""

from __future__ import annotations

from dataclasses import dataclass

from streamproc.jobs.cleanup import Cleanup
from streamproc.jobs.schedule import Schedule
from streamproc.jobs.work import Work
from streamproc.settings import Settings
from streamproc.settings.jobs import OFF


@dataclass(frozen=True, slots=True)
class Job:
    """A job: its name, a line of description, its schedule (None: only by command), and its work.

    `called` is what users of the systems before call it.
    """

    name: str
    does: str
    schedule: Schedule | None
    work: Work
    called: str = ""


def jobs(settings: Settings) -> list[Job]:
    """All jobs, in the order in which they run if several are due."""
    return [
        Job(
            "cleanup",
            "delete rows that are older than they are to be kept",
            _schedule(settings.cleanup_schedule, settings),
            Cleanup(settings.retentions_ms),
            called="cleanup_metrics",
        )
    ]


def find(name: str, among: list[Job]) -> Job | None:
    """The job with this name, or with this name in the systems that streamproc replaces."""
    return next((job for job in among if name in (job.name, job.called)), None)


def _schedule(expression: str, settings: Settings) -> Schedule | None:
    return None if expression == OFF else Schedule(expression, settings.jobs_timezone)
