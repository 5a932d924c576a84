"""What is SQLite's own: migrations, its file, its errors."""

from __future__ import annotations

import asyncio
import re
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.errors import StaleOwner, StoreError, StoreUnavailable
from streamproc.records import Severity
from streamproc.records.alerting import SilenceEntry
from streamproc.settings import Settings
from streamproc.store import connect
from streamproc.store.comparison import Scope
from streamproc.store.documents import PutDocument
from streamproc.store.edits import by_streamproc
from streamproc.store.migrations import Migration, migrate, pending, scripts
from streamproc.store.protocol import Batch, Written
from streamproc.store.schema import SqliteSchema
from streamproc.store.sqlite import entries, overwrite, rows, status, views
from streamproc.store.sqlite.compare import INSIDE, first_row
from streamproc.store.sqlite.connection import connection
from streamproc.store.sqlite.sensors import Sensors
from streamproc.store.sqlite.store import SqliteStore
from streamproc.store.stamps import LAST_MS, iso
from streamproc.store.views import EventsAsked, SensorsAsked
from tests.store.builders import GROUP, PLACE, batch, event, events, readings, windows
from tests.store.databases import Sqlite


def memory() -> sqlite3.Connection:
    """A connection that commits only where it is told to."""
    return sqlite3.connect(":memory:", isolation_level=None)


@given(st.lists(st.integers(0, LAST_MS), max_size=20))
def test_stamps_are_those_of_the_library(ms: list[int]) -> None:
    """The quick way gives what datetime gives, and text is in time's order."""
    expected = [
        datetime.fromtimestamp(stamp // 1000, UTC).isoformat()[:19] + f".{stamp % 1000:03d}Z" for stamp in ms
    ]
    assert iso(np.array(ms, dtype=np.int64)) == expected
    assert [text for _, text in sorted(zip(ms, expected, strict=True))] == sorted(expected)


def test_migrations_apply_once_and_again_do_no_harm() -> None:
    """The second time nothing is left; the scripts themselves may be run on what they have made."""
    with closing(memory()) as connection:
        wanted = scripts("sqlite")
        migrate(connection, wanted)
        assert pending(connection, wanted) == []
        connection.execute("DELETE FROM schema_migrations")
        migrate(connection, wanted)
        assert pending(connection, wanted) == []


def test_a_later_migration_is_applied_by_itself() -> None:
    """Those already there are not run again."""
    with closing(memory()) as connection:
        first = Migration(1, "CREATE TABLE a (x);")
        second = Migration(2, "CREATE TABLE b (x);\nCREATE TABLE c (x);")
        migrate(connection, [first])
        migrate(connection, [first, second])
        query = "SELECT count(*) FROM sqlite_master WHERE name IN ('a', 'b', 'c')"
        assert connection.execute(query).fetchone() == (3,)


def test_a_migration_that_fails_leaves_nothing() -> None:
    """Not half of its tables, and not the ledger."""
    with closing(memory()) as connection:
        with pytest.raises(sqlite3.OperationalError):
            migrate(connection, [Migration(1, "CREATE TABLE a (x);\nCREATE TABLE a (x);")])
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


def test_a_changed_or_newer_schema_is_refused() -> None:
    """A script changed since, or a database of a later program, is not written to."""
    with closing(memory()) as connection:
        migrate(connection, [Migration(1, "CREATE TABLE a (x);"), Migration(2, "CREATE TABLE b (x);")])
        with pytest.raises(StoreError, match="migration 1 is not the one"):
            migrate(connection, [Migration(1, "CREATE TABLE z (x);"), Migration(2, "CREATE TABLE b (x);")])
        with pytest.raises(StoreError, match="has schema 2"):
            migrate(connection, [Migration(1, "CREATE TABLE a (x);")])


def test_the_audit_outlives_that_it_tells_of_more() -> None:
    """Its table is made anew for that: the lines, their numbers and the index stay."""
    wanted = scripts("sqlite")
    before = next(number for number, script in enumerate(wanted) if "recommended_actions" in script.name)
    line = (
        "INSERT INTO registry_audit (at, actor, action, kind, name, version) VALUES ('', '', '', ?, 's', 1)"
    )
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, wanted[:before])
        connection.executemany(line, [("sensor",), ("device",), ("device",)])
        connection.execute("DELETE FROM registry_audit WHERE id = 2")
        rows = connection.execute("SELECT * FROM registry_audit").fetchall()
        migrate(connection, wanted)
        assert connection.execute("SELECT * FROM registry_audit").fetchall() == rows
        connection.execute(line, ("action",))
        found = connection.execute("SELECT id FROM registry_audit ORDER BY id").fetchall()
        assert found == [(1,), (3,), (4,)]
        plan = (
            "EXPLAIN QUERY PLAN SELECT MAX(version) FROM registry_audit WHERE kind = 'action' AND name = 's'"
        )
        assert "registry_audit_of" in str(connection.execute(plan).fetchall())


