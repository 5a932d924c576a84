"""What every store must do with the registry: sensors, devices, keys, and who has changed what."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from streamproc.errors import RegistryError, RowsRefused, StaleEntry, StaleOwner, UnknownEntry
from streamproc.records import (
    ActionEntry,
    DeltaSpike,
    DeviceEntry,
    DeviceKey,
    Expression,
    NoData,
    Range,
    RateOfChange,
    SensorEntry,
    Severity,
    SeverityEvent,
    StuckValue,
)
from streamproc.store.edits import (
    DATABASE,
    AddKey,
    Author,
    Edit,
    Found,
    Gone,
    Outcome,
    PutAction,
    PutDevice,
    PutSensor,
    RemoveAction,
    RemoveDevice,
    RemoveSensor,
    RevokeKey,
)
from streamproc.store.protocol import Batch, Reached, Store
from tests.store.builders import GROUP, PLACE, batch, event, events, readings
from tests.store.databases import Database

NOW = 1_700_000_000_123
ANN = Author("ann", NOW)
GUID = "aaaaaaaa-0000-0000-0000-000000000101"
WHOLE = SensorEntry(
    GUID,
    device="pump",
    name="boiler",
    unit="°C",
    kind="temperature",
    site="north",
    tenant="acme",
    warning=Range(10.0, 80.0, 12.5, 77.5),
    critical=Range(high=95.0, clear_high=90.25),
    rules=(
        DeltaSpike(absolute=5.0, within_seconds=60.0),
        DeltaSpike(percent=20.0),
        RateOfChange(0.5, window="5s", for_windows=2),
        NoData(60.0, severity=Severity.CRITICAL),
        StuckValue(600.0, tolerance=0.1, clear_windows=3),
        Expression("mean_10s > 80 and trend_10s > 0.5 or max_1s - min_1s > 3"),
    ),
)


def key(number: int, expires_at: int | None = None) -> DeviceKey:
    """A key; no two numbers have the same hash."""
    return DeviceKey(f"k{number}", f"{number:064x}", NOW + number, expires_at)


def as_batch(told: SeverityEvent) -> Batch:
    """What the sink writes of an event."""
    return Batch(GROUP, {PLACE: (None, 1)}, events=events(told))


async def edit(store: Store, *edits: Edit, by: Author = ANN) -> Sequence[Outcome]:
    """Make edits."""
    return await store.edit_registry(edits, by)


async def test_all_of_a_sensor_is_kept(store: Store) -> None:
    """Clear levels, rules, site and tenant as well; its device is registered with it."""
    device, sensor = await edit(store, PutSensor(replace(WHOLE, version=7)))  # as a file may have it
    assert isinstance(sensor.entry, SensorEntry)
    numbered = replace(WHOLE, sensor_id=sensor.entry.sensor_id)
    assert numbered.sensor_id is not None
    assert (sensor.entry, device.entry) == (numbered, DeviceEntry("pump"))
    assert await store.registry() == {GUID: numbered, "device/pump": DeviceEntry("pump")}
    assert await store.registry(["device/pump", "none"]) == {"device/pump": DeviceEntry("pump")}


async def test_a_number_that_is_refused_spoils_no_later_edit(database: Database, store: Store) -> None:
    """Of a sensor that the database does not take, by a rule of its own or for another was there first."""
    database.execute("CREATE UNIQUE INDEX theirs ON sensors (name)")
    await edit(store, PutSensor(SensorEntry("a", name="pump")))
    with pytest.raises(RowsRefused):
        await edit(store, PutSensor(SensorEntry("b", sensor_id=77, name="pump")))
    await edit(store, PutSensor(SensorEntry("b", name="motor")))
    await edit(store, PutSensor(SensorEntry("c", sensor_id=77, name="fan")))
    numbers = [entry.sensor_id for entry in await store.entries()]
    assert numbers[0] != numbers[1] != 77 == numbers[2]


async def test_many_sensors_at_once(store: Store) -> None:
    """Those of an import are numbered in its order, bounds are kept bit for bit, and all can be changed at once."""
    names = [f"s{number:04d}" for number in range(1_100)]
    bounds = [Range(-number / 7, number / 3 + 1e-300) for number in range(1_100)]
    entries = [SensorEntry(name, device="d", critical=span) for name, span in zip(names, bounds, strict=True)]
    await edit(store, *map(PutSensor, entries))
    found = {entry.sensor: entry for entry in await store.entries()}
    assert [found[name].critical for name in names] == bounds
    numbers = [found[name].sensor_id or 0 for name in names]
    assert numbers == sorted(numbers)
    await edit(store, *(PutSensor(replace(entry, unit="V", device="e")) for entry in entries))
    changed = {entry.sensor: entry for entry in await store.entries()}
    assert changed == {name: replace(entry, unit="V", device="e", version=2) for name, entry in found.items()}
    assert [line.name for line in await store.audit(limit=1_100)] == names[::-1]


async def test_all_of_a_device_is_kept(store: Store) -> None:
    """Its keys too, as hashes; what is changed raises the version, the same again does not."""
    entry = DeviceEntry(
        "pump", name="Pump 7", site="north", tenant="acme", keys=(key(1), key(2, NOW + 500_000))
    )
    assert [outcome.entry for outcome in await edit(store, PutDevice(entry))] == [entry]
    (same,) = await edit(store, PutDevice(replace(entry, keys=())))
    assert (same.entry, same.changed) == (entry, False)
    off = replace(entry, enabled=False, name=None, version=2)
    assert [outcome.entry for outcome in await edit(store, PutDevice(off))] == [off]
    on = replace(off, enabled=True, version=3)
    assert [outcome.entry for outcome in await edit(store, PutDevice(on))] == [on]
    assert await store.registry() == {"device/pump": on}


async def test_a_key_is_one_of_two(store: Store) -> None:
    """A third live one is refused, with what to do; one that has expired makes room, one that is revoked does."""
    await edit(store, PutDevice(DeviceEntry("pump")), AddKey("pump", key(1)))
    await edit(store, AddKey("pump", key(2, NOW + 1_000)))
    with pytest.raises(
        RegistryError, match=r"two live keys|2 live keys already \(k1, k2\).* key revoke pump k1"
    ):
        await edit(store, AddKey("pump", key(3)))
    (outcome,) = await edit(store, AddKey("pump", key(3)), by=Author("ann", NOW + 1_000))
    assert outcome.entry == DeviceEntry("pump", keys=(key(1), key(3)), version=4)
    (outcome,) = await edit(store, RevokeKey("pump", "k1"))
    assert outcome.entry == DeviceEntry("pump", keys=(key(3),), version=5)
    (outcome,) = await edit(store, RevokeKey("pump", "k1"))
    assert not outcome.changed
    with pytest.raises(UnknownEntry, match="no key k9"):
        await edit(store, RevokeKey("pump", "k9"))


async def test_a_revoked_key_does_not_come_back(store: Store) -> None:
    """A file that was exported before it was revoked may be imported."""
    entry = DeviceEntry("pump", keys=(key(1),))
    await edit(store, PutDevice(entry))
    await edit(store, RevokeKey("pump", "k1"))
    (outcome,) = await edit(store, PutDevice(entry))
    assert outcome.entry == DeviceEntry("pump", version=2)


async def test_a_key_is_one_devices(store: Store) -> None:
    """Whose it is would be anybody's guess."""
    await edit(store, PutDevice(DeviceEntry("a", keys=(key(1),))))
    with pytest.raises(RowsRefused):
        await edit(store, PutDevice(DeviceEntry("b", keys=(replace(key(1), key_id="other"),))))
    assert await store.registry() == {"device/a": DeviceEntry("a", keys=(key(1),))}


