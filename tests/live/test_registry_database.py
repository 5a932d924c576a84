"""The registry of real processes: edited by SQL, by commands and over the admin API, and soon everywhere."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import closing
from pathlib import Path
from time import monotonic, time
from types import ModuleType
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError
from typer.testing import CliRunner

from streamproc.errors import EntryNotSent
from streamproc.records import DeviceEntry, Range, SensorEntry, Severity, SeverityEvent
from streamproc.records.alerting import HandlingEntry, PolicyEntry, SilenceEntry, Weekly
from streamproc.registry import Registry, Service, alarm_commands, policy_commands, silence_commands
from streamproc.registry.keys import hashed
from streamproc.registry.mending import Mended, Mender
from streamproc.registry.sender import sending
from streamproc.registry.session import actor
from streamproc.store.edits import Edit, PutDevice, PutSensor, RemoveSensor
from streamproc.store.protocol import Batch
from streamproc.store.sqlite.store import SqliteStore
from tests.live.feed import packet, send
from tests.live.oracle import Reader
from tests.live.processes import Site, eventually
from tests.live.test_gateway import gateway
from tests.slowness import in_time
from tests.store.builders import event, events, save_entries

KEY = "an admin's own key"
HEADERS = {"X-Admin-Key": KEY}


@pytest.fixture
async def view(site: Site) -> AsyncIterator[Registry]:
    """The registry as gateways and workers see it."""
    started = await Registry(site.bootstrap, f"{site.prefix}registry").start()
    yield started
    await started.stop()


@pytest.fixture
async def store(site: Site) -> AsyncIterator[SqliteStore]:
    """The site's database."""
    opened = SqliteStore(site.database)
    await opened.open()
    yield opened
    await opened.close()


def execute(path: Path, statement: str) -> None:
    """Edit the database as people do who know nothing of streamproc."""
    with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as connection:
        connection.execute(statement)


async def test_what_is_changed_by_sql_is_live_within_the_time(
    site: Site, producer: AIOKafkaProducer, view: Registry
) -> None:
    """Sensors that readings have registered as well; of two sinks one sees to it, and a change has one version."""
    for name in ("one", "other"):
        await site.sink(SENSOR_MAP_TTL_SECONDS="1", STREAMPROC_GROUP_INSTANCE_ID=name)
    await (await send(producer, f"{site.prefix}readings", "d", packet("d", "s", 1.0, time())))

    async def registered() -> bool:
        return "s" in view.entries and "d" in view.devices

    await eventually(registered)
    took = []
    for version in range(2, 5):
        execute(
            site.database,
            "UPDATE sensors SET critical_high = COALESCE(critical_high, 1) + 1 WHERE uuid = 's'",
        )
        began = monotonic()

        async def changed(version: int = version) -> bool:
            return view.entries["s"].critical == Range(high=float(version))

        await eventually(changed)
        took.append(monotonic() - began)
        assert view.entries["s"].version == version
    assert in_time(sorted(took)[1], 5), took
    execute(site.database, "UPDATE devices SET status = 'disabled'")

    async def disabled() -> bool:
        return not view.devices["d"].enabled

    await eventually(disabled)
    execute(site.database, "UPDATE sensors SET is_active = 0")

    async def removed() -> bool:
        return not view.entries

    await eventually(removed)
    sink = SqliteStore(site.database)
    lines = await sink.audit(("sensor", "s"))
    assert [(line.action, line.actor, line.version) for line in lines] == [
        ("remove", "database", 5),
        *(("change", "database", version) for version in (4, 3, 2)),
        ("create", "database", 1),
    ]
    await sink.close()


async def test_a_range_set_over_the_admin_api_is_judged_by_soon(
    site: Site, store: SqliteStore, producer: AIOKafkaProducer, reader: Reader
) -> None:
    """A second is promised from the answer on; a machine that has others' work may take some."""
    assert await store.registry() == {}
    await site.worker()
    took = []
    async with gateway(site.bootstrap, site.prefix, admin_api_key=KEY, database=site.database) as client:
        for sensor in ("a", "b", "c"):
            value = packet("d", sensor, 99.0, time())
            await (await send(producer, f"{site.prefix}readings", "d", value))
            body = {"device": "d", "critical": {"high": 60}}
            async with client.put(f"/admin/sensors/{sensor}", json=body, headers=HEADERS) as answer:
                assert answer.status == 201, await answer.text()
            began = monotonic()

            async def judged(sensor: str = sensor) -> bool:
                value = packet("d", sensor, 99.0, time())
                await (await send(producer, f"{site.prefix}readings", "d", value))
                events = await reader.values("events")
                return any(msgspec.json.decode(each, type=SeverityEvent).sensor == sensor for each in events)

            await eventually(judged)
            took.append(monotonic() - began)
    assert in_time(sorted(took)[1], 5), took


