"""What the login of each role may do: all that its programs do, and no more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from uuid import uuid4

import pytest
from msgspec.structs import replace

from streamproc.core.predict import HORIZON_MS
from streamproc.errors import RowsRefused, StoreError
from streamproc.records import DeviceKey, Range, SensorEntry, Severity
from streamproc.records.alerting import PolicyEntry
from streamproc.store.deliveries import Attempt, Claim, Policy
from streamproc.store.documents import PutDocument, RemoveDocument
from streamproc.store.edits import AddKey, Author, RemoveSensor, RevokeKey
from streamproc.store.job_runs import OLD_ROWS, Ended, RunClaim
from streamproc.store.protocol import Batch
from streamproc.store.sqlserver import driver
from streamproc.store.sqlserver.connections import Connections
from streamproc.store.sqlserver.jobs import SqlServerJobs
from streamproc.store.sqlserver.store import SqlServerStore
from tests.store.builders import (
    GROUP,
    PLACE,
    START,
    event,
    events,
    notification,
    notifications,
    predictions,
    readings,
    save_entries,
    windows,
)
from tests.store.databases import LIMITS_OF_TESTS, SqlServer, sql_server
from tests.store.test_compare import nothing, scope
from tests.store.tsql import dsn, made_login, on_a_server

pytestmark = on_a_server

#: Tables that a writer writes to by the trigger and the procedures alone.
CHAINED = ("sensor_readings_latest", "alerts")
#: Tables that a job deletes from by the procedures alone.
DELETED_FROM = (
    "alert_notifications",
    "alerts",
    "ml_events",
    "predictions",
    "sensor_windows",
    "sensor_readings",
    "registry_audit",
    "trial_events",
)
#: What the console asks.
READ = (
    "devices",
    "sensors",
    "sensor_readings",
    "sensor_readings_latest",
    "sensor_windows",
    "ml_models",
    "predictions",
    "ml_events",
    "alert_notifications",
    "alerts",
    "alert_thresholds",
    "delta_thresholds",
    "sensor_limits",
    "stream_offsets",
    "schema_migrations",
    "registry_audit",
    "recommended_actions",
    "registry_documents",
    "notification_deliveries",
    "notification_channels",
    "job_runs",
)

#: What was accepted is deleted by nobody who writes, and the schema and others' limits are not theirs.
NOT_A_WRITERS = (
    "DELETE FROM dbo.sensor_readings",
    "DELETE FROM dbo.ml_events",
    "DELETE FROM dbo.alert_notifications",
    "DELETE FROM dbo.sensors",
    "DELETE FROM dbo.devices",
    "DELETE FROM dbo.stream_offsets",
    "DELETE FROM dbo.schema_migrations",
    "UPDATE dbo.schema_migrations SET checksum = 'x'",
    "UPDATE dbo.alert_thresholds SET is_active = 0",
    "DELETE FROM dbo.ml_models",
    "DELETE FROM dbo.device_keys",
    "DELETE FROM dbo.registry_audit",
    "UPDATE dbo.registry_audit SET actor = N'nobody'",
    "DELETE FROM dbo.alerts",
    "DELETE FROM dbo.notification_deliveries",
    "ALTER TABLE dbo.sensor_readings ADD mine INT",
    "CREATE TABLE dbo.mine (a INT)",
    "EXEC dbo.streamproc_delete_old",
    "DELETE FROM dbo.job_runs",
    "UPDATE dbo.job_runs SET outcome = N'done'",
)


@pytest.fixture
async def database() -> AsyncIterator[SqlServer]:
    """A migrated database."""
    async with sql_server() as database:
        yield database


async def member(database: SqlServer, role: str) -> AsyncIterator[str]:
    """The connection string of a login that is a member of a role and of nothing else."""
    password = f"Pw-{uuid4().hex}"
    async with made_login(password) as name:
        database.execute(f"CREATE USER {name} FOR LOGIN {name}")
        database.execute(f"ALTER ROLE {role} ADD MEMBER {name}")
        yield dsn(database=database.name, uid=name, pwd=password)
        database.execute(f"ALTER ROLE {role} DROP MEMBER {name}")
        database.execute(f"DROP USER {name}")


@pytest.fixture
async def writer(database: SqlServer) -> AsyncIterator[str]:
    """One of streamproc_writer."""
    async for text in member(database, "streamproc_writer"):
        _chain(database, text)
        yield text


@pytest.fixture
async def reader(database: SqlServer) -> AsyncIterator[str]:
    """One of streamproc_reader."""
    async for text in member(database, "streamproc_reader"):
        yield text


@pytest.fixture
async def store(writer: str) -> AsyncIterator[SqlServerStore]:
    """A writer's store."""
    opened = SqlServerStore(Connections(writer, "the test's database", LIMITS_OF_TESTS), auto_register=True)
    await opened.open()
    yield opened
    await opened.close()