async def test_a_sensor_leaves_and_comes_back(database: Database, store: Store) -> None:
    """Its readings stay; when it is back, it has its number and a higher version."""
    await store.write(batch(readings(("s", 1.5, 1), device="d")))
    (outcome,) = await edit(store, RemoveSensor("s"))
    assert outcome.entry is None
    assert await store.entries() == []
    assert (await store.registry())["s"] is None
    assert database.rows("SELECT count(*) FROM sensor_readings") == [(1,)]
    with pytest.raises(UnknownEntry, match="no sensor s"):
        await edit(store, RemoveSensor("s"))
    (outcome,) = await edit(store, PutSensor(SensorEntry("s", unit="V"), expected=0))
    assert isinstance(outcome.entry, SensorEntry)
    assert (outcome.entry.version, outcome.entry.device, outcome.entry.unit) == (3, "d", "V")


async def test_a_device_leaves_with_its_sensors_or_alone(store: Store) -> None:
    """One that has sensors is not removed by mistake; its keys go with it, and do not come back."""
    await edit(store, PutDevice(DeviceEntry("d", keys=(key(1),))), PutSensor(SensorEntry("s", device="d")))
    with pytest.raises(RegistryError, match=r"has 1 sensor \(s\)"):
        await edit(store, RemoveDevice("d"))
    await edit(store, RemoveDevice("d", with_sensors=True))
    assert await store.registry() == {"s": None, "device/d": None}
    with pytest.raises(RegistryError, match=r"device d was removed.*streamproc device add d"):
        await edit(store, PutSensor(SensorEntry("t", device="d")))
    (outcome,) = await edit(store, PutDevice(DeviceEntry("d", keys=(key(1),))))
    assert outcome.entry == DeviceEntry("d", version=3)


