"""What every store must do; each test runs on each kind of database."""

from __future__ import annotations

import json
from dataclasses import replace as replace_columns

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from streamproc.errors import RegistryError, RowsRefused, StaleOwner, StoreUnavailable
from streamproc.records import Range, SensorEntry, Severity
from streamproc.store.protocol import Batch, Store, Written, join
from tests.store.builders import (
    GROUP,
    PLACE,
    batch,
    event,
    events,
    notification,
    notifications,
    predictions,
    readings,
    save_entries,
    trial_events,
    tried,
    windows,
)
from tests.store.databases import Database

COUNT = "SELECT count(*) FROM sensor_readings"
#: Of any sign and power: bits by chance, without those that are no number.
ANY_FLOATS = [
    number
    for number in np.random.default_rng(1).integers(-(2**63), 2**63, 300).view(np.float64).tolist()
    if np.isfinite(number)
]


async def test_rows_and_offsets_are_written_together(database: Database, store: Store) -> None:
    """A reading is a row that people can read, and the partition's offset is behind it."""
    rows = readings(("a", 1.5, 1), device="d")
    assert await store.write(batch(rows, following=7)) == Written(readings=1)
    assert await store.offsets(GROUP) == {PLACE: 7}
    assert await store.offsets("another group") == {}
    query = (
        "SELECT d.uuid, s.uuid, value, device_timestamp, timestamp, kafka_partition, kafka_offset"
        " FROM sensor_readings r JOIN sensors s ON s.id = r.sensor_id JOIN devices d ON d.id = s.device_id"
    )
    stamps = ("2023-11-14T22:13:20.001Z", "2023-11-14T22:13:20.006Z")
    assert database.rows(query) == [("d", "a", 1.5, *stamps, 0, 0)]


async def test_a_batch_without_rows_moves_the_offset(store: Store) -> None:
    """Records that carry no rows are behind, too."""
    await store.write(batch(following=3))
    assert await store.write(batch(expected=3, following=9)) == Written()
    assert await store.offsets(GROUP) == {PLACE: 9}


async def test_a_retry_makes_no_second_row(database: Database, store: Store) -> None:
    """The same reading again, at another place on the topic, is passed over; another is not."""
    await store.write(batch(readings(("a", 1.5, 1)), following=1))
    again = readings(("a", 1.5, 1), ("a", 1.5, 2), ("a", 2.5, 1), ("b", 1.5, 1), first_offset=1)
    assert await store.write(batch(again, expected=1, following=5)) == Written(readings=3)
    assert database.rows(COUNT) == [(4,)]


async def test_nothing_of_a_refused_batch_is_written(database: Database, store: Store) -> None:
    """A row refused in the middle takes rows, sensors and offsets back; the sensors' ids are forgotten."""
    database.refuse(13.0)
    with pytest.raises(RowsRefused, match="not wanted"):
        await store.write(batch(readings(("a", 1.0, 1), ("b", 13.0, 2), ("c", 3.0, 3), device="d")))
    for table in ("sensor_readings", "sensors", "devices", "stream_offsets"):
        assert database.rows(f"SELECT * FROM {table}") == []  # noqa: S608  # names above
    await store.write(batch(readings(("c", 3.0, 3), ("a", 1.0, 1))))
    query = "SELECT s.uuid FROM sensor_readings r JOIN sensors s ON s.id = r.sensor_id ORDER BY value"
    assert database.rows(query) == [("a",), ("c",)]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
async def test_numbers_that_are_none_are_not_stored_as_nothing(
    database: Database, store: Store, value: float
) -> None:
    """NaN is refused, not stored as an empty cell; infinity is stored or refused."""
    try:
        await store.write(batch(readings(("a", value, 1))))
    except RowsRefused:
        assert database.rows(COUNT) == [(0,)]
    else:
        assert database.rows("SELECT value FROM sensor_readings") == [(float("inf"),)]


@pytest.mark.parametrize(("stored", "expected"), [(None, 5), (5, None), (5, 4), (5, 6)])
async def test_a_stale_owner_writes_nothing(
    database: Database, store: Store, stored: int | None, expected: int | None
) -> None:
    """A batch that does not start where the database stands, fails as a whole."""
    if stored is not None:
        await store.write(batch(following=stored))
    with pytest.raises(StaleOwner, match="readings/0"):
        await store.write(batch(readings(("a", 1.0, 1)), expected=expected, following=9))
    assert database.rows(COUNT) == [(0,)]
    assert await store.offsets(GROUP) == ({} if stored is None else {PLACE: stored})


