"""`streamproc replay --from T [--to T] [--verify | --apply]`."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from streamproc import settings
from streamproc.errors import ReplayError
from streamproc.registry.files import import_file
from streamproc.replay.request import Interrupted, Request, moment
from streamproc.replay.session import Outcome, Session

#: What a shell reports for a program that Ctrl-C has ended: 128 + SIGINT.
INTERRUPTED = 130


Begin = Annotated[
    str,
    typer.Option(
        "--from", help="Begin of the range, by the time Kafka got the record: ISO 8601 or epoch seconds."
    ),
]
End = Annotated[str | None, typer.Option("--to", help="End of the range, not included; by default now.")]
Sensors = Annotated[str | None, typer.Option(help="Compare only these sensors, as `a,b`.")]
Verify = Annotated[
    bool, typer.Option("--verify", help="Show what differs, and change nothing (the default).")
]
Apply = Annotated[bool, typer.Option("--apply", help="Write the replay's results into the database.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
Ranges = Annotated[
    Path | None,
    typer.Option(
        "--registry",
        help="A file of sensors, as for `registry import`, to judge by in place of the registry.",
    ),
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write each difference to a file, as JSON lines.")
]


def replay(  # noqa: PLR0913, PLR0917  # each is an option
    begin: Begin,
    end: End = None,
    sensors: Sensors = None,
    verify: Verify = False,
    apply: Apply = False,
    yes: Yes = False,
    registry: Ranges = None,
    output: Output = None,
) -> None:
    """Process a range of `readings` again, and compare the results with the database.

    streamproc replay --from 2026-11-21T14:00:00Z --to 2026-11-21T15:00:00Z

    Exit code 0: nothing differs (any more). 1: something does, or a whole partition cannot be compared yet. 2: an error.
    """
    if verify and apply:
        raise ReplayError("--verify and --apply exclude each other")
    if apply and not yes and not sys.stdin.isatty():
        raise ReplayError(
            "--apply asks before it writes, and nobody is there to answer: add --yes, or look with --verify"
        )
    request = _request(begin, end, sensors, apply, registry)
    try:
        outcome = asyncio.run(_run(Session(settings.load(), request, _ask if not yes else None, output)))
    except Interrupted as stop:
        typer.echo(str(stop), err=True)
        raise typer.Exit(INTERRUPTED) from None
    raise typer.Exit(0 if outcome is Outcome.SAME else 1)


def _request(begin: str, end: str | None, sensors: str | None, apply: bool, registry: Path | None) -> Request:
    begin_ms, end_ms = moment(begin), None if end is None else moment(end)
    if end_ms is not None and end_ms <= begin_ms:
        raise ReplayError(f"--to {end} is not after --from {begin}")
    names = (
        None
        if sensors is None
        else tuple(sorted({name.strip().lower() for name in sensors.split(",")} - {""}))
    )
    if names == ():
        raise ReplayError("--sensors names no sensor")
    return Request(begin_ms, end_ms, names, apply, tuple(import_file(registry)) if registry else ())


async def _run(session: Session) -> Outcome:
    """Run until the end, or until Ctrl-C or SIGTERM."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, session.stop)
    return await session.run()


def _ask(question: str) -> bool:
    return typer.confirm(question)