async def test_a_revoked_key_is_gone_everywhere_soon(site: Site, store: SqliteStore, view: Registry) -> None:
    """From those who follow, from those who start, and from a gateway that was started anew."""
    assert await store.registry() == {}
    settings: dict[str, Any] = {"admin_api_key": KEY, "database": site.database}

    async def made(client: ClientSession) -> str:
        """A new key of the device that those who follow know, by its id."""
        async with client.post("/admin/devices/d/keys", headers=HEADERS) as answer:
            key = await answer.json()

        async def known() -> bool:
            return "d" in view.devices and len(view.devices["d"].keys) == 1

        await eventually(known)
        assert view.devices["d"].keys[0].sha256 == hashed(key["key"])
        return str(key["key_id"])

    async def revoked() -> bool:
        return not view.devices["d"].keys

    async with gateway(site.bootstrap, site.prefix, **settings) as client:
        async with client.put("/admin/devices/d", json={}, headers=HEADERS) as answer:
            assert answer.status == 201
        key_id = await made(client)
    took = []
    async with gateway(site.bootstrap, site.prefix, **settings) as client:
        for number in range(3):
            key_id = await made(client) if number else key_id
            async with client.delete(f"/admin/devices/d/keys/{key_id}", headers=HEADERS) as answer:
                assert answer.status == 204
            began = monotonic()
            await eventually(revoked)
            took.append(monotonic() - began)
    assert in_time(sorted(took)[1], 1), took
    late = await Registry(site.bootstrap, f"{site.prefix}registry").start()
    assert late.devices == {"d": DeviceEntry("d", version=7)}
    await late.stop()


async def test_what_did_not_reach_the_topic_is_mended(
    site: Site, store: SqliteStore, producer: AIOKafkaProducer, view: Registry
) -> None:
    """A change and a removal that Kafka did not take; the versions stay, and nothing is left to mend afterwards."""
    send_on = sending(producer, f"{site.prefix}registry")
    await Service(store, send_on).edit([PutSensor(SensorEntry("gone")), PutSensor(SensorEntry("s"))], "ann")

    async def away(_: Mapping[str, bytes | None]) -> None:
        raise KafkaConnectionError("away")

    edits: list[Edit] = [
        PutSensor(SensorEntry("s", unit="V")),
        RemoveSensor("gone"),
        PutDevice(DeviceEntry("d")),
    ]
    with pytest.raises(EntryNotSent):
        await Service(store, away).edit(edits, "ann")
    mender = Mender(store, send_on, view)
    assert await mender.mend() == Mended(sent=3, removed=1, refused=0, strays=0)
    await view.caught_up()
    assert view.entries == {"s": (await store.registry())["s"]}
    assert view.devices == {"d": DeviceEntry("d")}
    assert {line.actor for line in await store.audit()} == {"ann"}
    assert await mender.mend() == Mended(0, 0, 0, 0)


async def test_what_is_no_entry_and_what_is_not_ours_is_left_alone(
    site: Site, store: SqliteStore, producer: AIOKafkaProducer, view: Registry
) -> None:
    """A row that makes no sense does not go to the topic; an empty database does not take everything away."""
    topic = f"{site.prefix}registry"
    stray = SensorEntry("stray", critical=Range(high=5.0))
    await producer.send_and_wait(topic, msgspec.json.encode(stray), b"stray")
    await Service(store, sending(producer, topic)).edit([PutSensor(SensorEntry("s"))], "ann")
    execute(site.database, "UPDATE sensors SET warning_low = 9, warning_high = 1 WHERE uuid = 's'")
    execute(site.database, "INSERT INTO sensors (uuid) VALUES ('device/x')")
    mender = Mender(store, sending(producer, topic), view)
    assert await mender.mend() == Mended(sent=0, removed=0, refused=2, strays=1)
    assert view.entries["stray"] == stray
    assert view.entries["s"].warning is None
    execute(site.database, "UPDATE sensors SET warning_low = 0 WHERE uuid = 's'")
    assert (await mender.mend()).sent == 1
    await view.caught_up()
    assert view.entries["s"].warning == Range(0.0, 1.0)