async def test_one_of_several_stale_offsets_is_enough(store: Store) -> None:
    """Offsets of other partitions do not move either."""
    await store.write(batch(following=5))
    with pytest.raises(StaleOwner):
        await store.write(Batch(GROUP, {("events", 1): (None, 4), PLACE: (4, 9)}))
    assert await store.offsets(GROUP) == {PLACE: 5}


async def test_of_two_owners_one_wins(database: Database, store: Store) -> None:
    """A second sink with the same beginning fails, and its rows are not there twice."""
    other = database.store()
    await other.open()
    await store.write(batch(readings(("a", 1.0, 1)), following=1))
    with pytest.raises(StaleOwner):
        await other.write(batch(readings(("a", 1.0, 1)), following=1))
    await other.write(batch(readings(("a", 2.0, 2)), expected=1, following=2))
    await other.close()
    assert database.rows(COUNT) == [(2,)]


async def test_a_lock_is_told_and_passes(database: Database, store: Store) -> None:
    """While somebody else writes, the store is unavailable; afterwards the same batch is written."""
    rows = batch(readings(("a", 1.0, 1)))
    with database.locked(), pytest.raises(StoreUnavailable) as raised:
        await store.write(rows)
    assert raised.value.code == "locked"
    assert await store.write(rows) == Written(readings=1)


async def test_a_read_only_database_is_unavailable(database: Database, store: Store) -> None:
    """Somebody may make it writable again: no row is to blame."""
    await store.write(batch(readings(("a", 1.0, 1)), following=1))
    await store.close()
    database.make_read_only()
    reader = database.store()
    with pytest.raises(StoreUnavailable) as raised:
        await reader.write(batch(readings(("a", 2.0, 2)), expected=1, following=2))
    assert raised.value.code == "read_only"
    assert await reader.offsets(GROUP) == {PLACE: 1}
    await reader.close()


async def test_a_full_disk_is_told_and_passes(database: Database, store: Store) -> None:
    """Without room nothing is written; with room the same batch is."""
    await database.fill(store)
    rows = batch(readings(*(("a", float(i), i) for i in range(5_000))), following=5_000)
    with pytest.raises(StoreUnavailable) as raised:
        await store.write(rows)
    assert raised.value.code == "full"
    assert await store.offsets(GROUP) == {}
    await database.make_room(store)
    assert await store.write(rows) == Written(readings=5_000)


async def test_unknown_sensors_are_named(database: Database, strict: Store) -> None:
    """Where sensors must be registered, the error says which are not; once they are, all is written."""
    await save_entries(strict, [SensorEntry("a")])
    rows = batch(readings(("a", 1.0, 1), ("b", 1.0, 1), ("c", 1.0, 1)))
    with pytest.raises(RowsRefused, match="2 unknown sensors: b, c") as refused:
        await strict.write(rows)
    assert refused.value.sensors == {"b", "c"}
    assert database.rows(COUNT) == [(0,)]
    await save_entries(strict, [SensorEntry("b"), SensorEntry("c")])
    assert await strict.write(rows) == Written(readings=3)


async def test_a_registered_sensor_goes_by_its_number(database: Database, strict: Store) -> None:
    """Old producers name a sensor by its `sensor_id`; a number that nobody has is unknown."""
    await save_entries(strict, [SensorEntry("a", sensor_id=41)])
    await strict.write(batch(readings(("41", 1.0, 1)), following=1))
    assert database.rows("SELECT sensor_id FROM sensor_readings") == [(41,)]
    with pytest.raises(RowsRefused) as refused:
        await strict.write(batch(readings(("42", 1.0, 1), ("9" * 30, 1.0, 1)), expected=1, following=2))
    assert refused.value.sensors == {"42", "9" * 30}


async def test_a_new_number_is_no_other_sensor(database: Database, store: Store) -> None:
    """Where sensors are registered as they come, a producer's own number is not taken for another's id."""
    await store.write(batch(readings(("a", 1.0, 1)), following=1))
    (number,) = database.rows("SELECT id FROM sensors")[0]
    await store.write(batch(readings((str(number), 2.0, 1)), expected=1, following=2))
    assert database.rows("SELECT count(DISTINCT sensor_id) FROM sensor_readings") == [(2,)]


