"""`streamproc device add|list|show|enable|disable|remove`, and `device key new|list|revoke`."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import typer
import yaml
from msgspec.structs import replace
from rich.markup import escape

from streamproc.core.counted import counted
from streamproc.errors import RegistryError, StaleEntry, UnknownEntry
from streamproc.process import epoch_ms
from streamproc.records import DeviceEntry
from streamproc.registry import checks, tables
from streamproc.registry.keys import new_key
from streamproc.registry.session import edit, looking
from streamproc.store.edits import (
    AddKey,
    Outcome,
    PutDevice,
    RemoveDevice,
    RevokeKey,
    devices,
    sensors,
    topic_key,
)

commands = typer.Typer(no_args_is_help=True, help="Devices and the keys that they need to write.")
keys = typer.Typer(
    no_args_is_help=True,
    help="A device's keys: two may be valid at once, so that keys can be changed without a gap.",
)
commands.add_typer(keys, name="key")

Name = Annotated[str, typer.Argument(metavar="DEVICE", help="The device's uuid.")]
_DAY_MS = 86_400_000


@commands.command()
def add(
    device: Name,
    name: Annotated[str | None, typer.Option(help="Its name for people.")] = None,
    site: Annotated[str | None, typer.Option(help="The site where it is.")] = None,
    tenant: Annotated[str | None, typer.Option(help="The tenant that it belongs to.")] = None,
) -> None:
    """Register a device. If keys are required, it needs one to write: `device key new`.

    streamproc device add 00000000-0000-0000-0000-000000000001 --name "Pump 7" --site north
    """
    entry = DeviceEntry(device.lower(), name, site, tenant)
    if faults := list(checks.device_faults(entry)):
        raise RegistryError("\n".join(faults))
    try:
        asyncio.run(edit([PutDevice(entry, expected=0)]))
    except StaleEntry:
        raise RegistryError(
            f"device {entry.device} is registered already; `registry import` changes it"
        ) from None
    typer.echo(f"device {entry.device} is registered")


@commands.command("list")
def list_() -> None:
    """Show all devices, with the number of sensors and keys of each."""
    table = tables.of("device", "name", "site", "tenant", "enabled", "sensors", "keys")

    async def run() -> None:
        async with looking() as store:
            found = await store.registry()
        counts: dict[str | None, int] = {}
        for sensor in sensors(found):
            counts[sensor.device] = counts.get(sensor.device, 0) + 1
        for entry in devices(found):
            texts = (entry.device, entry.name or "", entry.site or "", entry.tenant or "")
            enabled = "yes" if entry.enabled else "no"
            table.add_row(
                *map(escape, texts), enabled, str(counts.get(entry.device, 0)), str(len(entry.keys))
            )

    asyncio.run(run())
    tables.show(table)


@commands.command()
def show(device: Name) -> None:
    """Show a device, its keys and its sensors."""

    async def run() -> None:
        entry = await _entry(device)
        async with looking() as store:
            theirs = [
                sensor.sensor for sensor in sensors(await store.registry()) if sensor.device == entry.device
            ]
        shown = {
            "device": entry.device,
            "name": entry.name,
            "site": entry.site,
            "tenant": entry.tenant,
            "enabled": entry.enabled,
            "version": entry.version,
            "keys": [
                {"key_id": key.key_id, "created": _time(key.created_at), "expires": _time(key.expires_at)}
                for key in entry.keys
            ],
            "sensors": theirs,
        }
        typer.echo(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True), nl=False)

    asyncio.run(run())


@commands.command()
def enable(device: Name) -> None:
    """Accept readings from a device again."""
    _switch(device, on=True)


@commands.command()
def disable(device: Name) -> None:
    """Accept nothing from a device from now on; its keys and sensors stay."""
    _switch(device, on=False)


def _switch(device: str, *, on: bool) -> None:
    async def run() -> list[Outcome]:
        entry = await _entry(device)
        return await edit([PutDevice(replace(entry, enabled=on), expected=entry.version)])

    (outcome,) = asyncio.run(run())
    already = "" if outcome.changed else " already"
    typer.echo(f"device {outcome.name} is {'enabled' if on else 'disabled'}{already}")


@commands.command()
def remove(
    device: Name,
    with_sensors: Annotated[bool, typer.Option("--with-sensors", help="Remove its sensors as well.")] = False,
) -> None:
    """Remove a device from the registry, and revoke its keys. What it has sent stays in the database."""
    made = asyncio.run(edit([RemoveDevice(device.lower(), with_sensors=with_sensors)]))
    told = f", with {counted(len(made) - 1, 'sensor')}" if len(made) > 1 else ""
    typer.echo(f"device {device.lower()} is removed{told}; its readings stay")


@keys.command("new")
def new(
    device: Name,
    days: Annotated[
        float | None, typer.Option(min=0.01, max=36_500, help="The key expires after so many days.")
    ] = None,
) -> None:
    """Make a key and print it, this once and on stdout only. The device sends it in the header X-Device-Key.

    streamproc device key new 00000000-0000-0000-0000-000000000001 > key.txt
    """
    now_ms = epoch_ms()
    text, key = new_key(now_ms, None if days is None else now_ms + round(days * _DAY_MS))
    asyncio.run(edit([AddKey(device.lower(), key)]))
    typer.echo(text)
    typer.echo(
        f"key {key.key_id} of device {device.lower()}; it is kept nowhere, and not shown again", err=True
    )


@keys.command("list")
def list_keys(device: Name) -> None:
    """Show a device's keys by their ids; the keys themselves are stored nowhere."""
    entry = asyncio.run(_entry(device))
    table = tables.of("key", "created", "expires")
    for key in entry.keys:
        table.add_row(key.key_id, _time(key.created_at) or "", _time(key.expires_at) or "never")
    tables.show(table)


@keys.command("revoke")
def revoke(device: Name, key_id: Annotated[str, typer.Argument(metavar="KEY", help="The key's id.")]) -> None:
    """Revoke a device's key: within a second no gateway accepts it any more."""
    if key_id.startswith("sp1_"):
        raise RegistryError("name the key by its id, the part between the two _: the key itself is a secret")
    asyncio.run(edit([RevokeKey(device.lower(), key_id)]))
    typer.echo(f"key {key_id} of device {device.lower()} is revoked")


async def _entry(device: str) -> DeviceEntry:
    name = device.lower()
    async with looking() as store:
        entry = (await store.registry([topic_key("device", name)])).get(topic_key("device", name))
    if not isinstance(entry, DeviceEntry):
        raise UnknownEntry(f"no device {name} is registered")
    return entry


def _time(ms: int | None) -> str | None:
    if ms is None:
        return None
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
