"""Keys of sensors and devices that a database might take for one another: no reading goes to another sensor than its own."""

from __future__ import annotations

import asyncio

import pytest

from streamproc.errors import RowsRefused
from streamproc.records import DeadLetter, SensorEntry
from streamproc.registry.following import Whole
from streamproc.settings import Settings
from streamproc.sink.writer import Writer
from streamproc.store.protocol import Batch, Store, Written
from tests.store.builders import GROUP, batch, chunk, predictions, readings, save_entries, single, windows
from tests.store.databases import Database, Sqlite

#: SQL Server ignores blanks at the end of a text, in each collation, when it compares.
PADDED = "a "
VALUES = "SELECT s.uuid, r.value FROM sensor_readings r JOIN sensors s ON s.id = r.sensor_id ORDER BY r.value"


def written_by(store: Store, letters: list[DeadLetter]) -> Writer:
    """A sink's writer, whose dead letters are added to these."""

    async def keep(faults: list[DeadLetter]) -> None:
        letters.extend(faults)

    return Writer(store, Settings.model_validate({}), keep, Whole())


async def test_letter_case_tells_sensors_apart(database: Database, store: Store) -> None:
    """Whatever the database's own collation says; GUIDs that were written in capitals as well."""
    guid = "aaaaaaaa-0000-0000-0000-000000000101"
    keys = ["a", "A", guid, guid.upper()]
    rows = readings(*((key, float(number), number) for number, key in enumerate(keys)))
    assert await store.write(batch(rows)) == Written(readings=4)
    assert database.rows(VALUES) == [(key, float(number)) for number, key in enumerate(keys)]
    assert set(await store.registry(["A", guid.upper()])) == {"A", guid.upper()}


async def test_a_blank_at_the_end_makes_no_sensor_another(database: Database, store: Store) -> None:
    """Neither reading nor window goes to the sensor without it: it has one of its own, or is refused by name."""
    await store.write(Batch(GROUP, {}, readings(("a", 1.0, 1)), windows=windows(("a", 1.0, 0))))
    padded = Batch(GROUP, {}, readings((PADDED, 2.0, 2)), windows=windows((PADDED, 2.0, 0)))
    if isinstance(database, Sqlite):
        assert await store.write(padded) == Written(readings=1, windows=1)
        return
    for _ in range(2):
        with pytest.raises(RowsRefused, match="end in a blank") as refused:
            await store.write(padded)
        assert refused.value.sensors == {PADDED}
        compared = await store.compare(padded)
        assert compared["readings"].unknown.tolist() == compared["windows"].unknown.tolist() == [True]
    assert database.rows(VALUES) == [("a", 1.0)]


async def test_a_registered_sensor_is_no_other_with_a_blank(database: Database, strict: Store) -> None:
    """Where sensors must be registered, one is unknown whose key has a blank more; an entry changes its own sensor alone."""
    await save_entries(strict, [SensorEntry("a")])
    with pytest.raises(RowsRefused) as refused:
        await strict.write(Batch(GROUP, {}, predictions=predictions((PADDED, 1.0, 1), ("a", 1.0, 1))))
    assert refused.value.sensors == {PADDED}
    assert await strict.registry([PADDED]) == {}
    if not isinstance(database, Sqlite):
        with pytest.raises(RowsRefused):
            await save_entries(strict, [SensorEntry(PADDED, unit="V")])
    assert [(entry.sensor, entry.unit) for entry in await strict.entries()] == [("a", None)]


async def test_an_unknown_sensor_is_told_that_its_name_ends_in_a_blank(strict: Store) -> None:
    """Nobody sees the blank, and the registry takes no such name."""
    await save_entries(strict, [SensorEntry("a")])
    letters: list[DeadLetter] = []
    await written_by(strict, letters).write([chunk([single("a", 1.0), single(PADDED, 1.0)])])
    told = [(fault.offset, fault.reason) for fault in letters]
    assert told == [(1, "unknown sensor a ; a name that ends in a blank is none")]


async def test_devices_that_differ_in_blanks_cost_no_reading(database: Database, store: Store) -> None:
    """They are one to SQL Server: both sensors are registered, the second batch as the first."""
    homes = readings(("a", 1.0, 1), ("b", 2.0, 2), ("c", 3.0, 3), ("d", 4.0, 4))
    homes.device[:] = ["home", "home ", "  ", None]
    assert await store.write(batch(homes)) == Written(readings=4)
    later = readings(("c", 5.0, 5), ("d", 6.0, 6))
    later.device[:] = ["house ", "home  "]
    assert await store.write(batch(later, 1, 2)) == Written(readings=2)
    query = "SELECT s.uuid, d.uuid FROM sensors s LEFT JOIN devices d ON d.id = s.device_id ORDER BY s.uuid"
    found = {sensor: device and device.rstrip() for sensor, device in database.rows(query)}
    assert (found["a"], found["b"], found["d"]) == ("home", "home", "home")


async def test_a_sink_gets_past_keys_that_a_database_takes_for_one(database: Database, store: Store) -> None:
    """What is not stored is told by name, once; all else is stored, and the sink goes on."""
    letters: list[DeadLetter] = []
    writer = written_by(store, letters)
    keys = ["b", PADDED, "a", "b ", "A "]
    values = [single(key, float(number), number) for number, key in enumerate(keys)]
    async with asyncio.timeout(120):  # seconds on the slowest machine; for ever is more
        await writer.write([chunk(values)])
        await writer.write([chunk([single("a", 9.0, 9)], first_offset=len(keys))])
    stored = [value for _, value in database.rows(VALUES)]
    if isinstance(database, Sqlite):
        assert (len(letters), len(stored)) == (0, 6)
        return
    assert database.rows(VALUES) == [("b", 0.0), ("a", 2.0), ("a", 9.0)]
    assert [fault.offset for fault in letters] == [1, 3, 4]
    assert {fault.reason for fault in letters} == {
        f"unknown sensor {key}; a name that ends in a blank is none" for key in ("a ", "b ")
    }
