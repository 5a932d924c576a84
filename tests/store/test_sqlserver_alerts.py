"""The alerts that programs of the reference system look into: what the stream's readings have raised and ended there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from streamproc.records import Cause, Severity, SeverityEvent
from streamproc.store.protocol import Batch
from streamproc.store.sqlserver.store import SqlServerStore
from tests.store.builders import GROUP, event, events, readings
from tests.store.databases import SqlServer, sql_server
from tests.store.tsql import on_a_server

pytestmark = on_a_server

#: Two years, in ms.
LONG_MS = 63_072_000_000
NORMAL, WARN, CRITICAL = Severity.NORMAL, Severity.WARN, Severity.CRITICAL
#: A change: to which severity, by which cause.
Told = tuple[Severity, Cause]


@pytest.fixture
async def database() -> AsyncIterator[SqlServer]:
    """A migrated database."""
    async with sql_server() as database:
        yield database


@pytest.fixture
async def store(database: SqlServer) -> AsyncIterator[SqlServerStore]:
    """An open store that registers what it does not know."""
    opened = database.store()
    await opened.open()
    yield opened
    await opened.close()


def story(*told: Told) -> list[SeverityEvent]:
    """The changes of one sensor, a second apart; the value is 90 and the second that it is of."""
    before = [NORMAL, *(severity for severity, _ in told)]
    return [
        replace(event("a", severity, previous, ms=1_000 * second), cause=cause, value=90.0 + second)
        for second, (previous, (severity, cause)) in enumerate(zip(before, told, strict=False))
    ]


def batch(*rows: SeverityEvent) -> Batch:
    """What the sink writes of these changes."""
    return Batch(GROUP, events=events(*rows))


def alerts(database: SqlServer) -> list[tuple[Any, ...]]:
    """Severity, status and value of all alerts, and the seconds at which they began and ended."""
    query = (
        "SELECT severity, status, triggered_value, DATEPART(SECOND, triggered_at), DATEPART(SECOND, resolved_at)"
        " FROM dbo.alerts ORDER BY triggered_at, id"
    )
    return [
        (severity, status, float(value), *seconds)
        for severity, status, value, *seconds in database.rows(query)
    ]


#: Changes of a sensor, and the alerts after them; START is at 20 s of its minute.
STORIES: list[tuple[list[Told], list[tuple[Any, ...]]]] = [
    ([(WARN, "warning_range")], [("warning", "active", 90.0, 20, None)]),
    (
        [(CRITICAL, "critical_range"), (NORMAL, "recovered")],
        [("critical", "resolved", 90.0, 20, 21)],
    ),
    (
        [(WARN, "warning_range"), (CRITICAL, "critical_range"), (WARN, "warning_range")],
        [
            ("warning", "resolved", 90.0, 20, 21),
            ("critical", "resolved", 91.0, 21, 22),
            ("warning", "active", 92.0, 22, None),
        ],
    ),
    (
        [(WARN, "warning_range"), (WARN, "flapping"), (NORMAL, "recovered")],
        [("warning", "resolved", 90.0, 20, 22)],
    ),
    ([(WARN, "level"), (CRITICAL, "stuck_value")], []),
]


@pytest.mark.parametrize(("told", "wanted"), STORIES)
@pytest.mark.parametrize("together", [True, False])
async def test_alerts_follow_the_changes_that_ranges_make(
    database: SqlServer,
    store: SqlServerStore,
    told: list[Told],
    wanted: list[tuple[Any, ...]],
    *,
    together: bool,
) -> None:
    """Whether they come in one batch or each in its own, and the same once they come again."""
    changes = story(*told)
    parts: Sequence[Sequence[SeverityEvent]] = [changes] if together else [[change] for change in changes]
    for part in [*parts, changes]:
        await store.write(batch(*part))
    assert alerts(database) == wanted


async def test_an_alert_names_its_limit_device_and_change(database: SqlServer, store: SqlServerStore) -> None:
    """As the trigger's do: those who list alerts join them."""
    await store.write(Batch(GROUP, readings=readings(("a", 1.0, 0), device="d")))
    database.execute(
        "INSERT INTO dbo.alert_thresholds (sensor_id, name, condition_type, threshold_value_min, severity)"
        " SELECT id, N'cold', N'less_than', 5, N'critical' FROM dbo.sensors"
        " UNION ALL SELECT id, N'hot', N'greater_than', 80, N'critical' FROM dbo.sensors"
    )
    (change,) = story((CRITICAL, "critical_range"))
    await store.write(batch(change))
    query = (
        "SELECT t.name, d.stream_key, a.event_id FROM dbo.alerts a JOIN dbo.alert_thresholds t ON t.id = a.threshold_id"
        " JOIN dbo.devices d ON d.id = a.device_id"
    )
    assert database.rows(query) == [("hot", "d", change.event_id)]