def _chain(
    database: SqlServer, member: str, grant: str = "SELECT, INSERT, UPDATE", tables: Sequence[str] = CHAINED
) -> bool:
    """On a server that knows no chains of ownership, grant what a chain gives; whether it knows them."""
    role = "streamproc_writer" if tables == CHAINED else "streamproc_jobs"
    database.execute("CREATE TABLE dbo.probe (a INT)")
    database.execute("CREATE PROCEDURE dbo.probing AS INSERT INTO dbo.probe (a) VALUES (1)")
    database.execute(f"GRANT EXECUTE ON dbo.probing TO {role}")
    known = not refused(member, "EXEC dbo.probing")
    for table in () if known else tables:
        database.execute(f"GRANT {grant} ON dbo.{table} TO {role}")
    database.execute("DROP PROCEDURE dbo.probing")
    database.execute("DROP TABLE dbo.probe")
    return known


def refused(text: str, statement: str) -> bool:
    """Whether this login may not run a statement."""
    with closing(driver.pyodbc().connect(text, autocommit=True)) as connection:
        try:
            connection.execute(statement)
        except driver.pyodbc().Error as error:
            if not any(words in str(error) for words in ("denied", "permission", "must be owner")):
                raise
            return True
        return False


def whole() -> Batch:
    """Rows of every table."""
    raised = event("a", Severity.CRITICAL, Severity.NORMAL)
    made = predictions(("a", 20.0, 1_000), ("b", 21.0, 1_000))
    made.target[:] = made.made_at + HORIZON_MS
    return Batch(
        GROUP,
        {PLACE: (None, 9)},
        readings(("a", 1.5, 1), ("b", 2.5, 2), device="d"),
        made,
        events(raised),
        notifications(notification("a", raised.event_id)),
        windows(("a", 20.0, 0), ("b", 21.0, 0)),
    )


async def test_a_writer_may_do_what_sink_and_replay_do(database: SqlServer, store: SqlServerStore) -> None:
    """Write, probe, compare, find extra rows, write over what somebody has changed, and take rows back."""
    written = await store.write(whole())
    assert (written.readings, written.windows, written.events) == (2, 2, 1)
    await store.write(Batch(GROUP, {PLACE: (9, 10)}, readings(("a", 3.5, 3))))
    await store.probe(Batch(GROUP, readings=readings(("c", 3.5, 3))))
    assert await store.offsets(GROUP) == {PLACE: 10}
    database.execute("UPDATE dbo.sensor_readings SET value = 9 WHERE value = 1.5")
    database.execute("UPDATE dbo.ml_events SET message = N'all is well'")
    database.execute("DELETE FROM dbo.alert_notifications")
    database.execute("UPDATE dbo.sensor_windows SET mean = 0")
    database.execute("UPDATE dbo.predictions SET predicted_value = 0")
    await store.overwrite(whole())
    compared = await store.compare(whole())
    assert not any(rows.wrong.any() for rows in compared.values())
    scopes = [scope(a=(-1, 2_000, 2_000), b=(-1, 2_000, 2_000))]
    taken = {"readings": 0, "notifications": 0, "events": 1, "predictions": 2, "windows": 2}
    for table, count in taken.items():
        found = await store.extras(table, scopes, None, nothing, 10)
        assert found.count > 0, table
        assert await store.withdraw(table, [row.number for row in found.rows]) == count, table


async def test_a_writer_may_do_what_the_registry_does(database: SqlServer, store: SqlServerStore) -> None:
    """Add sensors and devices, change them, and read the limits of other programs; not number sensors by itself."""
    (saved,) = await save_entries(store, [SensorEntry("a", device="d", warning=Range(1.0, 2.0))])
    (changed,) = await save_entries(store, [replace(saved, critical=Range(high=9.0))])
    assert changed.version == 2
    assert [entry.sensor for entry in await store.entries()] == ["a"]
    database.execute(
        "INSERT INTO dbo.alert_thresholds (sensor_id, condition_type, threshold_value_min)"
        " SELECT id, N'greater_than', 5 FROM dbo.sensors"
    )
    assert [limit.low for limit in await store.thresholds()] == [5.0]
    assert [limit.low for limit in await store.thresholds("a")] == [5.0]
    assert await store.thresholds("A") == []
    ann = Author("ann", 1_700_000_000_000)
    await store.edit_registry([AddKey("d", DeviceKey("k", "0" * 64, ann.at))], ann)
    policy = PutDocument(PolicyEntry("pump", up_windows=2))
    await store.edit_registry([policy, RevokeKey("d", "k"), RemoveSensor("a")], ann)
    assert [line.action for line in await store.audit(limit=2)] == ["remove", "key-revoke"]
    await store.edit_registry([RemoveDocument("policy", "pump")], ann)
    assert await store.documents() == {}
    assert await store.alarms() == []


async def test_a_writer_may_do_what_notify_does(store: SqlServerStore) -> None:
    """Enroll, hold, and write down."""
    now = START + 1_000
    policy = Policy("console", Severity.NORMAL, group_ms=0)
    await store.plan_deliveries(policy, now)
    await store.write(whole())
    while await store.plan_deliveries(policy, now):
        pass
    message = await store.claim_message("console", Claim("me", now, now + 1_000))
    assert message is not None
    assert (await store.waiting("console")).changes == 1
    assert await store.settle_message(message, "me", Attempt("sent", now, now))


