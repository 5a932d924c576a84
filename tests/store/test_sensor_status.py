"""How a sensor stands, asked of each kind of database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from streamproc.records import Range, SensorEntry, Severity
from streamproc.store.protocol import Batch, Store
from streamproc.store.sensor_status import ClosedWindow, LastReading
from tests.store.builders import GROUP, START, event, events, readings, save_entries, windows
from tests.store.databases import Database

BEGAN = datetime.fromtimestamp(START / 1000, UTC)


def after(ms: int) -> datetime:
    """So many milliseconds after START."""
    return BEGAN + timedelta(milliseconds=ms)


async def fill(store: Store) -> None:
    """Write rows of sensor `a`, the newest not last, and of another."""
    warned = event("a", Severity.WARN, Severity.NORMAL, 10)
    alarmed = event("a", Severity.CRITICAL, Severity.WARN, 20)
    batch = Batch(
        GROUP,
        readings=readings(("a", 1.5, 1), ("a", 7.5, 9), ("a", 2.5, 2), ("b", 8.0, 50), device="d"),
        events=events(warned, alarmed, event("b", Severity.WARN, Severity.NORMAL, 30)),
        windows=windows(("a", 1.0, 0), ("a", 2.0, 2000), ("a", 1.5, 1000), ("b", 5.0, 9000)),
    )
    await store.write(batch)
    await store.write(Batch(GROUP, windows=windows(("a", 3.0, 0), size_ms=10_000)))


async def test_status_is_the_newest_of_each(store: Store) -> None:
    """The newest reading, state and windows count, whatever the order they came in; other sensors' do not."""
    await fill(store)
    found = await store.status("a")
    assert found is not None
    assert (found.entry.sensor, found.entry.device) == ("a", "d")
    assert found.last == LastReading(7.5, after(9), after(14))
    assert found.event is not None
    assert (found.event.severity, found.event.at, found.event.cause) == (
        "CRITICAL",
        after(20),
        "critical_range",
    )
    assert (found.event.explanation, found.event.recommended_action) == (
        "far above what it may be",
        "look at it",
    )
    assert [(window.size_ms, window.start) for window in found.windows] == [
        (1_000, after(2000)),
        (10_000, after(0)),
    ]
    assert found.windows[0] == ClosedWindow(1_000, after(2000), 12, 2.0, 1.0, 4.0, 0.3, 2.25, 2.5, -4.125)


async def test_status_by_number(store: Store) -> None:
    """The `sensor_id` names a sensor as well, unless another has it for a name."""
    [entry] = await save_entries(store, [SensorEntry("a", critical=Range(high=9.0))])
    found = await store.status(str(entry.sensor_id))
    assert found is not None
    assert found.entry == entry
    await save_entries(store, [SensorEntry(str(entry.sensor_id))])
    other = await store.status(str(entry.sensor_id))
    assert other is not None
    assert other.entry.sensor == str(entry.sensor_id)


async def test_status_of_a_sensor_that_sent_nothing(store: Store) -> None:
    """What is registered stands, though nothing has come of it."""
    await save_entries(store, [SensorEntry("a", unit="°C", warning=Range(1.0, 2.0))])
    found = await store.status("a")
    assert found is not None
    assert (found.last, found.event, found.windows) == (None, None, ())
    assert (found.entry.unit, found.entry.warning) == ("°C", Range(1.0, 2.0))


async def test_no_status_of_an_unknown_sensor(store: Store) -> None:
    """No other name, number or letter case finds a sensor."""
    await store.write(Batch(GROUP, readings=readings(("a", 1.5, 1))))
    for name in ("b", "", "0", "9" * 30, "A", "a'", "a ", "\x00", "İ" * 128):
        assert await store.status(name) is None


async def test_withdrawn_and_foreign_events_do_not_count(database: Database, store: Store) -> None:
    """An event that a replay has withdrawn is no state, and neither is another program's event."""
    await fill(store)
    database.execute("UPDATE ml_events SET status = 'superseded' WHERE severity = 'CRITICAL'")
    database.execute(
        "INSERT INTO ml_events (event_id, sensor_id, event_type, event_code, title, message, severity, created_at)"
        " SELECT 'x', id, 'forecast', 'c', 't', 'm', 'NORMAL', '2030-01-01T00:00:00.000' FROM sensors WHERE uuid = 'a'"
    )
    found = await store.status("a")
    assert found is not None
    assert found.event is not None
    assert found.event.severity == "WARN"


async def test_asking_keeps_nobody_from_writing(database: Database, store: Store) -> None:
    """What is asked leaves no transaction open, and waits for none that writes."""
    await fill(store)
    other = database.store()
    await other.open()
    assert await store.status("a")
    await other.write(Batch(GROUP, readings=readings(("a", 9.5, 99))))
    found = await store.status("a")
    assert found is not None
    assert found.last is not None
    assert found.last.value == 9.5
    await other.close()