async def test_a_sensor_gets_its_device_when_it_is_known(database: Database, store: Store) -> None:
    """A prediction may register a sensor before a reading names its device."""
    await store.write(Batch(GROUP, {PLACE: (None, 1)}, predictions=predictions(("a", 1.0, 1))))
    await store.write(batch(readings(("a", 1.0, 1), device="d"), expected=1, following=2))
    query = "SELECT s.uuid, d.uuid FROM sensors s JOIN devices d ON d.id = s.device_id"
    assert database.rows(query) == [("a", "d")]


async def test_many_new_sensors_at_once(database: Database, store: Store) -> None:
    """More than one query's parameters can hold."""
    rows = readings(*((f"s-{i}", 1.0, 1) for i in range(2_500)), device="d")
    assert await store.write(batch(rows)) == Written(readings=2_500)
    assert database.rows("SELECT count(DISTINCT sensor_id) FROM sensor_readings") == [(2_500,)]


async def test_predictions(database: Database, store: Store) -> None:
    """Each is a row under its model's name and version, once."""
    rows = predictions(("a", 1.5, 0), ("b", 2.5, 0))
    assert await store.write(Batch(GROUP, predictions=rows)) == Written(predictions=2)
    assert await store.write(Batch(GROUP, predictions=rows)) == Written()
    query = (
        "SELECT m.name, m.version, predicted_value, confidence, predicted_at, target_timestamp, is_anomaly,"
        " anomaly_score, explanation, lower, upper FROM predictions p JOIN ml_models m ON m.id = p.model_id"
        " ORDER BY p.id"
    )
    stamps = ("2023-11-14T22:13:20.000Z", "2023-11-14T22:13:21.000Z")
    assert database.rows(query)[0] == ("level", "2", 1.5, 0.75, *stamps, 1, 0.5, None, 0.5, 2.5)


async def test_models(database: Database, store: Store) -> None:
    """Each version has a row with what it is; the highest is active, whichever comes first, and others' models stay."""
    await store.write(Batch(GROUP, predictions=predictions(("a", 1.0, 0), model="other@1")))
    for number, version in enumerate(("2", "10", "3")):
        rows = predictions(("a", 1.0, number), model=f"river-online@{version}")
        await store.write(Batch(GROUP, predictions=rows))
        await store.write(Batch(GROUP, predictions=rows))
    query = "SELECT m.name, m.version, m.is_active, m.model_type FROM ml_models m ORDER BY m.id"
    assert database.rows(query) == [
        ("other", "1", 1, "streaming"),
        ("river-online", "2", 0, "streaming"),
        ("river-online", "10", 1, "streaming"),
        ("river-online", "3", 0, "streaming"),
    ]
    query = "SELECT m.metadata FROM ml_models m ORDER BY m.id"
    unknown, _, told, _ = (text for (text,) in database.rows(query))
    assert unknown is None
    assert msgspec.json.decode(told)["interval"] == 0.9
    query = "SELECT m.version FROM predictions p JOIN ml_models m ON m.id = p.model_id ORDER BY p.id"
    assert [version for (version,) in database.rows(query)] == ["1", "2", "10", "3"]


async def test_events(database: Database, store: Store) -> None:
    """An event is active until its sensor's next, even of the same millisecond, and holds its lineage."""
    warn = event("a", Severity.WARN, Severity.NORMAL, 5)
    critical = event("a", Severity.CRITICAL, Severity.WARN, 5)
    other = event("b", Severity.WARN, Severity.NORMAL, 5)
    rows = Batch(GROUP, readings=readings(("a", 1.0, 1), device="d"), events=events(warn, critical, other))
    assert await store.write(rows) == Written(readings=1, events=3)
    assert await store.write(Batch(GROUP, events=events(warn))) == Written()
    query = "SELECT severity, previous_severity, status, created_at FROM ml_events ORDER BY id"
    at = "2023-11-14T22:13:20.005Z"
    assert database.rows(query) == [
        ("WARN", "NORMAL", "resolved", at),
        ("CRITICAL", "WARN", "active", at),
        ("WARN", "NORMAL", "active", at),
    ]
    await store.write(Batch(GROUP, events=events(event("a", Severity.NORMAL, Severity.CRITICAL, 9))))
    active = "SELECT s.uuid FROM ml_events e JOIN sensors s ON s.id = e.sensor_id WHERE e.status = 'active'"
    assert database.rows(active) == [("b",)]
    query = "SELECT e.event_code, message, recommended_action, payload, d.uuid FROM ml_events e"
    (code, message, action, payload, device), *_ = database.rows(
        f"{query} LEFT JOIN devices d ON d.id = e.device_id ORDER BY e.id"
    )
    assert (code, message, action, device) == ("critical_range", warn.explanation, "look at it", "d")
    assert json.loads(payload)["lineage"]["first_offset"] == 3