async def test_a_row_that_is_refused_is_no_fault_of_the_role(
    database: SqlServer, store: SqlServerStore
) -> None:
    """A rule is told as one, and not as a lack of rights."""
    database.refuse(13.0)
    with pytest.raises(RowsRefused):
        await store.write(Batch(GROUP, {PLACE: (None, 1)}, readings(("a", 13.0, 1))))
    await store.write(Batch(GROUP, {PLACE: (None, 1)}, readings(("a", 14.0, 1))))


async def test_a_writer_may_do_no_more(writer: str) -> None:
    """Neither delete what was accepted, nor change the schema or what other programs set."""
    assert [statement for statement in NOT_A_WRITERS if not refused(writer, statement)] == []


async def test_a_reader_reads_and_writes_nothing(database: SqlServer, reader: str) -> None:
    """Every table that console and reports ask, and no change of any."""
    database.execute("INSERT INTO dbo.sensors (stream_key) VALUES (N'a')")
    for table in READ:
        assert not refused(reader, f"SELECT COUNT(*) FROM dbo.{table}"), table  # noqa: S608  # the names above
    for statement in (
        "INSERT INTO dbo.sensors (stream_key) VALUES (N'b')",
        "UPDATE dbo.sensors SET name = N'x'",
        "DELETE FROM dbo.sensors",
        "EXEC dbo.sp_insert_reading_and_check_threshold @p_sensor_id = 1, @p_value = 1",
        "EXEC dbo.streamproc_set_latest @p_latest_json = N'[]'",
        "EXEC dbo.streamproc_delete_old",
        "SELECT sha256 FROM dbo.device_keys",
        "INSERT INTO dbo.registry_audit (actor, action, kind, name, version) VALUES (N'', N'', N'sensor', N'', 1)",
    ):
        assert refused(reader, statement), statement


async def test_a_reader_may_ask_how_sensors_stand(database: SqlServer, reader: str) -> None:
    """All that a gateway without the admin API asks the database: its login needs no more."""
    database.execute("INSERT INTO dbo.sensors (stream_key) VALUES (N'a')")
    opened = SqlServerStore(Connections(reader, "the test's database", LIMITS_OF_TESTS))
    await opened.open()
    try:
        found = await opened.status("a")
    finally:
        await opened.close()
    assert found is not None
    assert found.entry.sensor == "a"


async def test_a_login_without_a_role_is_told_what_it_lacks(database: SqlServer) -> None:
    """The error names the page that lists the rights."""
    password = f"Pw-{uuid4().hex}"
    async with made_login(password) as name:
        database.execute(f"CREATE USER {name} FOR LOGIN {name}")
        text = dsn(database=database.name, uid=name, pwd=password)
        opened = SqlServerStore(Connections(text, "the test's database"))
        try:
            with pytest.raises(StoreError) as told:
                await opened.open()
        finally:
            await opened.close()
        database.execute(f"DROP USER {name}")
    assert "docs/sqlserver.md" in str(told.value) or "db migrate" in str(told.value)


async def test_a_job_deletes_what_is_old_and_has_no_other_right(database: SqlServer) -> None:
    """Its runs, and the procedures; it neither reads what was stored nor deletes of it what it likes."""
    database.execute("INSERT INTO dbo.sensors (stream_key) VALUES (N'a')")
    database.execute(
        "INSERT INTO dbo.sensor_readings (sensor_id, value, [timestamp]) SELECT id, 1, '2020-01-01' FROM dbo.sensors"
    )
    async for text in member(database, "streamproc_jobs"):
        knows_chains = _chain(database, text, "SELECT, DELETE", DELETED_FROM)
        opened = SqlServerJobs(SqlServerStore(Connections(text, "the test's database", LIMITS_OF_TESTS)))
        await opened.open()
        try:
            await opened.enroll_job("cleanup", "s", START, START)
            claim = RunClaim("cleanup", "schedule", "s", START, 1, "me", START, START + 1_000)
            number = await opened.claim_run(claim)
            assert number is not None
            assert await opened.renew_run(number, "me", START + 2_000)
            gone = {table: (await opened.delete_old(table, START, 0)).rows for table in OLD_ROWS}
            assert {table for table, rows in gone.items() if rows} == {"readings"}
            assert await opened.settle_run(number, "me", Ended("done", START, gone))
            assert len(await opened.runs("cleanup", "schedule", 9)) == 2
        finally:
            await opened.close()
        theirs = [f"SELECT COUNT(*) FROM dbo.{table}" for table in DELETED_FROM]  # noqa: S608  # the names above
        theirs += [f"DELETE FROM dbo.{table}" for table in DELETED_FROM]  # noqa: S608
        for statement in (
            *(theirs if knows_chains else ()),
            "SELECT sha256 FROM dbo.device_keys",
            "UPDATE dbo.sensors SET name = N'x'",
            "DELETE FROM dbo.schema_migrations",
            "CREATE TABLE dbo.mine (a INT)",
        ):
            assert refused(text, statement), statement