async def test_a_lost_update_is_told(store: Store) -> None:
    """An edit that names a version changes that one or none."""
    await edit(store, PutSensor(SensorEntry("s"), expected=0))
    await edit(store, PutSensor(SensorEntry("s", unit="V"), expected=1))
    for stale in (PutSensor(SensorEntry("s"), 1), PutSensor(SensorEntry("s"), 0), RemoveSensor("s", 1)):
        with pytest.raises(StaleEntry, match="has version 2 by now"):
            await edit(store, stale)
    with pytest.raises(StaleEntry, match="not registered by now"):
        await edit(store, PutDevice(DeviceEntry("d"), 4))


async def test_edits_are_made_together_or_not_at_all(store: Store) -> None:
    """All faults are told."""
    with pytest.raises(RegistryError) as told:
        await edit(store, PutSensor(SensorEntry("s")), RemoveSensor("t"), RevokeKey("d", "k"))
    assert str(told.value).splitlines() == ["no sensor t is registered", "no device d is registered"]
    assert await store.registry() == {}


async def test_every_change_is_audited(store: Store) -> None:
    """Who, when, what, before and after; without the keys' hashes. What changes nothing is no line."""
    await edit(store, PutDevice(DeviceEntry("d")))
    await edit(store, AddKey("d", key(1)), by=Author("bob", NOW + 1))
    await edit(store, PutDevice(DeviceEntry("d")))
    await edit(store, PutSensor(SensorEntry("s", sensor_id=None)))
    await edit(store, RemoveSensor("s"))
    lines = await store.audit()
    assert [(line.action, line.kind, line.name, line.version) for line in lines] == [
        ("remove", "sensor", "s", 2),
        ("create", "sensor", "s", 1),
        ("key-new", "device", "d", 2),
        ("create", "device", "d", 1),
    ]
    added = lines[2]
    assert (added.actor, added.at, added.before) == ("bob", NOW + 1, {"device": "d"})
    assert added.after == {
        "device": "d",
        "keys": [{"key_id": "k1", "created_at": NOW + 1}],
        "version": 2,
    }
    assert lines[1].after == {"sensor": "s", "sensor_id": (lines[0].before or {})["sensor_id"]}
    assert [line.id for line in await store.audit(("device", "d"))] == [lines[2].id, lines[3].id]
    assert [line.id for line in await store.audit(before=lines[0].id, limit=2)] == [lines[1].id, lines[2].id]


