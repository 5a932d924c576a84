"""`streamproc jobs list|run`; without a command, the process that runs jobs by their schedules."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Annotated, Any

import typer

from streamproc import settings
from streamproc.errors import StreamprocError
from streamproc.jobs.app import run_once, seen_now
from streamproc.jobs.catalogue import Job, find, jobs
from streamproc.jobs.desk import Seen
from streamproc.jobs.health import stamp
from streamproc.jobs.schedule import Schedule
from streamproc.jobs.work import Stopped
from streamproc.process import epoch_ms
from streamproc.settings import Settings
from streamproc.store.job_runs import Ended, Run

commands = typer.Typer(
    no_args_is_help=True,
    help="Scheduled jobs, such as the deletion of old rows. Without a command: run what is due by the schedules, until"
    " stopped; several processes run each job once.",
)

#: Exit codes beside 0, done.
NOT_DONE, REFUSED = 1, 2


@commands.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array, for programs.")] = False,
) -> None:
    """Show each job's schedule, its next time, and how its last run went."""
    chosen = settings.load()
    rows = [_row(job, seen) for job, seen in _tried(seen_now(chosen))]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    for row in rows:
        typer.echo(f"{row['name']}: {row['does']}")
        typer.echo(f"  schedule  {row['schedule'] or 'off: by `streamproc jobs run` alone'}")
        if row["next"]:
            typer.echo(f"  next      {row['next']}")
        typer.echo(f"  last      {_last(row['last'])}")


@commands.command()
def run(name: Annotated[str, typer.Argument(help="Its name, as `jobs list` shows it.")]) -> None:
    """Run a job once, now, in this process.

    Exit code 0: it did all its work. 1: it failed, was stopped, or another process is at it. 2: it cannot be run like this.
    """
    chosen = settings.load()
    job = find(name, jobs(chosen))
    if job is None:
        there = ", ".join(one.name for one in jobs(chosen))
        typer.echo(f"streamproc: no job {name!r}; there are: {there}", err=True)
        raise typer.Exit(REFUSED)
    ended = _tried(_until_signal(chosen, job))
    if ended is None:
        typer.echo(f"{job.name}: another process is at it; `streamproc jobs list` tells since when", err=True)
        raise typer.Exit(NOT_DONE)
    typer.echo(f"{job.name}: {_told(ended.outcome, ended.counts, ended.error)}", err=ended.outcome != "done")
    if ended.outcome != "done":
        raise typer.Exit(NOT_DONE)


async def _until_signal(chosen: Settings, job: Job) -> Ended | None:
    """Run it; Ctrl-C and SIGTERM end it where that does no harm."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return await run_once(chosen, job, stop)


def _tried(work: Any) -> Any:
    try:
        return asyncio.run(work)
    except Stopped:
        typer.echo("streamproc: stopped before it began", err=True)
        raise typer.Exit(NOT_DONE) from None
    except StreamprocError as error:
        typer.echo(f"streamproc: {error}", err=True)
        raise typer.Exit(REFUSED) from error


def _row(job: Job, seen: Seen) -> dict[str, Any]:
    last = seen.last()
    return {
        "name": job.name,
        "does": job.does,
        "schedule": None if job.schedule is None else str(job.schedule),
        "next": None if job.schedule is None else _next(job.schedule),
        "last": None if last is None else _run(last),
    }


def _run(run: Run) -> dict[str, Any]:
    return {
        "outcome": run.as_of(epoch_ms()),
        "started_by": run.started_by,
        "began_at": stamp(run.began_at),
        "ended_at": stamp(run.ended_at) or None,
        "attempt": run.attempt,
        "counts": run.counts,
        "error": run.last_error,
    }


def _next(schedule: Schedule) -> str:
    """When it comes next, as its zone has it."""
    return schedule.local(schedule.next(epoch_ms())).isoformat(timespec="minutes")


def _last(run: dict[str, Any] | None) -> str:
    if run is None:
        return "never"
    told = _told(run["outcome"], run["counts"], run["error"])
    return f"{run['began_at']} by {run['started_by']}: {told}"


def _told(outcome: str, counts: dict[str, int], error: str | None) -> str:
    """An outcome in words, with what was counted and why it failed."""
    counted = ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in counts.items())
    return f"{outcome}{f' ({counted})' if counted else ''}{f': {error}' if error else ''}"