async def test_an_acknowledged_alert_stands_until_it_is_over(
    database: SqlServer, store: SqlServerStore
) -> None:
    """What another program says of it stays until the sensor has another severity."""
    first, second = story((WARN, "warning_range"), (NORMAL, "recovered"))
    await store.write(batch(first))
    database.execute("UPDATE dbo.alerts SET status = N'acknowledged'")
    await store.write(batch(first))
    assert alerts(database) == [("warning", "acknowledged", 90.0, 20, None)]
    await store.write(batch(second))
    assert alerts(database) == [("warning", "resolved", 90.0, 20, 21)]


async def test_the_triggers_alert_stands_for_both(database: SqlServer, store: SqlServerStore) -> None:
    """Of one sensor and severity one stands, and tells of whose reading came first."""
    await store.write(Batch(GROUP, readings=readings(("a", 1.0, 0))))
    database.execute("UPDATE dbo.sensors SET critical_high = 30")
    database.execute("INSERT INTO dbo.sensor_readings (sensor_id, value) SELECT id, 40 FROM dbo.sensors")
    await store.write(batch(*story((CRITICAL, "critical_range"))))
    assert [row[:3] for row in alerts(database)] == [("critical", "active", 40.0)]


async def raised_by_the_trigger(database: SqlServer, store: SqlServerStore) -> None:
    """A reading of another program's, long before the stream's, beyond the sensor's critical range."""
    await store.write(Batch(GROUP, readings=readings(("a", 1.0, -LONG_MS))))
    database.execute("UPDATE dbo.sensors SET critical_high = 30")
    database.execute(
        "INSERT INTO dbo.sensor_readings (sensor_id, value, [timestamp]) SELECT id, 40, '2023-01-01' FROM dbo.sensors"
    )


async def test_the_stream_goes_on_with_the_triggers_alert(database: SqlServer, store: SqlServerStore) -> None:
    """Where its readings are beyond the limit as well, the alert ends with the engine's change, not before."""
    await raised_by_the_trigger(database, store)
    raised, over = story((CRITICAL, "critical_range"), (NORMAL, "recovered"))
    await store.write(Batch(GROUP, readings=readings(("a", 90.0, 0)), events=events(raised)))
    await store.write(Batch(GROUP, readings=readings(("a", 20.0, 500))))
    assert [row[:2] for row in alerts(database)] == [("critical", "active")]
    await store.write(batch(raised))
    await store.write(batch(over))
    assert [row[:2] for row in alerts(database)] == [("critical", "resolved")]


@pytest.mark.parametrize(
    ("value", "ms", "warning_high", "status"),
    [
        (20.0, 0, None, "resolved"),
        (35.0, 0, None, "active"),
        (35.0, 0, 50.0, "resolved"),
        (20.0, -LONG_MS, None, "active"),
    ],
)
async def test_a_reading_of_the_stream_ends_the_triggers_alert(
    database: SqlServer, store: SqlServerStore, value: float, ms: int, warning_high: float | None, status: str
) -> None:
    """A later one that breaks no limit, though it changes no severity: of a sensor that moved to the stream it stood on."""
    await raised_by_the_trigger(database, store)
    if warning_high is not None:
        database.execute(f"UPDATE dbo.sensors SET warning_high = {warning_high}")  # noqa: S608  # a number
    await store.write(Batch(GROUP, readings=readings(("a", value, ms))))
    assert [row[:2] for row in alerts(database)] == [("critical", status)]


async def test_an_alert_is_over_once_its_change_is_withdrawn(
    database: SqlServer, store: SqlServerStore
) -> None:
    """A replay takes back what should not have been told; one that brings it back raises no alert of long ago."""
    (change,) = story((CRITICAL, "critical_range"))
    await store.write(batch(change))
    ((number,),) = database.rows("SELECT id FROM dbo.ml_events")
    await store.withdraw("events", [number])
    assert [row[:2] for row in alerts(database)] == [("critical", "resolved")]
    await store.overwrite(batch(change))
    assert [row[:2] for row in alerts(database)] == [("critical", "resolved")]