async def test_an_event_that_comes_late_is_over(database: Database, store: Store) -> None:
    """Its sensor's next event is there already; the last event of another sensor is not over by it."""
    alarm = event("a", Severity.CRITICAL, Severity.NORMAL, ms=1)
    other = event("b", Severity.CRITICAL, Severity.NORMAL, ms=1)
    calm = event("a", Severity.NORMAL, Severity.CRITICAL, ms=2)
    await store.write(Batch(GROUP, {PLACE: (None, 1)}, events=events(calm)))
    await store.write(Batch(GROUP, {PLACE: (1, 2)}, events=events(alarm, other)))
    query = (
        "SELECT uuid, severity, e.status FROM ml_events e JOIN sensors s ON s.id = e.sensor_id ORDER BY 1, 2"
    )
    assert database.rows(query) == [
        ("a", "CRITICAL", "resolved"),
        ("a", "NORMAL", "resolved"),
        ("b", "CRITICAL", "active"),
    ]


async def test_notifications(database: Database, store: Store) -> None:
    """Each is a row once, unread, with the event that it tells of."""
    rows = Batch(GROUP, notifications=notifications(notification("a", "e-7")))
    assert await store.write(rows) == Written(notifications=1)
    assert await store.write(rows) == Written()
    query = "SELECT source, source_event_id, severity, title, is_read FROM alert_notifications"
    assert database.rows(query) == [("ml_event", "e-7", "CRITICAL", "Critical", 0)]


async def test_windows(database: Database, store: Store) -> None:
    """Each is a row with all that is known of it."""
    assert await store.write(Batch(GROUP, windows=windows(("a", 1.5, 0)))) == Written(windows=1)
    query = (
        "SELECT s.uuid, size_ms, window_start, count, mean, min, max, deviation, first, last, trend, first_offset,"
        " last_offset, kafka_partition FROM sensor_windows w JOIN sensors s ON s.id = w.sensor_id"
    )
    place = ("a", 1000, "2023-11-14T22:13:20.000Z")
    assert database.rows(query) == [(*place, 12, 1.5, 0.5, 3.5, 0.3, 1.75, 2.0, -4.125, 30, 40, 3)]


async def test_a_window_that_comes_again_makes_no_second_row(database: Database, store: Store) -> None:
    """In the same batch, in a later one or from another place; another sensor, size or start is another window."""
    await store.write(Batch(GROUP, windows=windows(("a", 1.5, 0), ("a", 1.5, 0))))
    more = [
        windows(("a", 1.5, 0), ("b", 1.5, 0), ("a", 1.5, 5_000), offset=9),
        windows(("a", 1.5, 0), size_ms=5_000),
    ]
    assert await store.write(Batch(GROUP, windows=join(more))) == Written(windows=3)
    query = "SELECT uuid, size_ms, window_start FROM sensor_windows w JOIN sensors s ON s.id = w.sensor_id"
    first, second = "2023-11-14T22:13:20.000Z", "2023-11-14T22:13:25.000Z"
    expected = [("a", 1000, first), ("a", 1000, second), ("a", 5000, first), ("b", 1000, first)]
    assert sorted(database.rows(query)) == expected


async def test_numbers_of_windows_are_kept_bit_for_bit(database: Database, store: Store) -> None:
    """The least, the greatest, those that no decimal of 15 digits tells, and any; a zero may lose its sign."""
    numbers = [
        5e-324,
        -5e-324,
        2.225073858507201e-308,
        2.2250738585072014e-308,
        1.7976931348623157e308,
        1e100,
        -1e100,
        0.1 + 0.2,
        1 / 3,
        2.0**53 + 2,
        3.0,
        -0.0,
        *ANY_FLOATS,
    ]
    rows = windows(*((f"s-{i}", number, i) for i, number in enumerate(numbers)))
    rows = replace_columns(rows, min=rows.mean, last=rows.mean)
    await store.write(Batch(GROUP, windows=rows))
    found = database.rows("SELECT mean, min, last FROM sensor_windows ORDER BY window_start")
    assert [[number.hex() for number in row] for row in found] == [[(n + 0.0).hex()] * 3 for n in numbers]


