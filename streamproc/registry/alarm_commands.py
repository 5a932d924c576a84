"""`streamproc alarm list|ack|snooze|unack`."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
import typer
from rich.markup import escape

from streamproc.errors import RegistryError, UnknownEntry
from streamproc.process import epoch_ms
from streamproc.records.alerting import HandlingEntry
from streamproc.registry import alarms, tables
from streamproc.registry.alarms import Alarm
from streamproc.registry.document_checks import document_faults
from streamproc.registry.handling import handled, sensor_named
from streamproc.registry.session import actor, edit, looking
from streamproc.registry.silences import of_all_that_has
from streamproc.registry.spans import length_ms, moment_text
from streamproc.store.documents import RemoveDocument
from streamproc.store.edits import Outcome

commands = typer.Typer(no_args_is_help=True, help="Sensors that are not NORMAL, and who handles them.")

Names = Annotated[
    list[str],
    typer.Argument(metavar="SENSOR|EVENT…", help="Sensors by uuid or id, or ids of their alarms' events."),
]
Note = Annotated[
    str | None, typer.Option(help="What others should know, such as what you are doing about it.")
]


@commands.command("list")
def list_(
    *,
    device: Annotated[str | None, typer.Option(help="Only alarms of this device's sensors.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only alarms of sensors of this kind.")] = None,
    site: Annotated[str | None, typer.Option(help="Only alarms at this site.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only alarms of this tenant.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, with every field.")
    ] = False,
) -> None:
    """Show the sensors that are not NORMAL, the gravest first: since when, who handles them, what silences them."""
    now, of = epoch_ms(), of_all_that_has(device=device, kind=kind, site=site, tenant=tenant)

    async def run() -> list[Alarm]:
        async with looking() as store:
            return await alarms.alarms(store, now, of)

    found = asyncio.run(run())
    if as_json:
        for alarm in found:
            typer.echo(msgspec.json.encode(alarm).decode())
        return
    if not found:
        typer.echo("all sensors are NORMAL" if of.all_sensors else "all of these sensors are NORMAL")
        return
    table = tables.of("sensor", "severity", "since", "cause", "handled", "event")
    for alarm in found:
        named = f"{alarm.sensor} ({alarm.name})" if alarm.name else alarm.sensor
        since = moment_text(round(alarm.since.timestamp() * 1000))
        row = (named, alarm.severity, since, alarm.cause, _handled(alarm, now), alarm.event_id)
        table.add_row(*map(escape, row))
    tables.show(table)


def _handled(alarm: Alarm, now: int) -> str:
    told = [f"acknowledged by {alarm.by or 'somebody'}"] if alarm.acknowledged else []
    if alarm.snoozed_until is not None and alarm.snoozed_until > now:
        told.append(f"snoozed until {moment_text(alarm.snoozed_until)}")
    told += [alarm.note] if alarm.note else []
    told += [f"silenced by {name}" for name in alarm.silences]
    told += ["its device is silent"] if alarm.device_silent else []
    told += ["flapping"] if alarm.flapping else []
    return "; ".join(told)


@commands.command()
def ack(names: Names, note: Note = None) -> None:
    """Acknowledge alarms: no reminders and no escalation, until one gets graver or a new one comes.

    streamproc alarm ack boiler-3-pressure --note "on my way"
    """
    for outcome in asyncio.run(_handle(names, note, None)):
        typer.echo(f"alarm of {outcome.name} is acknowledged")


@commands.command()
def snooze(
    name: Annotated[
        str, typer.Argument(metavar="SENSOR|EVENT", help="The sensor's uuid or id, or an event's id.")
    ],
    length: Annotated[str, typer.Argument(metavar="TIME", help="For how long: 30m, 2h, 1d.")],
    note: Note = None,
) -> None:
    """Send no notifications of a sensor for a while; if it is not NORMAL then, they are sent again.

    streamproc alarm snooze boiler-3-pressure 2h --note "valve is on order"
    """
    until = epoch_ms() + length_ms(length)
    (outcome,) = asyncio.run(_handle([name], note, until))
    typer.echo(f"alarm of {outcome.name} is snoozed until {moment_text(until)}")


@commands.command()
def unack(names: Names) -> None:
    """Take back acknowledgements and snoozes of these alarms."""
    for outcome in asyncio.run(_unhandle(names)):
        typer.echo(f"alarm of {outcome.name} is nobody's again")


async def _handle(names: list[str], note: str | None, until: int | None) -> list[Outcome]:
    async with looking() as store:
        found = [await handled(store, name, actor(), epoch_ms(), note=note, until=until) for name in names]
    edits = list({each.entry.key: each for each in found}.values())  # a sensor may have been named twice
    if faults := [fault for each in edits for fault in document_faults(each.entry)]:
        raise RegistryError("\n".join(faults))
    return [outcome for outcome in await edit(edits) if isinstance(outcome.entry, HandlingEntry)]


async def _unhandle(names: list[str]) -> list[Outcome]:
    async with looking() as store:
        found = [await sensor_named(store, name) for name in names]
    try:
        return await edit([RemoveDocument("handling", sensor) for sensor in dict.fromkeys(found)])
    except UnknownEntry as error:
        raise UnknownEntry(f"{error}: nobody has acknowledged or snoozed it") from None
