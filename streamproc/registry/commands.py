"""`streamproc registry import|export|show`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streamproc import settings
from streamproc.errors import RegistryError
from streamproc.kafka import clients
from streamproc.kafka.diagnosis import failure
from streamproc.records import SensorEntry
from streamproc.registry import Registry, files, put
from streamproc.registry.thresholds import taken_over
from streamproc.settings import Settings
from streamproc.store import connect
from streamproc.store.protocol import Store

commands = typer.Typer(no_args_is_help=True, help="Sensors, their devices and ranges.")


@commands.command("import")
def import_(
    file: Annotated[Path | None, typer.Argument(help="A .yaml, .json or .csv file of sensors.")] = None,
    from_thresholds: Annotated[
        bool,
        typer.Option(
            "--from-thresholds",
            help="Instead of a file: the ranges that other programs have set in alert_thresholds (SQL Server).",
        ),
    ] = False,
) -> None:
    """Save the sensors of a file, and send them to gateways and workers; others stay as they are.

    With --from-thresholds the sensors that have limits in `alert_thresholds` get those for ranges; what has not changed is
    not sent again. Run it after `db migrate`, and as often as people set limits there.
    """
    if from_thresholds == (file is not None):
        raise typer.BadParameter("give either a file or --from-thresholds")
    if file is None:
        _tell(*asyncio.run(_take_over(settings.load())))
        return
    entries = files.import_file(file)
    saved = asyncio.run(_import(settings.load(), entries))
    typer.echo(f"{len(saved)} sensors saved and sent")


def _tell(saved: list[SensorEntry], notes: list[str]) -> None:
    for note in notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"{len(saved)} sensors saved and sent" if saved else "nothing to do: all ranges are as set")


@commands.command()
def export(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file; by default YAML on stdout.")
    ] = None,
) -> None:
    """Write all sensors as a file that `import` reads."""
    entries = asyncio.run(_entries(settings.load()))
    if output is None:
        typer.echo(files.export(entries), nl=False)
    else:
        output.write_text(files.export(entries, output.suffix.lower()), "utf-8")
        typer.echo(f"{len(entries)} sensors in {output}")


@commands.command()
def show(sensor: Annotated[str, typer.Argument(help="The sensor's uuid, or its id.")]) -> None:
    """Show one sensor."""
    wanted = sensor.lower()
    entries = asyncio.run(_entries(settings.load()))
    found = [entry for entry in entries if entry.sensor == wanted]
    found = found or [entry for entry in entries if str(entry.sensor_id) == wanted]
    if not found:
        raise RegistryError(f"no sensor {sensor} is registered")
    typer.echo(files.export(found) + f"  version: {found[0].version}")


async def _import(chosen: Settings, entries: list[SensorEntry]) -> list[SensorEntry]:
    async with _producer(chosen) as producer, _store(chosen) as store:
        return await put(store, producer, entries, chosen.topic("registry"))


async def _take_over(chosen: Settings) -> tuple[list[SensorEntry], list[str]]:
    """Put the limits of `alert_thresholds` where the database or the topic has others; what was put, and what was not."""
    if chosen.store != "sqlserver":
        raise RegistryError(
            "alert_thresholds is a table of SQL Server's databases, and this is SQLite: set DB_HOST"
        )
    topic = chosen.topic("registry")
    async with _producer(chosen) as producer, _store(chosen) as store:
        wanted, notes = taken_over(await store.entries(), await store.thresholds())
        told = await Registry(chosen.kafka, topic).start()
        await told.stop()
        # Also what the database has by now, but the topic not: the migration's, or one that failed to be sent.
        changed = [entry for entry in wanted if entry != told.entries.get(entry.sensor)]
        return await put(store, producer, changed, topic), notes


async def _entries(chosen: Settings) -> list[SensorEntry]:
    async with _store(chosen) as store:
        return await store.entries()


@asynccontextmanager
async def _store(chosen: Settings) -> AsyncIterator[Store]:
    store = connect(chosen, process="registry")
    try:
        await store.open()
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def _producer(chosen: Settings) -> AsyncIterator[AIOKafkaProducer]:
    """A producer that waits for every in-sync replica."""
    producer = clients.producer(chosen.kafka, acks="all")
    try:
        await producer.start()
    except KafkaError as error:
        await producer.stop()
        raise RegistryError(f"nothing was changed: {await failure(chosen.kafka, error)}") from error
    try:
        yield producer
    finally:
        await producer.stop()