async def test_what_others_change_gets_a_version_and_a_line(database: Database, store: Store) -> None:
    """A row that was changed by SQL: the version is above the topic's, and the audit tells what it was."""
    (made,) = await edit(store, PutSensor(SensorEntry("s", unit="V")))
    known = made.entry
    assert isinstance(known, SensorEntry)
    database.execute("UPDATE sensors SET unit = 'A' WHERE uuid = 's'")
    now = (await store.registry())["s"]
    assert isinstance(now, SensorEntry)
    by = Author(DATABASE, NOW)
    (outcome,) = await edit(store, Found(now, known), by=by)
    assert outcome.entry == replace(known, unit="A", version=2)
    assert await edit(store, Found(now, known), by=by) == []  # another sink was quicker
    line = (await store.audit())[0]
    assert (line.actor, line.action, line.version) == (DATABASE, "change", 2)
    assert (line.before or {})["unit"] == "V"


async def test_an_own_edit_that_was_not_sent_is_no_change(store: Store) -> None:
    """It is told again as it is, with no further version or line."""
    (first,) = await edit(store, PutSensor(SensorEntry("s")))
    (second,) = await edit(store, PutSensor(SensorEntry("s", unit="V")))
    assert isinstance(first.entry, SensorEntry)
    assert isinstance(second.entry, SensorEntry)
    for known in (None, first.entry):
        assert await edit(store, Found(second.entry, known)) == [
            Outcome("sensor", "s", second.entry, changed=False)
        ]
    assert len(await store.audit()) == 2


async def test_what_readings_have_registered_is_told(store: Store) -> None:
    """Once, as made by the database."""
    await store.write(batch(readings(("s", 1.5, 1), device="d")))
    found = await store.registry()
    edits = [Found(entry, None) for entry in found.values() if entry is not None]
    outcomes = await edit(store, *edits, by=Author(DATABASE, NOW))
    assert {outcome.key: outcome.entry for outcome in outcomes} == found
    assert {line.action for line in await store.audit()} == {"create"}
    await edit(store, *edits, by=Author(DATABASE, NOW))
    assert len(await store.audit()) == 2


async def test_what_others_remove_is_gone(database: Database, store: Store) -> None:
    """By a flag or by its row; what was never in this database is left alone, for it may be the wrong database."""
    outcomes = await edit(store, PutSensor(SensorEntry("s")), PutSensor(SensorEntry("t")))
    s, t = (outcome.entry for outcome in outcomes)
    assert isinstance(s, SensorEntry)
    assert isinstance(t, SensorEntry)
    database.execute("UPDATE sensors SET is_active = 0 WHERE uuid = 's'")
    database.execute("DELETE FROM sensors WHERE uuid = 't'")
    gone = [Gone(s), Gone(t), Gone(SensorEntry("never"))]
    outcomes = await edit(store, *gone, by=Author(DATABASE, NOW))
    assert [(outcome.name, outcome.entry) for outcome in outcomes] == [("s", None), ("t", None)]
    assert [line.action for line in await store.audit()] == ["remove", "remove", "create", "create"]
    database.execute("UPDATE sensors SET is_active = 1 WHERE uuid = 's'")
    assert await edit(store, Gone(s), by=Author(DATABASE, NOW)) == []


