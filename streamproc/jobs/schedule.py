"""When a job is due: by its schedule and its runs so far. Pure; times are epoch ms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim

from streamproc.store.job_runs import Run

#: Runs of one time that fail or are lost before the next time is waited for: what three did not mend, a person has to.
MOST_TRIES = 3
#: The wait after the first that failed, doubled after the second: a database's maintenance takes minutes.
FIRST_PAUSE_MS = 600_000
#: Runs looked at, the newest first: those of one time, with some that were stopped by restarts among them.
RUNS_LOOKED_AT = 20


class Due(NamedTuple):
    """A scheduled time that a job must run for, and the number of the try."""

    at: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """A cron expression of five fields in a time zone.

    >>> sunday = Schedule("0 4 * * 0", "UTC")
    >>> datetime.fromtimestamp(sunday.last(1_700_000_000_000) / 1000, UTC).isoformat()
    '2023-11-12T04:00:00+00:00'
    """

    expression: str
    zone: str = "UTC"

    def __str__(self) -> str:
        return f"{self.expression} {self.zone}"

    def last(self, now: int) -> int:
        """The newest time that is not after `now`."""
        # It gives times before the second that it is given.
        return self._time(now // 1000 + 1, reverse=True)

    def next(self, now: int) -> int:
        """The first time after `now`."""
        return self._time(now // 1000, reverse=False)

    def local(self, time: int) -> datetime:
        """A time as the schedule's zone has it."""
        return datetime.fromtimestamp(time / 1000, self._zone)

    def _time(self, second: int, *, reverse: bool) -> int:
        found = next(CronSim(self.expression, datetime.fromtimestamp(second, self._zone), reverse=reverse))
        return round(found.timestamp() * 1000)

    @property
    def _zone(self) -> tzinfo:
        # A machine may have no list of time zones.
        return UTC if self.zone == "UTC" else ZoneInfo(self.zone)


def of_schedule(schedule: Schedule, newest_first: Sequence[Run]) -> list[Run]:
    """The job's runs and enrolments since this schedule came into use; none if another schedule has replaced it."""
    found = []
    for run in newest_first:
        if run.started_by == "schedule":
            if run.schedule != str(schedule):
                break
            found.append(run)
    return found


def due(schedule: Schedule, newest_first: Sequence[Run], now: int) -> Due | None:
    """What a job must run for now, if anything; a job without a run or enrolment by this schedule must be enrolled first.

    Of the times that were missed only the newest is made up. What failed is tried again after a pause, MOST_TRIES times in
    all; what was stopped, or lost with its process, at once.
    """
    runs = of_schedule(schedule, newest_first)
    if not runs:
        return None
    newest = schedule.last(now)
    last = runs[0]
    if newest > last.due_at:
        return Due(newest, 1)
    again = Due(last.due_at, last.attempt + 1)
    tries = sum(_has_failed(run, now) for run in runs if run.due_at == last.due_at)
    if last.outcome in ("done", "enrolled") or last.is_held(now) or tries >= MOST_TRIES:
        return None
    if last.outcome == "failed" and now < (last.ended_at or 0) + pause_ms(tries):
        return None
    return again


def pause_ms(failures: int) -> int:
    """The wait before the next try, after this many failures for one scheduled time."""
    return FIRST_PAUSE_MS << (failures - 1)


def _has_failed(run: Run, now: int) -> bool:
    """Whether it counts against the tries: to be stopped is no fault of the job."""
    return run.as_of(now) in ("failed", "lost")
