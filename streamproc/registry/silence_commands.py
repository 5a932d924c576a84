"""`streamproc silence add|list|end`."""

from __future__ import annotations

import asyncio
import secrets
from typing import Annotated, Literal

import typer
from msgspec.structs import replace
from rich.markup import escape

from streamproc.core.attention.silences import covers
from streamproc.core.counted import counted
from streamproc.errors import RegistryError, UnknownEntry
from streamproc.process import epoch_ms
from streamproc.records import Severity
from streamproc.records.alerting import SILENCE_PREFIX, SilenceEntry
from streamproc.registry import tables
from streamproc.registry.document_checks import normal, silence_faults
from streamproc.registry.session import actor, edit, known, looking
from streamproc.registry.silences import ID_BYTES, left_out, silences, state, when, whom
from streamproc.registry.spans import length_ms, moment_ms, weekly_of
from streamproc.store.documents import PutDocument, RemoveDocument
from streamproc.store.edits import Registered, sensors

commands = typer.Typer(
    no_args_is_help=True, help="Times without notifications: once or weekly, for maintenance or not."
)


#: What the options of `silence add` are about, as its help groups them.
_WHOM, _WHEN, _WHAT = "Which sensors: all that have everything given here", "When", "What people are not told"


@commands.command()
def add(  # noqa: PLR0913  # each is an option of the command
    *,
    sensor: Annotated[
        str | None, typer.Option(help="One sensor, by uuid or id.", rich_help_panel=_WHOM)
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="All sensors of this device.", rich_help_panel=_WHOM)
    ] = None,
    kind: Annotated[str | None, typer.Option(help="All sensors of this kind.", rich_help_panel=_WHOM)] = None,
    site: Annotated[str | None, typer.Option(help="All sensors at this site.", rich_help_panel=_WHOM)] = None,
    tenant: Annotated[
        str | None, typer.Option(help="All sensors of this tenant.", rich_help_panel=_WHOM)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every sensor.", rich_help_panel=_WHOM)] = False,
    length: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="TIME",
            help="How long it lasts, from now or --from on: 30m, 2h.",
            rich_help_panel=_WHEN,
        ),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option(
            "--until", metavar="TIME", help="When it ends: 2026-11-22T18:00.", rich_help_panel=_WHEN
        ),
    ] = None,
    forever: Annotated[
        bool,
        typer.Option("--open", help="It lasts until somebody ends it: `silence end`.", rich_help_panel=_WHEN),
    ] = False,
    weekly: Annotated[
        str | None,
        typer.Option(
            help='Each week in these times, for good or in the time above: "mon-fri 22:00 8h".',
            rich_help_panel=_WHEN,
        ),
    ] = None,
    begin: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="When it begins; by default now.", rich_help_panel=_WHEN),
    ] = None,
    zone: Annotated[
        str | None,
        typer.Option(
            help="Time zone of these times, such as Europe/Madrid; by default UTC.", rich_help_panel=_WHEN
        ),
    ] = None,
    up_to: Annotated[
        Literal["WARN", "CRITICAL"],
        typer.Option(
            help="CRITICAL: no notifications at all. WARN: those of CRITICAL are still sent.",
            rich_help_panel=_WHAT,
        ),
    ] = "CRITICAL",
    maintenance: Annotated[
        bool,
        typer.Option(
            "--maintenance",
            help="Somebody works on them: what happens is no fault of theirs.",
            rich_help_panel=_WHAT,
        ),
    ] = False,
    reason: Annotated[
        str | None, typer.Option(help="The reason, for others to read.", rich_help_panel=_WHAT)
    ] = None,
) -> None:
    """Send no notifications of some sensors for a while. Those that are not NORMAL at the end are reported then.

    streamproc silence add --device edge-7 --for 2h

    streamproc silence add --site north --until 2026-11-22T18:00 --zone Europe/Madrid --reason "power cut"

    streamproc silence add --kind pump --weekly "mon-fri 22:00 8h" --zone Europe/Madrid --up-to WARN
    """
    whom_ = {"--sensor": sensor, "--device": device, "--kind": kind, "--site": site, "--tenant": tenant}
    _check_whom([name for name, value in whom_.items() if value is not None], every=every)
    if (length is not None) + (end is not None) + forever > 1:
        raise typer.BadParameter("give one of --for, --until and --open")
    if zone is not None and not (weekly or begin or end):
        raise typer.BadParameter("--zone is of --from, --until and --weekly: none of them is given")
    zone = zone or "UTC"
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
    saved, count, others = asyncio.run(_add(normal(entry)))
    typer.echo(f"silence {saved.silence}: {whom(saved)}, {when(saved)}; {counted(count, 'sensor')} now")
    if others:
        typer.echo(
            f"note: not of {others} more, whose devices are like that: a sensor's own site and tenant count, see"
            " `registry show`",
            err=True,
        )
    elif not count:
        typer.echo("note: no sensor of the registry is like that, yet", err=True)


def _check_whom(given: list[str], *, every: bool) -> None:
    if every and given:
        raise typer.BadParameter(f"--all is every sensor, {given[0]} is some: give one of them")
    if not (every or given):
        raise typer.BadParameter(
            "say of which sensors: --sensor, --device, --kind, --site, --tenant, or --all for every one"
        )


def _span(begin: str | None, end: str | None, length: str | None, zone: str) -> tuple[int, int | None]:
    """From when to when, in ms."""
    now = epoch_ms()
    since = now if begin is None else moment_ms(begin, zone)
    until = None if end is None else moment_ms(end, zone)
    if length is not None:
        until = since + length_ms(length)
    if until is not None and until <= now:
        raise typer.BadParameter("it would be over already")
    if until is not None and until <= since:
        raise typer.BadParameter("--until is before --from")
    return since, until


async def _add(entry: SilenceEntry) -> tuple[SilenceEntry, int, int]:
    """Save it; gives how many sensors it is of, and of how many it would be by their devices' site and tenant."""
    async with looking() as store:
        found = await store.registry()
    entry = _resolved(entry, found)
    if faults := list(silence_faults(entry)):
        raise RegistryError("\n".join(faults))
    await edit([PutDocument(entry, expected=0)])
    count = sum(covers(entry, sensor.sensor, sensor) for sensor in sensors(found))
    return entry, count, left_out(entry, found)


def _resolved(entry: SilenceEntry, found: Registered) -> SilenceEntry:
    """A sensor may be given by its number."""
    if entry.sensor is None or found.get(entry.sensor) is not None:
        return entry
    by_number = (sensor.sensor for sensor in sensors(found) if str(sensor.sensor_id) == entry.sensor)
    return replace(entry, sensor=next(by_number, entry.sensor))


@commands.command("list")
def list_(
    every: Annotated[bool, typer.Option("--all", help="Show those that have ended as well.")] = False,
) -> None:
    """Show the silences that are in force or will be."""

    async def run() -> list[SilenceEntry]:
        async with looking() as store:
            return silences(await store.documents())

    now = epoch_ms()
    table = tables.of("id", "state", "of", "when", "up to", "reason", "by")
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
    tables.show(table)


@commands.command()
def end(
    name: Annotated[str, typer.Argument(metavar="ID", help="Its id, as `silence list` shows it.")],
) -> None:
    """End a silence now; one that has not begun is removed."""
    now = epoch_ms()

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