async def test_the_registrys_position_is_kept_beside_the_offset(store: Store) -> None:
    """In the same transaction; a batch that names none, or that another has overtaken, leaves none of its own."""
    await store.write(Batch(GROUP, {PLACE: (None, 7), ("events", 0): (None, 3)}, registry={PLACE: 2**40}))
    assert await store.reached(GROUP) == {PLACE: Reached(7, 2**40), ("events", 0): Reached(3, -1)}
    assert await store.reached("another group") == {}
    with pytest.raises(StaleOwner):
        await store.write(Batch(GROUP, {PLACE: (5, 8)}, registry={PLACE: 5}))
    assert (await store.reached(GROUP))[PLACE] == Reached(7, 2**40)
    await store.write(Batch(GROUP, {PLACE: (7, 8)}, registry={PLACE: 0}))
    assert (await store.reached(GROUP))[PLACE] == Reached(8, 0)
    await store.write(Batch(GROUP, {PLACE: (8, 9)}))
    assert (await store.reached(GROUP))[PLACE] == Reached(9, -1)


async def test_recommended_actions_are_kept(store: Store) -> None:
    """In one language or both; they are versioned, audited, removed and put again as other entries."""
    pump = ActionEntry("pump/7 ñ", "stuck", en="Look at it.", es="Mírelo.")
    every = ActionEntry("*", "stuck", es="Mire.")
    made = await edit(store, PutAction(replace(pump, version=9)), PutAction(every))
    assert [(outcome.key, outcome.entry) for outcome in made] == [
        ("action/pump/7 ñ/stuck", pump),
        ("action/*/stuck", every),
    ]
    assert await store.registry() == {"action/pump/7 ñ/stuck": pump, "action/*/stuck": every}
    assert await store.registry(["action/*/stuck", "stuck", "device/*"]) == {"action/*/stuck": every}
    (same,) = await edit(store, PutAction(pump))
    assert not same.changed
    fewer = replace(pump, es=None, version=2)
    assert [outcome.entry for outcome in await edit(store, PutAction(fewer, expected=1))] == [fewer]
    with pytest.raises(StaleEntry, match="has version 2 by now, not 1"):
        await edit(store, PutAction(pump, expected=1))
    await edit(store, RemoveAction(pump.name, expected=2))
    assert (await store.registry())["action/pump/7 ñ/stuck"] is None
    with pytest.raises(UnknownEntry, match="no action pump/7 ñ/stuck"):
        await edit(store, RemoveAction(pump.name))
    await edit(store, PutAction(pump, expected=0))
    assert (await store.registry())["action/pump/7 ñ/stuck"] == replace(pump, version=4)
    lines = await store.audit(("action", pump.name))
    assert [(line.action, line.version) for line in lines] == [
        ("restore", 4),
        ("remove", 3),
        ("change", 2),
        ("create", 1),
    ]
    assert lines[-1].after == {"kind": "pump/7 ñ", "cause": "stuck", "en": "Look at it.", "es": "Mírelo."}


async def test_recommended_actions_of_others_are_found(database: Database, store: Store) -> None:
    """Who writes one by SQL need not know of versions; one that is switched off, or deleted, goes."""
    database.execute(
        "INSERT INTO recommended_actions (kind, cause, language, text) VALUES ('*', 'level', 'en', 'Look.')"
    )
    entry = ActionEntry("*", "level", en="Look.")
    assert await store.registry() == {"action/*/level": entry}
    (found,) = await edit(store, Found(entry, None), by=Author(DATABASE, NOW))
    assert found == Outcome("action", "*/level", entry, changed=True)
    database.execute("UPDATE recommended_actions SET is_active = 0")
    assert await store.registry() == {"action/*/level": None}
    database.execute("DELETE FROM recommended_actions")
    (gone,) = await edit(store, Gone(entry), by=Author(DATABASE, NOW))
    assert (gone.entry, gone.changed) == (None, True)
    assert [line.action for line in await store.audit(("action", "*/level"))] == ["remove", "create"]


async def test_an_event_is_found_by_its_id(store: Store) -> None:
    """Whole, as it was on its topic; withdrawn ones too."""
    told = event("s", Severity.WARN, Severity.NORMAL, 1_234)
    await store.write(as_batch(told))
    assert await store.event(told.event_id) == told
    assert await store.event("none") is None
    assert await store.event("no\0ne") is None
