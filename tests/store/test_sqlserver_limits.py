"""Who judges a reading on SQL Server, and what comes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from threading import Barrier, Thread

import pytest

from tests.store.tsql import on_a_server
from tests.store.tsql_database import Database, insisting, made

pytestmark = on_a_server

SINGLE = "EXEC dbo.sp_insert_reading_and_check_threshold @p_sensor_id = ?, @p_value = ?"
BULK = "EXEC dbo.sp_insert_readings_bulk_json_and_check_threshold @p_readings_json = ?"
PLAIN = "INSERT INTO dbo.sensor_readings (sensor_id, value) VALUES (?, ?)"
STREAM = (
    "INSERT INTO dbo.sensor_readings (sensor_id, value, kafka_partition, kafka_offset) VALUES (?, ?, 0, 64)"
)


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    """A database that the scripts have made; each test has sensors of its own."""
    with made() as database:
        database.apply()
        yield database


@pytest.fixture
def sensor(database: Database) -> int:
    """A sensor with both ranges."""
    return database.sensor(warning_low=10.0, warning_high=20.0, critical_low=0.0, critical_high=30.0)


def limit(
    database: Database, sensor: int, condition: str, bounds: tuple[float | None, ...], severity: str
) -> int:
    """The number of a new row in alert_thresholds."""
    database.run(
        "INSERT INTO dbo.alert_thresholds (sensor_id, name, condition_type, threshold_value_min, threshold_value_max,"
        " severity) VALUES (?, N'mine', ?, ?, ?, ?)",
        sensor, condition, *bounds, severity,
    )  # fmt: skip
    number: int = database.value("SELECT MAX(id) FROM dbo.alert_thresholds WHERE sensor_id = ?", sensor)
    return number


@pytest.mark.parametrize("statement", [SINGLE, PLAIN], ids=["procedure", "insert"])
def test_one_alert_for_a_reading_whoever_writes_it(database: Database, sensor: int, statement: str) -> None:
    """One alert and one notification, of the gravest limit that it breaks."""
    database.run(statement, sensor, 31.5)
    assert database.alerts(sensor) == [("critical", "active", 31.5)]
    assert database.told(sensor) == ["critical"]
    query = "SELECT source, source_event_id, is_read FROM dbo.alert_notifications WHERE sensor_id = ?"
    (alert,) = database.rows("SELECT id FROM dbo.alerts WHERE sensor_id = ?", sensor)
    assert database.rows(query, sensor) == [("alert", alert[0], False)]


def test_an_alert_stands_until_a_reading_ends_it(database: Database, sensor: int) -> None:
    """It tells the newest value meanwhile; a graver or lesser one takes its place."""
    for value, standing in (
        (25, [("warning", 25)]),
        (26, [("warning", 26)]),
        (31, [("critical", 31)]),
        (15, []),
    ):
        database.run(SINGLE, sensor, value)
        active = [
            (severity, number) for severity, status, number in database.alerts(sensor) if status == "active"
        ]
        assert active == standing
    assert [status for _, status, _ in database.alerts(sensor)] == ["resolved", "resolved"]
    assert database.told(sensor) == ["warning", "critical"]
    assert (
        database.value("SELECT COUNT(*) FROM dbo.alerts WHERE resolved_at IS NULL AND sensor_id = ?", sensor)
        == 0
    )
    database.run(SINGLE, sensor, 25)
    assert database.alerts(sensor)[2:] == [("warning", "active", 25)]


def test_an_acknowledged_alert_is_not_raised_again(database: Database, sensor: int) -> None:
    """Somebody knows of it."""
    database.run(SINGLE, sensor, 25)
    database.run("UPDATE dbo.alerts SET status = N'acknowledged' WHERE sensor_id = ?", sensor)
    database.run(SINGLE, sensor, 26)
    assert database.alerts(sensor) == [("warning", "acknowledged", 26)]
    database.run(SINGLE, sensor, 15)
    assert database.alerts(sensor) == [("warning", "resolved", 26)]


def test_nothing_is_raised_inside_the_warning_range(database: Database) -> None:
    """Even where another limit of the user's says otherwise, or the value changes suddenly."""
    sensor = database.sensor()
    limit(database, sensor, "out_of_range", (10, 20), "warning")
    limit(database, sensor, "greater_than", (15, None), "critical")
    database.run("INSERT INTO dbo.delta_thresholds (sensor_id, abs_delta) VALUES (?, 0.5)", sensor)
    for value in (10, 18, 20):
        database.run(SINGLE, sensor, value)
    assert database.alerts(sensor) == []
    assert database.told(sensor) == []
    assert database.value("SELECT COUNT(*) FROM dbo.ml_events WHERE sensor_id = ?", sensor) == 0
    database.run(SINGLE, sensor, 20.5)
    assert database.alerts(sensor) == [("critical", "active", 20.5)]


