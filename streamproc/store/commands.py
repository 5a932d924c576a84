"""`streamproc db migrate|check|status`."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

import typer

from streamproc import settings
from streamproc.core.counted import counted
from streamproc.store.migrations import Status
from streamproc.store.schema import schema

commands = typer.Typer(
    no_args_is_help=True,
    help="The database's schema: check it and bring it up to date. The settings name the database"
    " (STREAMPROC_STORE, STREAMPROC_DATABASE, DB_HOST …).",
)

#: Exit code where the schema is not this program's; 0: it is. Where it could not be asked, an error ends the command with 2.
BEHIND = 1


@commands.command()
def migrate() -> None:
    """Apply the migrations that the database does not have yet; a second one at the same time waits.

    Exit code 0: the schema is up to date now. 2: an error; those applied before it stay, and nothing of its own does.
    """
    found = schema(settings.load())
    done = asyncio.run(found.migrate())
    for script in done:
        typer.echo(f"applied {script.name}")
    if not done:
        typer.echo(f"{found.place}: nothing to do")


@commands.command()
def check() -> None:
    """Say in a line whether the schema is up to date, and change nothing.

    Exit code 0: it is. 1: it is behind, newer, or a migration was changed since. 2: the database cannot be asked.
    """
    found = schema(settings.load())
    state = asyncio.run(found.status())
    typer.echo(f"{found.place}: {verdict(state)}")
    raise typer.Exit(_code(state))


@commands.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
) -> None:
    """List the applied and pending migrations, and change nothing; the exit codes are those of `check`."""
    found = schema(settings.load())
    state = asyncio.run(found.status())
    rows = _rows(state)
    if as_json:
        told = {"database": found.place, "state": _word(state), "fault": state.fault, "migrations": rows}
        typer.echo(json.dumps(told))
    else:
        for row in rows:
            typer.echo(f"{row['name']:<40} {row['state']:<8} {row['applied_at'] or ''}".rstrip())
        typer.echo(f"{found.place}: {verdict(state)}")
    raise typer.Exit(_code(state))


def verdict(state: Status) -> str:
    """How a schema stands, in words, with what to do."""
    if state.fault is not None:
        return state.fault
    if behind := len(state.pending):
        return (
            f"not applied: {behind} of {counted(len(state.wanted), 'migration')}; run `streamproc db migrate`"
        )
    return f"up to date, {counted(len(state.wanted), 'migration')}"


def _word(state: Status) -> str:
    if state.fault is not None:
        return "foreign"
    return "behind" if state.pending else "current"


def _code(state: Status) -> int:
    return 0 if _word(state) == "current" else BEHIND


def _rows(state: Status) -> list[dict[str, Any]]:
    """A line for each migration that is known here or there."""
    names = {script.version: script for script in state.wanted}
    applied = {script.version: script for script in state.applied}
    rows = []
    for version in sorted(names.keys() | applied.keys()):
        ours, theirs = names.get(version), applied.get(version)
        if theirs is None:
            word = "pending"
        elif ours is None:
            word = "unknown"
        else:
            word = "applied" if ours.checksum == theirs.checksum else "changed"
        name = (ours.name if ours else theirs.name if theirs else "") or f"{version:04d}"
        rows.append(
            {"version": version, "name": name, "state": word, "applied_at": theirs.at if theirs else None}
        )
    return rows