@pytest.mark.parametrize("columns", ["version VARCHAR PRIMARY KEY", "version BIGINT, dirty BOOLEAN"])
async def test_another_tools_ledger_is_told_and_left_alone(tmp_path: Path, columns: str) -> None:
    """Rails and golang-migrate have a table of that name: it is said whose it is not, and what to do."""
    path = tmp_path / "s.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"CREATE TABLE schema_migrations ({columns})")
    before = path.read_bytes()
    schema = SqliteSchema(path)
    state = await schema.status()
    assert state.fault is not None
    assert re.search(r"schema_migrations is not streamproc's: .* version.*STREAMPROC_DATABASE", state.fault)
    for opening in (schema.migrate(), SqliteStore(path, migrates=False).open()):
        with pytest.raises(StoreError, match="is not streamproc's"):
            await opening
    assert path.read_bytes() == before
    with pytest.raises(StoreError, match="is not streamproc's"):
        await SqliteStore(path).open()
    assert Sqlite(path).rows("SELECT name FROM sqlite_master WHERE type = 'table'") == [
        ("schema_migrations",)
    ]


def test_an_unknown_kind_of_database_has_no_migrations() -> None:
    """The error says so, in place of an empty schema."""
    with pytest.raises(StoreError, match="missing"):
        scripts("abacus")


async def test_two_that_open_at_once_make_one_schema(tmp_path: Path) -> None:
    """Processes that start together do not trip over each other."""
    stores = [SqliteStore(tmp_path / "s.db") for _ in range(4)]
    await asyncio.gather(*(store.open() for store in stores))
    await asyncio.gather(*(store.close() for store in stores))
    assert Sqlite(tmp_path / "s.db").rows("SELECT version FROM schema_migrations") == [
        (script.version,) for script in scripts("sqlite")
    ]


