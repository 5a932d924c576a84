"""`streamproc registry import|export|show|remove|history`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from streamproc.core.counted import counted
from streamproc.errors import RegistryError, UnknownEntry
from streamproc.records import SensorEntry
from streamproc.registry import action_commands, files, history
from streamproc.registry.session import edit, forget, looking, on_topic_alone, overruled_of, take_over
from streamproc.registry.thresholds import told_of
from streamproc.store.documents import PutDocument
from streamproc.store.edits import (
    KINDS,
    Audited,
    Edit,
    Kind,
    Outcome,
    PutAction,
    PutDevice,
    PutSensor,
    Registered,
    RemoveSensor,
    actions,
    devices,
    documents,
    named,
    sensors,
)

commands = typer.Typer(
    no_args_is_help=True, help="Sensors, their devices, ranges and rules, and recommended actions."
)
commands.add_typer(action_commands.commands, name="action")


@commands.command("import")
def import_(
    file: Annotated[
        Path | None,
        typer.Argument(help="A .yaml or .json file with entries of all kinds, or a .csv file with sensors."),
    ] = None,
    from_thresholds: Annotated[
        bool,
        typer.Option(
            "--from-thresholds",
            help="Instead of a file: the ranges that other programs have set in alert_thresholds (SQL Server).",
        ),
    ] = False,
) -> None:
    """Save the entries of a file, and send them to gateways and workers; other entries stay as they are.

    streamproc registry import registry.yaml

    With --from-thresholds the sensors that have limits in `alert_thresholds` get those for ranges, at once:
    a sink does the same every SENSOR_MAP_TTL_SECONDS. What has not changed is not sent again.
    """
    if from_thresholds == (file is not None):
        raise typer.BadParameter("give either a file or --from-thresholds")
    if file is None:
        made, notes = asyncio.run(take_over())
        for note in notes:
            typer.echo(f"note: {note}", err=True)
        typer.echo(f"{_counted(made)} saved and sent" if made else "nothing to do: all ranges are as set")
        return
    contents = files.read(file)
    edits: list[Edit] = [PutDevice(entry) for entry in contents.devices]
    edits += [PutSensor(entry) for entry in contents.sensors]
    edits += [PutAction(entry) for entry in contents.actions]
    edits += [PutDocument(entry) for entry in contents.documents]
    made = asyncio.run(edit(edits, makes=True))
    typer.echo(f"{_counted(made)} saved and sent, {sum(outcome.changed for outcome in made)} changed")
    if others := asyncio.run(overruled_of(contents.sensors)):
        typer.echo(f"note: {told_of(others)}; set them there, or switch them off", err=True)


@commands.command()
def export(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Output file; by default YAML on standard output.")
    ] = None,
) -> None:
    """Write all entries, devices with their keys' hashes, as a file that `import` reads; CSV: sensors alone."""
    found = asyncio.run(_registered())
    suffix = ".yaml" if output is None else output.suffix.lower()
    text = files.export(sensors(found), suffix, devices(found), actions(found), documents(found))
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, "utf-8")
    except OSError as error:
        raise RegistryError(f"{output} cannot be written: {error.strerror}") from error
    told = ""
    if suffix != ".csv":
        others = len(actions(found)) + len(documents(found))
        told = f"{counted(len(devices(found)), 'device')}, {counted(others, 'other entry', 'other entries')} and "
    typer.echo(f"{told}{counted(len(sensors(found)), 'sensor')} in {output}")


@commands.command()
def show(sensor: Annotated[str, typer.Argument(help="The sensor's uuid, or its id.")]) -> None:
    """Show one sensor."""
    found = _sensor(asyncio.run(_registered()), sensor)
    text = files.export([found]).removeprefix("devices: []\nsensors:\n")
    typer.echo(text + f"  version: {found.version}")


@commands.command()
def remove(
    names: Annotated[list[str], typer.Argument(metavar="SENSOR…", help="Sensors by uuid, or id.")],
) -> None:
    """Remove sensors from the registry: gateways refuse them from now on. What they have sent stays in the database."""
    made, strays = asyncio.run(_remove(names))
    if made:
        typer.echo(f"{_counted(made)} removed; their readings stay")
    for name in strays:
        typer.echo(f"{name} was on the topic alone, and is taken away there")


@commands.command("history")
def show_history(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A sensor's uuid, or device/NAME, action/KIND/CAUSE, policy/KIND, silence/ID, handling/SENSOR, "
            "trial/NAME, learners/KIND; else of all."
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=10_000, help="Show at most so many lines, the newest.")
    ] = 50,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, with every field.")
    ] = False,
) -> None:
    """Show who changed what, newest first."""
    for line in asyncio.run(_audit(name, limit)):
        typer.echo(msgspec.json.encode(line).decode() if as_json else history.told(line))


async def _remove(names: Sequence[str]) -> tuple[list[Outcome], list[str]]:
    """Remove sensors of the database, and entries of the topic that the database does not have."""
    known = await _registered()
    edits, strays = list[Edit](), list[str]()
    for name in names:
        try:
            edits.append(RemoveSensor(_sensor(known, name).sensor))
        except UnknownEntry:
            strays.append(name.lower())
    if strays:
        missing = set(strays) - await on_topic_alone(strays)
        if missing:
            raise UnknownEntry(
                f"no sensor {', '.join(sorted(missing))} is registered; see `device remove` for devices"
            )
    made = await edit(edits) if edits else []
    await forget(strays)
    return made, strays


async def _registered() -> Registered:
    async with looking() as store:
        return await store.registry()


async def _audit(name: str | None, limit: int) -> list[Audited]:
    of: tuple[Kind, str] | None = None if name is None else named(name.lower())
    async with looking() as store:
        lines = await store.audit(of, None, limit)
    if name is not None and not lines:
        raise RegistryError(
            f"nothing is known of {name}; a device's history is `registry history device/NAME`, a silence's silence/ID"
        )
    return lines


def _sensor(found: Registered, wanted: str) -> SensorEntry:
    """A sensor by its name, or else its number; raises UnknownEntry."""
    entry = found.get(wanted.lower())
    if isinstance(entry, SensorEntry):
        return entry
    for other in sensors(found):
        if str(other.sensor_id) == wanted:
            return other
    raise UnknownEntry(f"no sensor {wanted} is registered")


_SEVERAL = {"policy": "policies"}


def _counted(outcomes: Sequence[Outcome]) -> str:
    counts = {kind: len({outcome.name for outcome in outcomes if outcome.kind == kind}) for kind in KINDS}
    told = [counted(count, kind, _SEVERAL.get(kind)) for kind, count in counts.items() if count]
    return " and ".join(filter(None, [", ".join(told[:-1]), *told[-1:]])) or "nothing"
