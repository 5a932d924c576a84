"""Old rows away: in bounded batches, what refers before what is referred to, and nothing that still stands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.store.tsql import on_a_server
from tests.store.tsql_database import Database, made

pytestmark = on_a_server

#: All that is from before February, three rows at a time.
CALL = (
    "EXEC dbo.streamproc_delete_old @p_readings_before = '2025-02-01', @p_windows_before = '2025-02-01',"
    " @p_predictions_before = '2025-02-01', @p_events_before = '2025-02-01',"
    " @p_notifications_before = '2025-02-01', @p_alerts_before = '2025-02-01', @p_audit_before = '2025-02-01',"
    " @p_batch_rows = 3, @p_max_batches = ?"
)
#: In the order of the procedure's result.
TABLES = ("readings", "predictions", "windows", "events", "notifications", "alerts", "audit")
DAYS = [f"2025-01-{day:02}" for day in range(1, 21)]


@pytest.fixture(scope="module")
def whole() -> Iterator[Database]:
    """A database that the scripts have made, for all tests."""
    with made() as database:
        database.apply()
        yield database


@pytest.fixture
def database(whole: Database) -> Iterator[Database]:
    """The database without rows."""
    yield whole
    for table in (
        "trial_events", "alert_notifications", "alerts", "ml_events", "predictions", "ml_models", "sensor_windows",
        "sensor_readings",
        "sensor_readings_latest", "registry_audit", "sensors", "devices",
    ):  # fmt: skip
        whole.run(f"DELETE FROM dbo.{table}")  # noqa: S608  # the names above


def deleted(database: Database, batches: int = 1_000) -> dict[str, int]:
    """How many rows a call deletes of each table that it deletes any of, and `unfinished` where more may be left."""
    ((*counts, unfinished),) = database.rows(CALL, batches)
    found = {table: count for table, count in zip(TABLES, counts, strict=True) if count}
    return found | ({"unfinished": 1} if unfinished else {})


def event(database: Database, sensor: int, day: str, status: str, **columns: object) -> int:
    """The number of a new event of streamproc's, at this day."""
    row = {"event_type": "severity_change", "event_code": "critical_range", "title": "t", **columns}
    row |= {"sensor_id": sensor, "created_at": day, "status": status}
    return inserted(database, "ml_events", row)


def told(database: Database, day: str, **columns: object) -> int:
    """The number of a new notification."""
    row = {"source": "ml_event", "severity": "critical", "title": "t", "created_at": day, **columns}
    return inserted(database, "alert_notifications", row)


def alert(database: Database, sensor: int, day: str, status: str, resolved: str | None = None) -> int:
    """The number of a new alert."""
    row = {
        "sensor_id": sensor,
        "severity": "critical",
        "status": status,
        "triggered_value": 1,
        "triggered_at": day,
    }
    return inserted(database, "alerts", row | {"resolved_at": resolved})


def inserted(database: Database, table: str, row: dict[str, object]) -> int:
    """The number of a new row."""
    names, places = ", ".join(row), ", ".join("?" * len(row))
    database.run(f"INSERT INTO dbo.{table} ({names}) VALUES ({places})", *row.values())  # noqa: S608  # the test's own
    number: int = database.value(f"SELECT MAX(id) FROM dbo.{table}")  # noqa: S608
    return number


def left(database: Database, table: str) -> set[int]:
    """The numbers of the rows that are there."""
    return {number for (number,) in database.rows(f"SELECT id FROM dbo.{table}")}  # noqa: S608