async def command(site: Site, *arguments: str) -> str:
    """What `streamproc ARGUMENTS` prints on stdout; it succeeds."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "streamproc", *arguments),
        env=site.environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_commands_edit_devices_sensors_and_keys(
    site: Site, store: SqliteStore, producer: AIOKafkaProducer, view: Registry, tmp_path: Path
) -> None:
    """What they say is so on the topic; the key is alone on stdout, and its user stands in the audit."""
    assert await store.registry() == {}
    file = tmp_path / "r.yaml"
    file.write_text("devices: [{device: d}]\nsensors: [{sensor: s, device: d}, {sensor: t}]")
    assert (
        await command(site, "registry", "import", str(file))
        == "1 device and 2 sensors saved and sent, 3 changed\n"
    )
    await command(site, "device", "add", "Pump", "--name", "Pump 7", "--site", "north")
    key = (await command(site, "device", "key", "new", "pump")).removesuffix("\n")
    await command(site, "device", "disable", "d")
    await command(site, "registry", "remove", "t")
    await view.caught_up()
    pump = view.devices["pump"]
    assert (pump.name, pump.site, pump.keys[0].sha256) == ("Pump 7", "north", hashed(key))
    assert not view.devices["d"].enabled
    assert list(view.entries) == ["s"]
    listed = await command(site, "device", "key", "list", "pump")
    assert pump.keys[0].key_id in listed
    assert key.rpartition("_")[2] not in listed + await command(site, "device", "show", "pump")
    await command(site, "device", "key", "revoke", "pump", pump.keys[0].key_id)
    await producer.send_and_wait(
        f"{site.prefix}registry", msgspec.json.encode(SensorEntry("stray")), b"stray"
    )
    assert "on the topic alone" in await command(site, "registry", "remove", "stray")
    await view.caught_up()
    assert not view.devices["pump"].keys
    assert list(view.entries) == ["s"]
    history = await command(site, "registry", "history", "device/pump")
    assert [line.split()[2] for line in history.splitlines()] == ["key-revoke", "key-new", "create"]
    assert {line.split()[1] for line in history.splitlines()} == {actor()}


async def printed(of: ModuleType, *words: str) -> str:
    """What a command prints in this process, which starts no other for it; it succeeds."""
    result = await asyncio.to_thread(CliRunner().invoke, of.commands, words)
    assert result.exception is None, result.exception
    return result.stdout


async def test_commands_say_how_people_are_told(
    site: Site, store: SqliteStore, view: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silences, policies, and who looks after an alarm are on the topic as the commands say, and in the audit."""
    for setting, value in site.environment().items():
        monkeypatch.setenv(setting, value)
    alarm = event("s", Severity.WARN, Severity.NORMAL)
    saved = (await save_entries(store, [SensorEntry("s", site="north")]))[0]
    await store.write(Batch("test", {("readings", 0): (None, 1)}, events=events(alarm)))
    made = await printed(
        silence_commands, "add", "--sensor", str(saved.sensor_id), "--weekly", "sat 22:00 8h"
    )
    name = made.splitlines()[-1].split()[1].rstrip(":")
    assert made.endswith("; 1 sensor now\n")
    await printed(policy_commands, "set", "Pump", "--remind", "4h")
    assert "up_windows 2" in await printed(policy_commands, "set", "pump", "--up-windows", "2")
    assert "is acknowledged" in await printed(alarm_commands, "ack", "S", "--note", "Mine.")
    await printed(silence_commands, "end", name)
    await view.caught_up()
    policy, handling = view.documents["policy/pump"], view.documents["handling/s"]
    assert policy == PolicyEntry("pump", up_windows=2, remind_seconds=14_400.0, version=2)
    assert isinstance(handling, HandlingEntry)
    assert (handling.event_id, handling.note, handling.by) == (alarm.event_id, "Mine.", actor())
    silence = view.documents[f"silence/{name}"]
    assert isinstance(silence, SilenceEntry)
    assert silence.sensor == "s"
    assert silence.end is not None
    assert silence.weekly == Weekly((5,), "22:00", 480)
    await printed(alarm_commands, "unack", "s")
    await view.caught_up()
    assert view.documents.keys() == {"policy/pump", f"silence/{name}"}


async def test_an_edit_amid_a_comparison_is_not_undone(
    site: Site, store: SqliteStore, producer: AIOKafkaProducer, view: Registry
) -> None:
    """It is made, and sent, after the rows were read and before what differed is sent."""
    topic = f"{site.prefix}registry"
    service = Service(store, sending(producer, topic))
    await service.edit([PutSensor(SensorEntry("s"))], "ann")
    execute(site.database, "UPDATE sensors SET unit = 'A' WHERE uuid = 's'")
    edited: list[int] = []

    async def amid(records: Mapping[str, bytes | None]) -> None:
        if not edited:
            edited.append(1)
            await service.edit([PutSensor(SensorEntry("s", unit="V"))], "bob")
        await sending(producer, topic)(records)

    await Mender(store, amid, view).mend()
    await view.caught_up()
    assert view.entries["s"] == (await store.registry())["s"]
    assert view.entries["s"].unit == "V"
