"""The stores that the contract is tested on, each with a second way into its database."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

from streamproc.store.protocol import Store
from streamproc.store.sqlite import SqliteStore
from tests.store.sqlserver import SqlServer
from tests.store.tsql import on_a_server
from tests.store.tsql_database import made


class Database(Protocol):
    """One empty database, as somebody else than the store sees it."""

    def store(self, *, auto_register: bool = True) -> Store:
        """A store on it, not opened yet."""

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

    def store(self, *, auto_register: bool = True) -> SqliteStore:
        """A store that waits for a lock no longer than a test wants to."""
        return SqliteStore(self.path, auto_register=auto_register, busy_ms=20)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a query gives."""
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(query).fetchall()

    def execute(self, statement: str) -> None:
        """Run and commit a statement."""
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
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
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")

    def make_read_only(self) -> None:
        """Set the header's write version to one that SQLite only reads: root must heed it, unlike a mode."""
        self.rows("PRAGMA wal_checkpoint(TRUNCATE)")
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


@pytest.fixture(params=["sqlite", pytest.param("sqlserver", marks=on_a_server)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        yield Sqlite(tmp_path / "folder" / "streamproc.db")
        return
    with made() as server:
        yield SqlServer(server)


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    """An open store that registers what it does not know."""
    opened = database.store()
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def strict(database: Database) -> AsyncIterator[Store]:
    """An open store that refuses what it does not know."""
    opened = database.store(auto_register=False)
    await opened.open()
    yield opened
    await opened.close()
