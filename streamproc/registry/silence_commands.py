"""`streamproc silence add|list|end`."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Annotated, Literal

import typer
from msgspec.structs import replace
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from streamproc.core.attention.silences import covers
from streamproc.errors import RegistryError, UnknownEntry
from streamproc.records import Severity
from streamproc.records.alerting import SILENCE_PREFIX, SilenceEntry
from streamproc.registry.document_checks import normal, silence_faults
from streamproc.registry.session import actor, edit, known, looking
from streamproc.registry.silences import ID_BYTES, silences, state, when, whom
from streamproc.registry.spans import length_ms, moment_ms, weekly_of
from streamproc.store.documents import PutDocument, RemoveDocument
from streamproc.store.edits import Registered, sensors

commands = typer.Typer(
    no_args_is_help=True, help="Times in which people are not told: once or weekly, for maintenance or not."
)


@commands.command()
def add(  # noqa: PLR0913  # each is an option of the command
    *,
    sensor: Annotated[str | None, typer.Option(help="Of one sensor, by uuid or id.")] = None,
    device: Annotated[str | None, typer.Option(help="Of the sensors of a device.")] = None,
    kind: Annotated[str | None, typer.Option(help="Of sensors of a kind.")] = None,
    site: Annotated[str | None, typer.Option(help="Of sensors at a site.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Of a tenant's sensors.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Of all sensors.")] = False,
    length: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="For so long, from --from or now on: 2h.")
    ] = None,
    begin: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="From then on: 2026-11-22T14:00. [now]")
    ] = None,
    end: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Until then.")] = None,
    forever: Annotated[bool, typer.Option("--open", help="Until `silence end`.")] = False,
    weekly: Annotated[str | None, typer.Option(help='Only in these times: "mon-fri 22:00 8h".')] = None,
    zone: Annotated[str, typer.Option(help="The zone of these times, such as Europe/Madrid.")] = "UTC",
    up_to: Annotated[
        Literal["WARN", "CRITICAL"], typer.Option(help="What is graver is told all the same.")
    ] = "CRITICAL",
    maintenance: Annotated[
        bool, typer.Option("--maintenance", help="Somebody works on them: it is no fault of theirs.")
    ] = False,
    reason: Annotated[str | None, typer.Option(help="Why, for whoever wonders.")] = None,
) -> None:
    """Tell people nothing of the sensors that match all that is given. What is not NORMAL at the end is told then.

    streamproc silence add --site north --for 2h --reason "power cut"

    streamproc silence add --kind pump --weekly "mon-fri 22:00 8h" --zone Europe/Madrid --up-to WARN
    """
    if (length is not None) + (end is not None) + forever > 1:
        raise typer.BadParameter("give one of --for, --until and --open")
    since, until = _span(begin, end, length, zone)
    if until is None and not (forever or weekly):
        raise typer.BadParameter(
            "say how long: --for 2h, --until TIME, --weekly DAYS, or --open until you end it"
        )
    entry = SilenceEntry(
        secrets.token_hex(ID_BYTES),
        *(sensor, device, kind, site, tenant),
        begin=since,
        end=until,
        weekly=None if weekly is None else weekly_of(weekly, zone),
        up_to=Severity[up_to],
        maintenance=maintenance,
        all_sensors=every,
        reason=reason,
        by=actor(),
    )
    saved, count = asyncio.run(_add(normal(entry)))
    typer.echo(
        f"silence {saved.silence}: {whom(saved)}, {when(saved)}; {count} sensor{'' if count == 1 else 's'} now"
    )
    if not count:
        typer.echo("note: no sensor of the registry is like that, yet", err=True)


def _span(begin: str | None, end: str | None, length: str | None, zone: str) -> tuple[int, int | None]:
    """From when to when, in ms."""
    now = time.time_ns() // 1_000_000
    since = now if begin is None else moment_ms(begin, zone)
    until = None if end is None else moment_ms(end, zone)
    if length is not None:
        until = since + length_ms(length)
    if until is not None and until <= now:
        raise typer.BadParameter("it would be over already")
    return since, until


async def _add(entry: SilenceEntry) -> tuple[SilenceEntry, int]:
    """Save it; gives how many sensors it is of."""
    async with looking() as store:
        found = await store.registry()
    entry = _resolved(entry, found)
    if faults := list(silence_faults(entry)):
        raise RegistryError("\n".join(faults))
    await edit([PutDocument(entry, expected=0)])
    return entry, sum(covers(entry, sensor.sensor, sensor) for sensor in sensors(found))


def _resolved(entry: SilenceEntry, found: Registered) -> SilenceEntry:
    """A sensor may be given by its number."""
    if entry.sensor is None or found.get(entry.sensor) is not None:
        return entry
    by_number = (sensor.sensor for sensor in sensors(found) if str(sensor.sensor_id) == entry.sensor)
    return replace(entry, sensor=next(by_number, entry.sensor))


@commands.command("list")
def list_(
    every: Annotated[bool, typer.Option("--all", help="Those that have ended, too.")] = False,
) -> None:
    """Show the silences that are in force, or will be."""

    async def run() -> list[SilenceEntry]:
        async with looking() as store:
            return silences(await store.documents())

    now = time.time_ns() // 1_000_000
    table = Table("id", "state", "of", "when", "up to", "reason", "by", box=None, pad_edge=False)
    for entry in asyncio.run(run()):
        told = state(entry, now)
        if told != "ended" or every:
            about = "maintenance" if entry.maintenance else ""
            reason = ": ".join(filter(None, (about, entry.reason)))
            row = (entry.silence, told, whom(entry), when(entry), entry.up_to.name, reason, entry.by or "")
            table.add_row(*map(escape, row))
    if not table.row_count:
        typer.echo("no silences")
        return
    Console().print(table)


@commands.command()
def end(name: Annotated[str, typer.Argument(metavar="ID", help="As `silence list` shows it.")]) -> None:
    """End a silence now; one that has not begun is removed."""
    now = time.time_ns() // 1_000_000

    async def run() -> None:
        entry = await known(SILENCE_PREFIX + name.lower())
        if not isinstance(entry, SilenceEntry):
            raise UnknownEntry(f"no silence {name} is registered: see `streamproc silence list`")
        if state(entry, now) == "ended":
            raise RegistryError(f"silence {name} has ended already")
        if entry.begin is not None and entry.begin >= now:
            await edit([RemoveDocument("silence", entry.silence, entry.version)])
        else:
            await edit([PutDocument(replace(entry, end=now), entry.version)])

    asyncio.run(run())
    typer.echo(f"silence {name.lower()} has ended")
