"""`streamproc topics plan|apply|check`."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from streamproc import settings
from streamproc.core.counted import counted
from streamproc.settings.connection import Connection
from streamproc.topics import admin
from streamproc.topics.changes import Plan
from streamproc.topics.spec import TopicSpec, load, prefixed

commands = typer.Typer(
    help="Compare topics.yaml with the topics on the broker, and change those that differ.",
    no_args_is_help=True,
)

Bootstrap = Annotated[
    str | None, typer.Option(help="Brokers as host:port,…; by default KAFKA_BOOTSTRAP, else this machine's.")
]
File = Annotated[
    Path | None, typer.Option(help="A file to use instead of the topics.yaml that comes with streamproc.")
]
Growth = Annotated[
    bool,
    typer.Option(
        "--allow-partition-growth", help="Add partitions even if that moves keys to other partitions."
    ),
]


@commands.command("plan")
def plan_command(bootstrap: Bootstrap = None, file: File = None, allow_growth: Growth = False) -> None:
    """Show what `apply` would change, and what it would refuse to change."""
    address, specs = _given(bootstrap, file)
    found = asyncio.run(admin.plan(address, specs, allow_partition_growth=allow_growth))
    _tell(found, specs, address)


@commands.command("apply")
def apply_command(bootstrap: Bootstrap = None, file: File = None, allow_growth: Growth = False) -> None:
    """Make the changes that `plan` shows, and no others; exit code 1 if a change had to be refused."""
    address, specs = _given(bootstrap, file)
    found = asyncio.run(admin.plan(address, specs, allow_partition_growth=allow_growth))
    _tell(found, specs, address)
    if found.changes:
        asyncio.run(admin.apply(address, found))
        typer.echo("done")
    if found.refused:
        raise typer.Exit(1)


@commands.command("check")
def check_command(bootstrap: Bootstrap = None, file: File = None) -> None:
    """Check that the broker has the topics as declared; exit code 1 if not."""
    address, specs = _given(bootstrap, file)
    differences = asyncio.run(admin.check(address, specs))
    for line in differences:
        typer.echo(line)
    if differences:
        raise typer.Exit(1)
    typer.echo(f"as declared: {counted(len(specs), 'topic')}")


def _given(bootstrap: str | None, file: Path | None) -> tuple[Connection, list[TopicSpec]]:
    found = settings.load()
    specs = prefixed(load(file), found.topic_prefix)
    return replace(found.kafka, bootstrap=bootstrap) if bootstrap else found.kafka, specs


def _tell(found: Plan, specs: list[TopicSpec], address: Connection) -> None:
    for line in found.changes:
        typer.echo(line)
    for line in found.refused:
        typer.echo(f"refused {line}")
    if not found.changes and not found.refused:
        typer.echo(f"{address}: nothing to do, as declared: {counted(len(specs), 'topic')}")
