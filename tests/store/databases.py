"""A database of each kind, empty, with a second way into it, for tests of whatever writes to it."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import pytest

from streamproc.store.job_runs import JobStore
from streamproc.store.protocol import Store
from streamproc.store.sqlite.jobs import SqliteJobs
from streamproc.store.sqlite.store import SqliteStore
from streamproc.store.sqlserver import driver
from streamproc.store.sqlserver.connections import Connections, Limits, connect
from streamproc.store.sqlserver.jobs import SqlServerJobs
from streamproc.store.sqlserver.migrations import LIMITS, migrate
from streamproc.store.sqlserver.store import SqlServerStore
from tests.store import tsql_database
from tests.store.tsql import drop_database, dsn, make_database, variables

#: What the reference's programs call otherwise than sql/sqlite does.
_NAMES = {r"\bm\.name\b": "m.model_name", r"\bsource_event_id\b": "event_id"}
_RULE = "[this value is not wanted]"
#: Some servers translate a trigger anew in each session: 5 s of CPU time, many times that beside others' work.
LIMITS_OF_TESTS = Limits(lock_ms=200, query_s=300)
#: What changes rows alone begins with one of these.
_OF_ROWS = ("SELECT", "INSERT", "UPDATE", "DELETE")
#: Migrated databases that a test has left with their schema as it was: to make one takes seconds, to empty one none.
_kept: list[str] = []


class Database(Protocol):
    """One empty database, as somebody else than the store sees it."""

    @property
    def variables(self) -> dict[str, str]:
        """The settings that lead a process of streamproc to it."""

    def store(self, *, auto_register: bool = True) -> Store:
        """A store on it, not opened yet."""

    def jobs(self) -> JobStore:
        """The same as jobs see it."""

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a query gives."""

    def execute(self, statement: str) -> None:
        """Run and commit a statement."""

    def refuse(self, value: float) -> None:
        """Make the database refuse readings of this value."""

    def locked(self) -> AbstractContextManager[None]:
        """Keep every other writer out."""

    def make_read_only(self) -> None:
        """Let nobody write from now on."""

    async def fill(self, store: Store) -> None:
        """Leave no room for another row."""

    async def make_room(self, store: Store) -> None:
        """Undo `fill`."""


class Sqlite:
    """A file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def variables(self) -> dict[str, str]:
        """The file; it need not be there."""
        return {"STREAMPROC_DATABASE": str(self.path)}

    def store(self, *, auto_register: bool = True) -> SqliteStore:
        """A store that waits for a lock no longer than a test wants to."""
        return SqliteStore(self.path, auto_register=auto_register, busy_ms=20)

    def jobs(self) -> JobStore:
        """One that waits for a lock as a process does."""
        return SqliteJobs(SqliteStore(self.path))

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a query gives."""
        with closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute(query).fetchall()

    def execute(self, statement: str) -> None:
        """Run and commit a statement."""
        with closing(sqlite3.connect(self.path, timeout=30, isolation_level=None)) as connection:
            connection.execute(statement)

    def refuse(self, value: float) -> None:
        """Make a trigger."""
        self.execute(
            f"CREATE TRIGGER refuse BEFORE INSERT ON sensor_readings WHEN NEW.value = {value}"
            " BEGIN SELECT RAISE(ABORT, 'this value is not wanted'); END"
        )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the write lock."""
        with closing(sqlite3.connect(self.path, timeout=30, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")

    def is_locked(self) -> bool:
        """Whether somebody writes at this moment."""
        with closing(sqlite3.connect(self.path, timeout=0, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return True
            connection.execute("ROLLBACK")
            return False

    def make_read_only(self) -> None:
        """Set the header's write version to one that SQLite only reads: root must heed it, unlike a mode."""
        self.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with self.path.open("r+b") as file:
            file.seek(18)
            file.write(b"\x03")

    async def fill(self, store: Store) -> None:
        """Allow the file no more pages than it has."""
        assert isinstance(store, SqliteStore)
        await store._run(lambda: store._connected().execute("PRAGMA max_page_count = 1").fetchall())

    async def make_room(self, store: Store) -> None:
        """Allow it as many as there can be."""
        assert isinstance(store, SqliteStore)
        await store._run(lambda: store._connected().execute("PRAGMA max_page_count = 1000000").fetchall())