async def test_a_file_without_a_log_that_somebody_writes_to_is_waited_for(tmp_path: Path) -> None:
    """SQLite would say at once that it is locked."""
    with closing(sqlite3.connect(tmp_path / "s.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("CREATE TABLE theirs (a)")
        store = SqliteStore(tmp_path / "s.db")
        opening = asyncio.create_task(store.open())
        done, _ = await asyncio.wait([opening], timeout=0.1)
        assert not done
        other.execute("COMMIT")
        await opening
        await store.close()


async def test_a_schema_that_is_behind_is_an_error_to_who_only_looks(tmp_path: Path) -> None:
    """It says what to do, and not a byte of the file changes; once a sink has opened the file, one may look."""
    path = tmp_path / "s.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, scripts("sqlite")[:1])
    before = path.read_bytes()
    looking = SqliteStore(path, migrates=False)
    with pytest.raises(StoreError, match=r"has schema 1, .* start `streamproc sink`"):
        await looking.open()
    assert not path.with_name("s.db-wal").exists()
    assert path.read_bytes() == before
    sink = SqliteStore(path)
    await sink.open()
    await looking.open()
    await looking.close()
    await sink.close()


async def test_a_search_for_extra_readings_begins_at_the_range(tmp_path: Path) -> None:
    """Rows of earlier records are passed over, but no row of the range: whichever was lost, written again or added since."""
    path = tmp_path / "s.db"
    store = SqliteStore(path, auto_register=True)
    await store.open()
    rows = readings(*(("a", 1.0, at) for at in range(10_000)))
    await store.write(batch(rows))
    scopes = [Scope(PLACE[0], PLACE[1], 9_000, 9_900)]
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        numbers = dict(connection.execute("SELECT kafka_offset, id FROM sensor_readings"))
        assert numbers[4_500] < first_row(connection, scopes) <= numbers[9_000]
        assert first_row(connection, [Scope(PLACE[0], PLACE[1], 0, 100)]) == 0
        assert first_row(connection, [*scopes, Scope(PLACE[0], 7, 9_000, 9_900)]) == 0
        (plan,) = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {INSIDE}", (0, 0, 1))]
        assert "sensor_readings_landmarks" in plan
        connection.execute("DELETE FROM sensor_readings WHERE kafka_offset = 9500")
        await store.overwrite(batch(rows))
        assert first_row(connection, scopes) > numbers[4_500]
        connection.execute("DELETE FROM sensor_readings WHERE kafka_offset BETWEEN 4000 AND 8999")
        await store.overwrite(batch(rows))
        assert first_row(connection, scopes) == 0
    found = await store.extras("readings", scopes, None, lambda n: np.zeros(len(n), dtype=np.bool_), 1_000)
    assert (found.count, len(found.rows)) == (900, 900)
    await store.close()


async def test_a_file_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    """A folder in its place, say; once that is gone, the same store opens it."""
    store = SqliteStore(tmp_path / "s.db")
    (tmp_path / "s.db").mkdir()
    with pytest.raises(StoreUnavailable, match="unable to open"):
        await store.open()
    (tmp_path / "s.db").rmdir()
    await store.open()
    await store.close()


async def test_a_file_that_is_no_database_is_an_error(tmp_path: Path) -> None:
    """That does not pass by waiting."""
    (tmp_path / "s.db").write_text("this is a text, and no database at all. " * 100)
    store = SqliteStore(tmp_path / "s.db")
    with pytest.raises(StoreError, match="not a database") as told:
        await store.open()
    assert not told.value.retriable
    await store.close()


async def test_a_file_taken_away_is_noticed(tmp_path: Path) -> None:
    """Rows do not go to a file that nobody sees: a new one begins, without the offsets expected."""
    folder = tmp_path / "data"
    store = SqliteStore(folder / "s.db", auto_register=True)
    await store.write(batch(readings(("a", 1.0, 1)), following=1))
    shutil.rmtree(folder)
    with pytest.raises(StaleOwner):
        await store.write(batch(readings(("a", 2.0, 2)), expected=1, following=2))
    assert await store.offsets(GROUP) == {}
    await store.close()


async def test_rows_outlive_the_process_without_a_close(tmp_path: Path) -> None:
    """A commit is in the file, or beside it in the log, for everyone who opens it."""
    store = SqliteStore(tmp_path / "s.db", auto_register=True)
    await store.write(batch(readings(("a", 1.0, 1))))
    assert Sqlite(tmp_path / "s.db").rows("SELECT value FROM sensor_readings") == [(1.0,)]
    assert Sqlite(tmp_path / "s.db").rows("PRAGMA journal_mode") == [("wal",)]
    await store.close()


def test_the_latest_readings_of_a_sensor_are_found_by_an_index() -> None:
    """No query that people make every second reads the whole table."""
    with closing(memory()) as connection:
        migrate(connection, scripts("sqlite"))
        query = (
            "EXPLAIN QUERY PLAN SELECT value FROM sensor_readings WHERE sensor_id = 1"
            " AND device_timestamp >= '2024-01-01' ORDER BY device_timestamp DESC LIMIT 9"
        )
        plan = connection.execute(query).fetchall()
        assert len(plan) == 1
        assert "USING INDEX sensor_readings_latest" in plan[0][3]


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (
            "SELECT mean FROM sensor_windows WHERE sensor_id = 1 AND size_ms = 1000 ORDER BY window_start DESC LIMIT 9",
            "USING INDEX sensor_windows_latest (sensor_id=? AND size_ms=?)",
        ),
        (
            "SELECT mean FROM sensor_windows WHERE window_start >= '2024' AND window_start < '2025' ORDER BY window_start",
            "USING PRIMARY KEY (window_start>? AND window_start<?)",
        ),
        ("DELETE FROM sensor_windows WHERE window_start < '2024'", "USING PRIMARY KEY (window_start<?)"),
    ],
)
def test_windows_are_found_without_reading_them_all(query: str, index: str) -> None:
    """The last ones of a sensor, those of all sensors in a range of time, and those to be deleted; none is sorted."""
    with closing(memory()) as connection:
        migrate(connection, scripts("sqlite"))
        plan = connection.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()
        assert [row[3] for row in plan] == [f"SEARCH sensor_windows {index}"]


