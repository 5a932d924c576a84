"""Whether `streamproc jobs` can work, and the present state of its jobs."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from prometheus_client.core import GaugeMetricFamily, Metric

from streamproc.jobs.catalogue import Job
from streamproc.jobs.desk import Desk, Seen
from streamproc.monitor import Check
from streamproc.store.job_runs import LOST


def checks(desk: Desk) -> list[Check]:
    """The checks of `/ready`: the database, and each job."""
    now = desk.runner.clock()
    return [desk.runner.standing.check(), *(_check(job, desk, now) for job in desk.jobs)]


def gauges(desk: Desk) -> Iterable[Metric]:
    """What runs now, what was done last, and what comes next and when."""
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
        is_held = last is not None and last.is_held(now)
        running.add_metric([job.name], float(is_held or desk.runner.at == job.name))
        if last_done is not None:
            done.add_metric([job.name], (last_done.ended_at or 0) / 1000)
        if job.schedule is not None:
            following.add_metric([job.name], job.schedule.next(now) / 1000)
    yield running
    yield done
    yield following


def _check(job: Job, desk: Desk, now: int) -> Check:
    """A job is well unless its last run failed, or ended without a word."""
    seen = desk.seen.get(job.name)
    if seen is None:
        return Check(job.name, True, "not looked at yet")
    last, is_ours = seen.last(), desk.runner.at == job.name
    outcome = None if last is None else last.as_of(now)
    if last is not None and (outcome == "failed" or (outcome == "lost" and not is_ours)):
        when = stamp(last.ended_at or last.lease_until)
        return Check(job.name, False, f"{outcome} at {when}: {last.last_error or LOST}")
    following = "by command alone" if job.schedule is None else f"next at {stamp(job.schedule.next(now))}"
    if is_ours or outcome == "running":
        return Check(job.name, True, f"running; {following}")
    told = "" if last is None else f"{outcome} at {stamp(last.ended_at)}; "
    return Check(job.name, True, f"{told}{following}")


def stamp(ms: int | None) -> str:
    """A time for people, in UTC.

    >>> stamp(1_700_000_000_000)
    '2023-11-14T22:13:20Z'
    """
    return "" if ms is None else f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