class SqlServer:
    """A database with all migrations."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_altered = False
        self._text = dsn(database=name)
        self._other = tsql_database.Database(name)

    @property
    def variables(self) -> dict[str, str]:
        """The server, who logs in there, and the database."""
        return variables(self.name)

    def close(self) -> None:
        """Let go of it."""
        self._other.close()

    def store(self, *, auto_register: bool = True) -> SqlServerStore:
        """A store that waits for a lock no longer than a test wants to, and for a slow server's first insert."""
        connections = Connections(self._text, "the test's database", LIMITS_OF_TESTS)
        return SqlServerStore(connections, auto_register=auto_register)

    def jobs(self) -> JobStore:
        """Over such a store."""
        return SqlServerJobs(self.store())

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a query gives, with names and values as sql/sqlite has them."""
        for name, other in _NAMES.items():
            query = re.sub(name, other, query)
        return [tuple(map(_plain, row)) for row in self._other.rows(query)]

    def execute(self, statement: str) -> None:
        """Run and commit a statement; the database is not used again if it may have changed the schema."""
        rows_alone = statement.lstrip().upper().startswith(_OF_ROWS) and "schema_migrations" not in statement
        self.is_altered |= not rows_alone
        self._other.run(statement)

    def empty(self) -> None:
        """Delete all rows but the schema's own, those that others refer to last; raises what the driver raises."""
        self._other.run(
            "SET LOCK_TIMEOUT 5000"
        )  # for a server that has not yet heard that a process was killed
        query = "SELECT name FROM sys.tables WHERE name <> N'schema_migrations'"
        left = [name for (name,) in self._other.rows(query)]
        for _ in left.copy():  # one is emptied each time, at the least
            left = [table for table in left if not self._emptied(table)]
        assert not left

    def _emptied(self, table: str) -> bool:
        try:
            self._other.run(f"DELETE FROM dbo.{table}")  # noqa: S608  # its own names
        except driver.pyodbc().IntegrityError:
            return False
        return True

    def refuse(self, value: float) -> None:
        """Make a rule."""
        self.execute(f"ALTER TABLE dbo.sensor_readings ADD CONSTRAINT {_RULE} CHECK (value <> {value})")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be about to change a table that each batch begins with: neither its rows nor their places are to be had."""
        connection = driver.pyodbc().connect(self._text, autocommit=False)
        try:
            connection.execute("ALTER TABLE dbo.stream_offsets ADD about_to_come INT NULL")
            yield
        finally:
            connection.rollback()
            connection.close()

    def make_read_only(self) -> None:
        """Not done: not each server takes ALTER DATABASE."""
        pytest.skip(
            "a T-SQL server's database is not made read-only here; test_sqlserver_faults has the number"
        )

    async def fill(self, store: Store) -> None:  # noqa: ARG002  # the protocol's
        """Not done: only a server's own files can be full."""
        pytest.skip("a T-SQL server is not filled here; test_sqlserver_faults has the numbers")

    async def make_room(self, store: Store) -> None:
        """Undo `fill`."""


@asynccontextmanager
async def sql_server() -> AsyncIterator[SqlServer]:
    """A migrated database on the server, without rows. At the end it is kept for the next test if it can be, else dropped."""
    name = _kept.pop() if _kept else await _migrated()
    database = SqlServer(name)
    try:
        yield database
        usable = not database.is_altered and _was_emptied(database)
    except BaseException:
        usable = False
        raise
    finally:
        database.close()
        if usable:
            _kept.append(name)
        else:
            await drop_database(name)


async def drop_kept() -> None:
    """Drop the databases that were kept."""
    while _kept:
        await drop_database(_kept.pop())


async def _migrated() -> str:
    name = await make_database()
    link = await connect(dsn(database=name), "the test's database", LIMITS)
    try:
        await migrate(link.connection)
    finally:
        await link.close()
    return name


def _was_emptied(database: SqlServer) -> bool:
    try:
        database.empty()
    except (driver.pyodbc().Error, AssertionError):  # its connection is lost, or somebody still has locks
        return False
    return True


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03d}Z"
    return int(value) if isinstance(value, bool) else value