async def test_a_refused_window_takes_the_batch_back(database: Database, strict: Store) -> None:
    """A window of a sensor that nobody knows, say: its batch's readings and offsets are not written either."""
    await save_entries(strict, [SensorEntry("a")])
    rows = Batch(GROUP, {PLACE: (None, 1)}, readings=readings(("a", 1.0, 1)), windows=windows(("b", 1.0, 0)))
    with pytest.raises(RowsRefused) as refused:
        await strict.write(rows)
    assert refused.value.sensors == {"b"}
    assert database.rows(COUNT) == [(0,)]
    assert await strict.offsets(GROUP) == {}


async def test_a_probe_tells_and_writes_nothing(database: Database, store: Store) -> None:
    """It says what `write` would say of the rows, whatever the offsets are, and leaves no trace."""
    database.refuse(13.0)
    await store.probe(batch(readings(("a", 1.0, 1)), expected=77))
    with pytest.raises(RowsRefused, match="not wanted"):
        await store.probe(batch(readings(("a", 1.0, 1), ("a", 13.0, 1))))
    assert database.rows("SELECT * FROM sensors") == []
    assert await store.write(batch(readings(("a", 1.0, 1)))) == Written(readings=1)


async def test_other_writers_need_not_know_of_kafka(database: Database, store: Store) -> None:
    """The old systems' own inserts work beside the sink's, as often as they like."""
    await store.write(batch(readings(("a", 1.0, 1))))
    for _ in range(2):
        database.execute("INSERT INTO sensor_readings (sensor_id, value) SELECT id, 9.5 FROM sensors")
    assert database.rows("SELECT count(*) FROM sensor_readings WHERE timestamp > '2024'") == [(2,)]


async def test_entries_are_kept_and_versioned(store: Store) -> None:
    """A change raises the version, the same again does not; device and number stay when left out."""
    entry = SensorEntry(
        "a", device="d", sensor_id=7, unit="°C", warning=Range(low=1.0), critical=Range(0.0, 9.0)
    )
    assert await save_entries(store, [entry]) == [entry]
    assert await save_entries(store, [replace(entry, device=None, sensor_id=None)]) == [entry]
    changed = SensorEntry("a", critical=Range(high=5.0))
    expected = [replace(changed, device="d", sensor_id=7, version=2)]
    assert await save_entries(store, [changed]) == expected
    assert await store.entries() == expected


async def test_clashing_entries_change_nothing(store: Store) -> None:
    """A `sensor_id` of another sensor, or another one for the same: all are told, and nothing is saved."""
    await save_entries(store, [SensorEntry("a", sensor_id=1), SensorEntry("b", sensor_id=2)])
    wrong = [SensorEntry("c"), SensorEntry("d", sensor_id=1), SensorEntry("b", sensor_id=3)]
    with pytest.raises(RegistryError, match=r"d: sensor_id 1 is that of a\nb: sensor_id is 2"):
        await save_entries(store, wrong)
    assert [entry.sensor for entry in await store.entries()] == ["a", "b"]


async def test_a_registered_sensor_keeps_what_was_said_of_it(store: Store) -> None:
    """Readings change no entry; a sensor registered by its readings is one without ranges."""
    entry = SensorEntry("a", device="d", sensor_id=3, critical=Range(high=5.0))
    await save_entries(store, [entry])
    await store.write(batch(readings(("a", 1.0, 1), ("b", 1.0, 1), device="d")))
    kept, found = await store.entries()
    assert kept == entry
    assert found == SensorEntry("b", device="d", sensor_id=found.sensor_id)


async def test_open_twice_and_by_two(database: Database, store: Store) -> None:
    """What is in the database stays there when it is opened again, by another, too."""
    await store.write(batch(readings(("a", 1.0, 1)), following=1))
    other = database.store()
    await other.open()
    await other.open()
    assert await other.offsets(GROUP) == {PLACE: 1}
    await other.close()


async def test_a_batch_is_taken_apart_and_put_together() -> None:
    """Rows are counted through all tables in order."""
    whole = Batch(
        GROUP,
        readings=readings(("a", 1.0, 1), ("b", 2.0, 1)),
        predictions=predictions(("c", 1.0, 1)),
        events=events(event("d", Severity.WARN, Severity.NORMAL)),
        notifications=notifications(notification("e"), notification("f")),
        windows=windows(("g", 1.0, 0), ("h", 2.0, 0)),
        trial_events=trial_events(*(tried(name, Severity.WARN, Severity.NORMAL) for name in "ij")),
    )
    part = whole.take(np.array([1, 2, 5, 7, 9]))
    assert [table.sensor for table in part.tables()] == [["b"], ["c"], [], ["f"], ["h"], ["j"]]
    assert part.windows.mean.tolist() == [2.0]
    assert len(whole) == 10