def test_measurements_that_are_old_go_and_no_others(database: Database) -> None:
    """In small batches, over several calls; a prediction that an event refers to stays."""
    sensor = database.sensor()
    for day in [*DAYS, "2025-02-01"]:
        inserted(database, "sensor_readings", {"sensor_id": sensor, "value": 1, "[timestamp]": day})
        database.run(
            "INSERT INTO dbo.sensor_windows VALUES (?, 1000, ?, 1, 1, 1, 1, 0, 1, 1, 0, 0, 0, 0)", sensor, day
        )
    model = inserted(database, "ml_models", {"model_name": "m", "version": "1"})
    made_with = {"model_id": model, "sensor_id": sensor, "predicted_value": 1, "confidence": 1}
    predictions = [
        inserted(database, "predictions", made_with | {"predicted_at": day, "target_timestamp": day})
        for day in DAYS
    ]
    event(database, sensor, "2025-01-02", "active", prediction_id=predictions[1])
    assert deleted(database, 2) == {"predictions": 5, "unfinished": 1}
    assert deleted(database, 6) == {"predictions": 14, "windows": 3, "unfinished": 1}
    assert deleted(database) == {"windows": 17, "readings": 20}
    assert deleted(database) == {}
    assert left(database, "predictions") == {predictions[1]}
    assert database.value("SELECT MIN([timestamp]) FROM dbo.sensor_readings").month == 2
    assert database.value("SELECT MIN(window_start) FROM dbo.sensor_windows").month == 2


def test_nothing_goes_that_no_time_is_given_for(database: Database) -> None:
    """A call without a time for a table leaves it alone."""
    sensor = database.sensor()
    event(database, sensor, DAYS[0], "superseded")
    told(database, DAYS[0])
    alert(database, sensor, DAYS[0], "resolved", DAYS[0])
    inserted(database, "sensor_readings", {"sensor_id": sensor, "value": 1, "[timestamp]": DAYS[0]})
    assert database.rows("EXEC dbo.streamproc_delete_old") == [(0, 0, 0, 0, 0, 0, 0, False)]


def test_what_stands_stays_with_what_tells_of_it(database: Database) -> None:
    """Active and acknowledged events and alerts, however old, and their notifications, by event's id or number."""
    sensor, other = database.sensor(), database.sensor()
    active = event(database, sensor, DAYS[0], "active", event_id="e-1")
    acknowledged = event(database, other, DAYS[0], "acknowledged", event_type="warning")
    old = [event(database, sensor, day, "resolved", event_type="DELTA_SPIKE") for day in DAYS[:4]]
    standing = [alert(database, sensor, DAYS[0], "active"), alert(database, other, DAYS[0], "acknowledged")]
    alert(database, sensor, DAYS[0], "resolved", DAYS[1])
    kept = {
        told(database, DAYS[0], event_id="e-1"),
        told(database, DAYS[0], source_event_id=acknowledged),
        told(database, DAYS[0], source="alert", source_event_id=standing[0]),
    }
    told(database, DAYS[0], source_event_id=old[0])
    told(database, DAYS[0], source="alert", source_event_id=max(standing) + 1)
    told(database, DAYS[0])
    assert deleted(database) == {"events": 4, "notifications": 3, "alerts": 1}
    assert left(database, "ml_events") == {active, acknowledged}
    assert left(database, "alerts") == set(standing)
    assert left(database, "alert_notifications") == kept


def test_what_is_told_of_stays_as_long_as_its_notification(database: Database) -> None:
    """An event or alert that a younger notification names is not old yet."""
    sensor = database.sensor()
    first = event(database, sensor, DAYS[0], "resolved", event_id="e-1")
    second = event(database, sensor, DAYS[1], "superseded")
    last = event(database, sensor, DAYS[2], "resolved")
    over = alert(database, sensor, DAYS[0], "resolved", DAYS[1])
    told(database, "2025-02-02", event_id="e-1")
    told(database, "2025-02-02", source_event_id=second)
    told(database, "2025-02-02", source="alert", source_event_id=over)
    assert deleted(database) == {}
    database.run("UPDATE dbo.alert_notifications SET created_at = '2025-01-31'")
    assert deleted(database) == {"notifications": 3, "events": 2, "alerts": 1}
    assert left(database, "ml_events") == {last}
    assert first < second