@pytest.mark.parametrize(
    ("condition", "bounds", "inside", "outside"),
    [
        ("greater_than", (50.5, None), 50.5, 50.6),
        ("less_than", (50.5, None), 50.5, 50.4),
        ("equal_to", (50.5, None), 50.4, 50.5),
        ("out_of_range", (40, 50.5), 50.5, 50.6),
        ("out_of_range", (40, 50.5), 40, 39.9),
        ("out_of_range", (None, 50.5), -1e9, 50.6),
        ("out_of_range", (40, None), 1e9, 39.9),
    ],
)
def test_limits_hold_as_their_condition_says(
    database: Database, condition: str, bounds: tuple[float | None, ...], inside: float, outside: float
) -> None:
    """A bound itself is inside."""
    sensor = database.sensor()
    number = limit(database, sensor, condition, bounds, "info")
    database.run(SINGLE, sensor, inside)
    assert database.alerts(sensor) == []
    database.run(SINGLE, sensor, outside)
    assert database.alerts(sensor) == [("info", "active", outside)]
    assert database.value("SELECT threshold_id FROM dbo.alerts WHERE sensor_id = ?", sensor) == number


def test_a_limit_that_is_switched_off_holds_nothing(database: Database) -> None:
    """is_active = 0."""
    sensor = database.sensor()
    limit(database, sensor, "greater_than", (1, None), "critical")
    database.run("UPDATE dbo.alert_thresholds SET is_active = 0 WHERE sensor_id = ?", sensor)
    database.run(SINGLE, sensor, 2)
    assert database.alerts(sensor) == []


def test_readings_of_the_stream_are_not_judged(database: Database, sensor: int) -> None:
    """The engine has judged them; an alert that stands is not theirs to end."""
    database.run(STREAM, sensor, 99)
    assert database.alerts(sensor) == []
    database.run(SINGLE, sensor, 25)
    database.run(STREAM, sensor, 15)
    assert database.alerts(sensor) == [("warning", "active", 25)]


def test_many_readings_of_one_statement_are_judged_each(database: Database) -> None:
    """One alert for a sensor and severity; what the same statement has ended is told, as resolved."""
    ranges = {"warning_low": 10.0, "warning_high": 20.0, "critical_low": 0.0, "critical_high": 30.0}
    quiet, loud, over, mixed = (database.sensor(**ranges) for _ in range(4))
    pairs = [(quiet, 15), (loud, 25), (loud, 26), (over, 40), (over, 15), (mixed, 31), (mixed, 25)]
    start = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [
        {"sensor_id": sensor, "value": value, "device_timestamp": (start + timedelta(seconds=i)).isoformat()}
        for i, (sensor, value) in enumerate(pairs)
    ]
    database.run(BULK, json.dumps(rows))
    assert database.alerts(quiet) == []
    assert database.alerts(loud) == [("warning", "active", 26)]
    assert database.alerts(over) == [("critical", "resolved", 40)]
    assert sorted(database.alerts(mixed)) == [("critical", "resolved", 31), ("warning", "active", 25)]
    assert [len(database.told(sensor)) for sensor in (quiet, loud, over, mixed)] == [0, 1, 1, 2]


def test_a_bulk_of_readings_is_inserted_with_its_times_in_utc(database: Database, sensor: int) -> None:
    """With an offset, without, and without a time."""
    stamps = ["2024-01-15T12:34:56.789123+02:00", "2024-01-15T12:34:56", None]
    rows = [{"sensor_id": sensor, "value": 15, "device_timestamp": stamp} for stamp in stamps]
    del rows[2]["device_timestamp"]
    database.run(BULK, json.dumps(rows))
    query = "SELECT device_timestamp, [timestamp] FROM dbo.sensor_readings WHERE sensor_id = ? ORDER BY device_timestamp"
    (first, _), (second, _), (third, received) = database.rows(query, sensor)
    assert first == datetime(2024, 1, 15, 10, 34, 56, 789123)  # noqa: DTZ001  # as the database has it
    assert second == datetime(2024, 1, 15, 12, 34, 56)  # noqa: DTZ001  # as above
    assert third == received


@pytest.mark.parametrize(
    "text",
    ["nothing of the sort", '[{"sensor_id": 1}]', '[{"sensor_id": -1, "value": 1}]'],
    ids=["text", "value", "sensor"],
)
def test_a_bulk_with_a_fault_inserts_nothing(database: Database, sensor: int, text: str) -> None:
    """No JSON, no value, no such sensor."""
    good = json.dumps({"sensor_id": sensor, "value": 31})
    with pytest.raises(Exception, match=r"50011|515|547"):
        database.run(BULK, text.replace("[{", f"[{good}, {{"))
    assert database.alerts(sensor) == []
    assert database.value("SELECT COUNT(*) FROM dbo.sensor_readings WHERE sensor_id = ?", sensor) == 0