def test_an_edit_does_not_read_the_audit() -> None:
    """Whether there was such an entry before is asked by the index, each time somebody acknowledges an alarm."""
    asked: list[str] = []
    with closing(memory()) as connection:
        migrate(connection, scripts("sqlite"))
        connection.set_trace_callback(asked.append)
        entries.edit(connection, [PutDocument(SilenceEntry("s", sensor="a"))], by_streamproc())
        connection.set_trace_callback(None)
        (query,) = [text for text in asked if "FROM registry_audit" in text]
        (plan,) = connection.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()
    assert "INDEX registry_audit_of (kind=? AND name=?)" in plan[3]


def test_a_replay_reads_none_of_a_sensors_history() -> None:
    """Beyond what it gives: its writing costs the same however many events there were before."""

    def steps(before: int) -> int:
        """SQLite's own, for one event."""
        sensors, taken = Sensors(auto_register=True), 0

        def count() -> None:
            nonlocal taken
            taken += 1

        with closing(memory()) as connection:
            migrate(connection, scripts("sqlite"))
            history = [event("a", Severity.WARN, Severity.NORMAL, -ms) for ms in range(2, before + 2)]
            rows.write(connection, Batch(GROUP, events=events(*history)), sensors, {})
            connection.set_progress_handler(count, 1)
            again = Batch(GROUP, events=events(event("a", Severity.CRITICAL, Severity.WARN)))
            overwrite.overwrite(connection, again, sensors, {})
            connection.set_progress_handler(None, 0)
        return taken

    assert steps(1_000) < 2 * steps(10)


def test_no_list_for_people_reads_all_events(tmp_path: Path) -> None:
    """Alarms and pages go by what stands, by a sensor, or by the time, whose order is the index's."""
    asked: list[str] = []
    with closing(connection(tmp_path / "s.db")) as opened:
        migrate(opened, scripts("sqlite"))
        opened.set_trace_callback(asked.append)
        status.alarms(opened)
        for severity in ("CRITICAL", "NORMAL"):
            views.sensors_page(opened, SensorsAsked(severity))
        for sensor in (None, "a"):
            views.events_page(opened, EventsAsked(sensor))
        opened.set_trace_callback(None)
        for query in asked:
            plan = "; ".join(row[3] for row in opened.execute(f"EXPLAIN QUERY PLAN {query}"))
            reading = re.findall(r"SCAN (?!s\b)\w+(?: USING INDEX (\w+))?", plan)
            assert set(reading) <= {"ml_events_standing"}, plan
            if "ORDER BY e.created_at DESC" in query:
                assert "TEMP B-TREE" not in plan
    assert len(asked) == 7


async def test_a_database_of_the_first_schema_gets_the_windows(tmp_path: Path) -> None:
    """What is in it stays as it is."""
    with closing(sqlite3.connect(tmp_path / "s.db", isolation_level=None)) as connection:
        migrate(connection, scripts("sqlite")[:1])
        connection.execute("INSERT INTO sensors (uuid) VALUES ('a')")
    store = SqliteStore(tmp_path / "s.db")
    assert await store.write(Batch(GROUP, windows=windows(("a", 1.0, 0)))) == Written(windows=1)
    await store.close()


async def test_the_settings_name_the_store(tmp_path: Path) -> None:
    """By default a SQLite file in the data directory."""
    store = connect(Settings(data_dir=tmp_path))
    await store.open()
    await store.close()
    assert (tmp_path / "streamproc.db").exists()


def test_models_get_the_version_that_their_name_had() -> None:
    """Of streamproc's alone; the highest is active, and their numbers, which predictions have, stay."""
    wanted = scripts("sqlite")
    renaming = next(script for script in wanted if "river-online" in script.text)
    with closing(memory()) as connection:
        migrate(connection, [script for script in wanted if script.version < renaming.version])
        for name in ("level", "river-online-1", "river-online-2"):
            connection.execute("INSERT INTO ml_models (name, version) VALUES (?, '1')", (name,))
        migrate(connection, wanted)
        query = "SELECT id, name, version, is_active FROM ml_models ORDER BY id"
        assert connection.execute(query).fetchall() == [
            (1, "level", "1", 1),
            (2, "river-online", "1", 0),
            (3, "river-online", "2", 1),
        ]