def test_a_sensors_last_event_stays(database: Database) -> None:
    """It tells the sensor's state; of two at one time the later number is the last, and a superseded one tells nothing."""
    sensor, other = database.sensor(), database.sensor()
    event(database, sensor, DAYS[0], "resolved")
    event(database, sensor, DAYS[1], "resolved")
    last = event(database, sensor, DAYS[1], "resolved")
    event(database, sensor, DAYS[2], "superseded")
    only = event(database, other, DAYS[0], "resolved")
    assert deleted(database) == {"events": 3}
    assert left(database, "ml_events") == {last, only}


def test_an_alert_is_as_old_as_its_end(database: Database) -> None:
    """One that was over a moment ago stays, however long it stood."""
    sensor = database.sensor()
    young = alert(database, sensor, DAYS[0], "resolved", "2025-02-01")
    alert(database, sensor, DAYS[0], "resolved")
    assert deleted(database) == {"alerts": 1}
    assert left(database, "alerts") == {young}


def test_an_entrys_last_line_of_the_audit_stays(database: Database) -> None:
    """A sensor that left the registry comes back with a higher version than it had."""
    line = {"actor": "ann", "action": "put", "kind": "sensor"}
    rows = [
        ("a", 1, DAYS[0]),
        ("b", 1, DAYS[1]),
        ("a", 2, DAYS[2]),
        ("a", 2, DAYS[3]),
        ("b", 2, "2025-02-02"),
    ]
    numbers = [
        inserted(database, "registry_audit", line | {"name": name, "version": version, "at": at})
        for name, version, at in rows
    ]
    assert deleted(database) == {"audit": 3}
    assert left(database, "registry_audit") == {numbers[3], numbers[4]}


def test_a_call_that_has_not_finished_has_deleted_something(database: Database) -> None:
    """A stretch of rows that all stay costs no batch: whoever calls until it is done comes to an end."""
    sensor = database.sensor()
    kept = {event(database, sensor, day, "active", event_type="warning") for day in DAYS[:7]}
    for day in DAYS[:4]:
        event(database, sensor, day, "superseded")
    calls = 0
    while (found := deleted(database, 1)).get("unfinished"):
        assert found["events"] > 0
        calls += 1
    assert 2 <= calls <= 3
    assert left(database, "ml_events") == kept


def test_retention_refuses_to_hold_every_lock(database: Database) -> None:
    """Inside a transaction its batches would be one."""
    connection = database.connect()
    connection.autocommit = False
    connection.execute("SELECT COUNT(*) FROM dbo.sensors").fetchall()
    connection.execute("UPDATE dbo.stream_offsets SET next_offset = 0 WHERE topic = N'none'")
    with pytest.raises(Exception, match="50012"):
        connection.execute("EXEC dbo.streamproc_delete_old @p_readings_before = '2000-01-01'")
    connection.rollback()
    connection.close()


def test_a_trial_goes_whole_once_it_is_old(database: Database) -> None:
    """One that has written a row since the time stays, with its first rows; a call that is bounded says so."""
    sensor = database.sensor()
    for trial, days in (("over", DAYS[:5]), ("on", [*DAYS[:3], "2025-02-03"])):
        for day in days:
            row = {"event_id": f"{trial}-{day}", "trial": trial, "trial_version": 1, "begun_at": DAYS[0]}
            row |= {"sensor_id": sensor, "severity": "WARN", "previous_severity": "NORMAL", "cause": "level"}
            inserted(database, "trial_events", row | {"message": "m", "created_at": day})
    call = "EXEC dbo.streamproc_delete_old_trials @p_before = '2025-02-01', @p_batch_rows = 3, @p_max_batches = ?"
    assert database.rows(call, 1) == [(3, True)]
    assert database.rows(call, 9) == [(2, False)]
    assert database.rows("SELECT trial, COUNT(*) FROM dbo.trial_events GROUP BY trial") == [("on", 4)]