def test_writers_beside_each_other_raise_one_alert(database: Database) -> None:
    """The procedure and plain inserts, eight of each at once on every sensor: all readings, and one alert of each."""
    sensors = [database.sensor(critical_high=30.0) for _ in range(3)]
    start, rounds = Barrier(2), 8
    failed: list[Exception] = []

    def write(statement: str) -> None:
        connection = database.connect()
        try:
            for _ in range(rounds):
                start.wait(60)
                for sensor in sensors:
                    insisting(connection, statement, sensor, 31)
        except Exception as error:  # noqa: BLE001  # a thread's edge: the test tells of it
            failed.append(error)
            start.abort()
        finally:
            connection.close()

    threads = [Thread(target=write, args=[statement]) for statement in (SINGLE, PLAIN)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    for sensor in sensors:
        assert database.alerts(sensor) == [("critical", "active", 31)]
        assert database.told(sensor) == ["critical"]
        count = "SELECT COUNT(*) FROM dbo.sensor_readings WHERE sensor_id = ?"
        assert database.value(count, sensor) == 2 * rounds


def test_a_sudden_change_makes_one_event(database: Database) -> None:
    """The next one is told by the same event; steps below the bounds make none."""
    sensor = database.sensor()
    database.run(
        "INSERT INTO dbo.delta_thresholds (sensor_id, abs_delta, severity) VALUES (?, 5, N'critical')", sensor
    )
    query = "SELECT event_type, event_code, status, message, payload FROM dbo.ml_events WHERE sensor_id = ?"
    for value in (50, 54, 50.5):
        database.run(SINGLE, sensor, value)
    assert database.rows(query, sensor) == []
    database.run(SINGLE, sensor, 60)
    ((*told, message, payload),) = database.rows(query, sensor)
    assert told == ["critical", "DELTA_SPIKE", "active"]
    assert "from 50.5 to 60" in message
    assert (json.loads(payload)["last_value"], json.loads(payload)["value"]) == (50.5, 60)
    database.run(SINGLE, sensor, 70)
    ((*told, message, payload),) = database.rows(query, sensor)
    assert "from 60 to 70" in message
    assert (json.loads(payload)["last_value"], json.loads(payload)["value"]) == (60, 70)
    assert database.told(sensor) == ["critical"]


def test_a_sudden_change_leaves_the_streams_event_as_it_is(database: Database) -> None:
    """The engine's `delta_spike` is the same code to a server that tells no case: it is not the judge's to tell anew."""
    sensor = database.sensor()
    database.run(
        "INSERT INTO dbo.delta_thresholds (sensor_id, abs_delta, severity) VALUES (?, 5, N'warning')", sensor
    )
    database.run(
        "INSERT INTO dbo.ml_events (sensor_id, event_type, event_code, title, message, severity, created_at)"
        " VALUES (?, N'severity_change', N'delta_spike', N'WARN: delta spike', N'the engine''s', N'WARN', '2025-01-01')",
        sensor,
    )
    for value in (50, 60, 70):
        database.run(SINGLE, sensor, value)
    query = "SELECT event_type, status, message FROM dbo.ml_events WHERE sensor_id = ? ORDER BY id"
    streams, judges = database.rows(query, sensor)
    assert streams == ("severity_change", "active", "the engine's")
    assert judges[:2] == ("warning", "active")
    assert "from 60 to 70" in judges[2]
    assert database.told(sensor) == ["warning"]


def test_the_newest_reading_is_kept_beside(database: Database, sensor: int) -> None:
    """Of other writers by the trigger, of the stream by the sink; an older one changes nothing."""
    query = "SELECT latest_value FROM dbo.sensor_readings_latest WHERE sensor_id = ?"
    update = "EXEC dbo.streamproc_set_latest @p_latest_json = ?"
    database.run(SINGLE, sensor, 15)
    assert database.value(query, sensor) == 15
    database.run(update, json.dumps([[sensor, 16, "2020-01-01T00:00:00.123"]]))
    assert database.value(query, sensor) == 15
    other = database.sensor()
    database.run(update, json.dumps([[sensor, 17, "2999-01-01T00:00:00"], [other, 1, "2020-01-01T00:00:00"]]))
    assert database.value(query, sensor) == 17
    assert database.value(query, other) == 1


def test_a_reading_that_is_undone_raises_nothing(database: Database, sensor: int) -> None:
    """The alert is of the reading's transaction."""
    connection = database.connect()
    connection.autocommit = False
    connection.execute(SINGLE, sensor, 31)
    connection.rollback()
    connection.close()
    assert database.alerts(sensor) == []
    assert database.told(sensor) == []
