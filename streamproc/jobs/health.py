"""Whether `streamproc jobs` is able to work, and how its jobs stand at this moment."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from prometheus_client.core import GaugeMetricFamily, Metric

from streamproc.jobs.catalogue import Job
from streamproc.jobs.desk import Desk, Seen
from streamproc.monitor import Check


def checks(desk: Desk) -> list[Check]:
    """What `/ready` is made of: the database, and each job."""
    now = desk.runner.clock()
    return [desk.runner.standing.check(), *(_check(job, desk.seen.get(job.name), now) for job in desk.jobs)]


def gauges(desk: Desk) -> Iterable[Metric]:
    """What runs now, what was done last and when what comes next."""
    running = GaugeMetricFamily("streamproc_jobs_running", "Whether a process is at the job.", labels=["job"])
    done = GaugeMetricFamily(
        "streamproc_jobs_done_timestamp", "When the job was last done (epoch seconds).", labels=["job"]
    )
    following = GaugeMetricFamily(
        "streamproc_jobs_next_timestamp", "When the job comes next (epoch seconds).", labels=["job"]
    )
    now = desk.runner.clock()
    for job in desk.jobs:
        seen = desk.seen.get(job.name, Seen([], []))
        last, last_done = seen.last(), seen.last_done()
        running.add_metric([job.name], float(last is not None and last.is_held(now)))
        if last_done is not None:
            done.add_metric([job.name], (last_done.ended_at or 0) / 1000)
        if job.schedule is not None:
            following.add_metric([job.name], job.schedule.next(now) / 1000)
    yield running
    yield done
    yield following


def _check(job: Job, seen: Seen | None, now: int) -> Check:
    """A job is well unless its last run failed, or ended without a word."""
    if seen is None:
        return Check(job.name, True, "not looked at yet")
    last = seen.last()
    if last is not None and last.outcome in ("failed", "lost"):
        return Check(job.name, False, f"{last.outcome} at {stamp(last.ended_at)}: {last.last_error}")
    following = "by command alone" if job.schedule is None else f"next at {stamp(job.schedule.next(now))}"
    if last is None:
        return Check(job.name, True, following)
    told = "running" if last.outcome == "running" else f"{last.outcome} at {stamp(last.ended_at)}"
    return Check(job.name, True, f"{told}; {following}")


def stamp(ms: int | None) -> str:
    """A time for people, in UTC.

    >>> stamp(1_700_000_000_000)
    '2023-11-14T22:13:20Z'
    """
    return "" if ms is None else f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
