"""The schema on a real server: in an empty database, and in one of the reference system."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.store.tsql import login_made, on_a_server
from tests.store.tsql_database import Database, made, reference_text
from tests.store.tsql_scripts import tables

pytestmark = on_a_server

#: The reference's tables with the columns that its programs know; the other columns are ours.
KNOWN = {
    "devices": "id, device_uuid, name, device_type, status, metadata, created_at, updated_at",
    "sensors": "id, device_id, sensor_uuid, sensor_type, name, unit, status, is_active, operational_state, created_at,"
    " updated_at",
    "sensor_readings": "id, sensor_id, value, [timestamp]",
    "alert_thresholds": "id, sensor_id, name, condition_type, threshold_value_min, threshold_value_max, severity, is_active",
    "alerts": "id, threshold_id, sensor_id, device_id, severity, status, triggered_value, triggered_at, resolved_at",
    "ml_models": "id, sensor_id, model_name, model_type, version, is_active, trained_at, metadata",
    "predictions": "id, model_id, sensor_id, device_id, predicted_value, confidence, predicted_at, target_timestamp,"
    " is_anomaly, anomaly_score, explanation",
    "ml_events": "id, device_id, sensor_id, prediction_id, event_type, event_code, title, message, status, created_at,"
    " payload",
    "alert_notifications": "id, source, source_event_id, severity, title, message, is_read, created_at, read_at",
}


@pytest.fixture(scope="module")
def empty() -> Iterator[Database]:
    """A database that the scripts have made."""
    with made() as database:
        database.apply()
        yield database


@pytest.fixture
def existing() -> Iterator[Database]:
    """The reference system's database, with rows, before any script."""
    with made() as database:
        for batch in reference_text(database):
            database.run(batch)
        yield database


