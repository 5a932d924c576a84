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
from streamproc.records import SensorEntry
from streamproc.registry import files, put
from streamproc.settings import Settings
from streamproc.store import connect
from streamproc.store.protocol import Store

commands = typer.Typer(no_args_is_help=True, help="Sensors, their devices and ranges.")


@commands.command("import")
def import_(file: Annotated[Path, typer.Argument(help="A .yaml, .json or .csv file of sensors.")]) -> None:
    """Save the sensors of a file, and send them to gateways and workers; others stay as they are."""
    entries = files.import_file(file)
    saved = asyncio.run(_import(settings.load(), entries))
    typer.echo(f"{len(saved)} sensors saved and sent")


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
    producer = AIOKafkaProducer(bootstrap_servers=chosen.bootstrap, acks="all")
    try:
        await producer.start()
    except KafkaError as error:
        await producer.stop()
        raise RegistryError(f"no Kafka at {chosen.bootstrap}, so nothing was changed: {error}") from error
    try:
        yield producer
    finally:
        await producer.stop()