def catalogue(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Columns, and how many indexes, triggers and procedures there are."""
    return {
        "columns": database.rows(
            "SELECT c.TABLE_NAME, c.COLUMN_NAME, c.DATA_TYPE, c.IS_NULLABLE FROM INFORMATION_SCHEMA.COLUMNS c"
            " JOIN INFORMATION_SCHEMA.TABLES t ON t.TABLE_SCHEMA = c.TABLE_SCHEMA AND t.TABLE_NAME = c.TABLE_NAME"
            " WHERE t.TABLE_SCHEMA = 'dbo' AND t.TABLE_TYPE = 'BASE TABLE' ORDER BY c.TABLE_NAME, c.COLUMN_NAME"
        ),
        "counts": database.rows(
            "SELECT (SELECT COUNT(*) FROM sys.indexes i JOIN sys.tables t ON t.object_id = i.object_id),"
            " (SELECT COUNT(*) FROM sys.triggers), (SELECT COUNT(*) FROM sys.procedures),"
            " (SELECT COUNT(*) FROM sys.default_constraints), (SELECT COUNT(*) FROM sys.check_constraints)"
        ),
    }


def test_an_empty_database_gets_every_table(empty: Database) -> None:
    """As the grammar reads them."""
    columns = catalogue(empty)["columns"]
    found = {(table.lower(), column.lower()) for table, column, *_ in columns}
    assert found == {(table, column) for table, columns in tables().items() for column in columns}


def test_the_scripts_may_be_run_again(empty: Database) -> None:
    """The second time they change nothing."""
    before = catalogue(empty)
    empty.apply()
    assert catalogue(empty) == before


def test_a_database_in_use_keeps_every_row(existing: Database) -> None:
    """Nor is a value changed, and a second run changes nothing more."""
    queries = {
        name: f"SELECT {columns} FROM dbo.{name} ORDER BY id"  # noqa: S608  # the names above
        for name, columns in KNOWN.items()
    }
    before = {name: existing.rows(query) for name, query in queries.items()}
    existing.apply()
    assert {name: existing.rows(query) for name, query in queries.items()} == before
    made = catalogue(existing)
    existing.apply()
    assert catalogue(existing) == made
    assert all(before.values())


def test_a_database_in_use_gets_what_it_lacks(existing: Database) -> None:
    """Every column there is in a new one; keys, ids and ranges of the rows that are there."""
    existing.apply()
    columns = {(table, column.lower()) for table, column, *_ in catalogue(existing)["columns"]}
    unused = {("devices", "metadata"), ("ml_models", "accuracy")}
    missing = {(table, column) for table, names in tables().items() for column in names} - columns - unused
    read_only_there = {
        ("predictions", "horizon_minutes"), ("predictions", "trend"), ("predictions", "window_points"),
        ("predictions", "risk_level"), ("predictions", "severity"), ("predictions", "status"),
        ("ml_events", "acknowledged_at"), ("ml_events", "acknowledged_by"), ("ml_events", "resolved_by"),
        ("alert_notifications", "snapshot_data"),
    }  # fmt: skip
    assert missing <= read_only_there
    assert existing.rows("SELECT uuid FROM dbo.sensors ORDER BY id") == [
        ("aaaaaaaa-0000-0000-0000-000000000101",), ("aaaaaaaa-0000-0000-0000-000000000102",),
    ]  # fmt: skip
    query = (
        "SELECT warning_low, warning_high, critical_low, critical_high, version FROM dbo.sensors ORDER BY id"
    )
    assert existing.rows(query) == [(10, 20, 0, 30.5, 1), (None, None, None, None, 1)]
    assert existing.value("SELECT COUNT(DISTINCT event_id) FROM dbo.ml_events") == 2
    assert existing.value("SELECT COUNT(DISTINCT notification_id) FROM dbo.alert_notifications") == 2
    existing.run("INSERT INTO dbo.devices (stream_key) VALUES (N'new')")
    existing.run("INSERT INTO dbo.sensors (stream_key) VALUES (N'new')")
    query = "SELECT name, unit, sensor_type, device_id, is_active FROM dbo.sensors WHERE uuid = N'new'"
    assert existing.rows(query) == [("", "", "", None, True)]


def test_a_range_that_was_edited_is_not_set_again(existing: Database) -> None:
    """Whoever takes a range away in the registry has it away."""
    existing.apply()
    existing.run(
        "UPDATE dbo.sensors SET warning_low = NULL, warning_high = NULL, critical_low = NULL, critical_high = NULL,"
        " version = 2 WHERE id = 1"
    )
    existing.apply()
    assert existing.rows("SELECT warning_low, critical_high FROM dbo.sensors WHERE id = 1") == [(None, None)]


def test_programs_of_a_database_in_use_go_on(existing: Database) -> None:
    """What they insert, as they do it: with OUTPUT, without our columns, and through the procedure as it was called."""
    existing.apply()
    model = existing.value(
        "INSERT INTO dbo.ml_models (sensor_id, model_name, model_type, version, is_active, trained_at)"
        " OUTPUT INSERTED.id VALUES (2, 'baseline', 'moving_average', '1.0', 1, GETDATE())"
    )
    prediction = existing.value(
        "INSERT INTO dbo.predictions (model_id, sensor_id, device_id, predicted_value, confidence, predicted_at,"
        " target_timestamp) OUTPUT INSERTED.id VALUES (?, 2, 1, 60.5, 0.5, GETDATE(), GETDATE())",
        model,
    )
    event = existing.value(
        "INSERT INTO dbo.ml_events (device_id, sensor_id, prediction_id, event_type, event_code, title, message, status,"
        " created_at, payload) OUTPUT INSERTED.id"
        " VALUES (1, 2, ?, 'notice', 'PRED_THRESHOLD_BREACH', N't', N'm', 'active', GETDATE(), N'{}')",
        prediction,
    )
    existing.run(
        "INSERT INTO dbo.alert_notifications (source, source_event_id, severity, title, message, is_read, created_at)"
        " VALUES ('ml_event', ?, 'notice', N't', N'm', 0, GETDATE())",
        event,
    )
    existing.run("EXEC sp_insert_reading_and_check_threshold @p_sensor_id = ?, @p_value = ?", 2, 61.25)
    query = "SELECT value, device_timestamp FROM dbo.sensor_readings WHERE sensor_id = 2 ORDER BY id DESC"
    assert float(existing.rows(query)[0][0]) == 61.25
    assert existing.rows(query)[0][1] is not None


def test_sensors_and_limits_without_a_name_are_judged() -> None:
    """A database whose people have made names and units wider, or left them out: no reading is refused for it."""
    odd = {
        "unit VARCHAR(50) NOT NULL": "unit VARCHAR(200) NULL",
        "name VARCHAR(255) NOT NULL,\n    unit": "name VARCHAR(400) NULL,\n    unit",
        "name VARCHAR(255) NOT NULL,\n    condition_type": "name VARCHAR(255) NULL,\n    condition_type",
    }
    with made() as database:
        for batch in reference_text(database, odd):
            database.run(batch)
        database.run("UPDATE dbo.sensors SET name = NULL, unit = NULL WHERE id = 1")
        database.run(
            "UPDATE dbo.sensors SET name = REPLICATE('n', 300), unit = REPLICATE('u', 90) WHERE id = 2"
        )
        database.run("UPDATE dbo.alert_thresholds SET name = NULL")
        database.apply()
        for sensor, value in ((1, 40), (2, 99)):
            database.run(
                "EXEC dbo.sp_insert_reading_and_check_threshold @p_sensor_id = ?, @p_value = ?", sensor, value
            )
            assert database.alerts(sensor)[-1] == ("critical", "active", value)


def test_limits_without_a_severity_are_warnings() -> None:
    """As those are of which nobody says how grave they are: no reading is refused for it, and none is judged otherwise."""
    odd = {"severity VARCHAR(50) NOT NULL DEFAULT 'warning'": "severity VARCHAR(50) NULL"}
    with made() as database:
        for batch in reference_text(database, odd):
            database.run(batch)
        database.run("UPDATE dbo.alert_thresholds SET severity = NULL WHERE name = 'usual'")
        database.run(
            "CREATE TABLE dbo.delta_thresholds (id BIGINT IDENTITY(1, 1) NOT NULL PRIMARY KEY, sensor_id BIGINT NOT NULL,"
            " abs_delta FLOAT NULL, rel_delta FLOAT NULL, abs_slope FLOAT NULL, rel_slope FLOAT NULL,"
            " severity VARCHAR(50) NULL, is_active BIT NOT NULL)"
        )
        database.run("INSERT INTO dbo.delta_thresholds (sensor_id, abs_delta, is_active) VALUES (2, 5, 1)")
        database.apply()
        database.run(
            "INSERT INTO dbo.alert_thresholds (sensor_id, name, condition_type, threshold_value_min, severity)"
            " VALUES (1, 'high', 'greater_than', 15, 'critical'), (2, 'any', 'greater_than', 50, NULL),"
            " (2, 'info', 'greater_than', 50, 'info')"
        )
        single = "EXEC dbo.sp_insert_reading_and_check_threshold @p_sensor_id = ?, @p_value = ?"
        for sensor, value in ((1, 18), (1, 31), (2, 60), (2, 70)):
            database.run(single, sensor, value)
        assert [row for row in database.alerts(1) if row[1] == "active"] == [("critical", "active", 31)]
        assert database.told(1) == ["critical"]  # of 31: 18 is inside the warning range
        assert database.alerts(2) == [("warning", "active", 70)]
        query = "SELECT event_type FROM dbo.ml_events WHERE sensor_id = 2 AND message LIKE '%to 70%'"
        assert database.rows(query) == [("warning",)]


def test_the_trigger_that_was_there_raises_no_second_alert(existing: Database) -> None:
    """It is switched off, and still there; one that does something else goes on."""
    existing.apply()
    existing.run("UPDATE dbo.devices SET last_connection = NULL")
    existing.run("EXEC dbo.sp_insert_reading_and_check_threshold @p_sensor_id = 1, @p_value = 31")
    query = (
        "SELECT threshold_id, device_id, status FROM dbo.alerts WHERE sensor_id = 1 AND triggered_value = 31"
    )
    assert existing.rows(query) == [(2, 1, "active")]
    states = dict(existing.rows("SELECT name, is_disabled FROM sys.triggers"))
    assert states == {
        "trg_check_threshold": True,
        "trg_last_connection": False,
        "trg_sensor_readings_judge": False,
    }
    assert existing.value("SELECT last_connection FROM dbo.devices") is not None


def test_keys_are_unique_whoever_gave_them(empty: Database) -> None:
    """A key that is no GUID, and one that is, each once; an accent or another script's width makes another key."""
    for key in ("pump", "pumpé", "groß", "gross", "\uff50ump"):
        empty.run("INSERT INTO dbo.sensors (stream_key) VALUES (?)", key)
    empty.run("INSERT INTO dbo.sensors (sensor_uuid) VALUES ('BBBBBBBB-0000-0000-0000-000000000001')")
    query = "SELECT stream_key FROM dbo.sensors WHERE uuid = ? COLLATE Latin1_General_100_BIN2"
    assert empty.rows(query, "bbbbbbbb-0000-0000-0000-000000000001") == [(None,)]
    for column, key in (("stream_key", "pump"), ("sensor_uuid", "bbbbbbbb-0000-0000-0000-000000000001")):
        with pytest.raises(Exception, match=r"2601|2627"):
            empty.run(f"INSERT INTO dbo.sensors ({column}) VALUES (?)", key)  # noqa: S608  # the names above


def test_readings_of_the_stream_are_unique_and_others_need_no_identity(empty: Database) -> None:
    """Rows of other writers have none, and there may be any number of them."""
    sensor = empty.sensor()
    insert = "INSERT INTO dbo.sensor_readings (sensor_id, value, dedupe_ms, reading_key) VALUES (?, 1, ?, ?)"
    empty.run(insert, sensor, None, None)
    empty.run(insert, sensor, None, None)
    empty.run(insert, sensor, 5, 7)
    with pytest.raises(Exception, match=r"2601|2627"):
        empty.run(insert, sensor, 5, 7)


@pytest.fixture
def writer(empty: Database) -> Iterator[Any]:
    """A connection of a member of streamproc_writer."""
    password = f"Pw-{uuid4().hex}"
    with login_made(password) as login:
        empty.run(f"CREATE USER {login} FOR LOGIN {login}")
        empty.run(f"ALTER ROLE streamproc_writer ADD MEMBER {login}")
        connection = empty.connect(UID=login, PWD=password)
        yield connection
        connection.close()
        empty.run(f"ALTER ROLE streamproc_writer DROP MEMBER {login}")
        empty.run(f"DROP USER {login}")


def test_a_writer_may_write_and_no_more(empty: Database, writer: Any) -> None:
    """A member of streamproc_writer inserts readings; it deletes none and makes no table."""
    sensor = empty.sensor()
    writer.execute(
        "INSERT INTO dbo.sensor_readings (sensor_id, value, kafka_partition) VALUES (?, 1, 0)", sensor
    )
    for refused in (
        "DELETE FROM dbo.sensor_readings",
        "DELETE FROM dbo.alerts",
        "CREATE TABLE dbo.mine (a INT)",
    ):
        with pytest.raises(Exception, match="denied"):
            writer.execute(refused)
    assert empty.value("SELECT COUNT(*) FROM dbo.sensor_readings WHERE sensor_id = ?", sensor) == 1


def test_a_writer_needs_no_grant_on_what_the_judge_writes(empty: Database, writer: Any) -> None:
    """Trigger and tables have one owner."""
    empty.run("IF OBJECT_ID(N'dbo.probe', N'U') IS NULL CREATE TABLE dbo.probe (a INT)")
    empty.run("CREATE PROCEDURE dbo.probing AS INSERT INTO dbo.probe (a) VALUES (1)")
    empty.run("GRANT EXECUTE ON dbo.probing TO streamproc_writer")
    try:
        writer.execute("EXEC dbo.probing")
    except importlib.import_module("pyodbc").Error:
        pytest.skip("this server knows no chains of ownership")
    finally:
        empty.run("DROP PROCEDURE dbo.probing")
        empty.run("DROP TABLE dbo.probe")
    sensor = empty.sensor(critical_high=30.0)
    writer.execute("EXEC dbo.sp_insert_reading_and_check_threshold @p_sensor_id = ?, @p_value = 31", sensor)
    assert [status for _, status, _ in empty.alerts(sensor)] == ["active"]
