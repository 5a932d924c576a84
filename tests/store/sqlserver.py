"""A database on a T-SQL server for the contract of all stores."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest

from streamproc.store.protocol import Store
from streamproc.store.sqlserver import driver
from streamproc.store.sqlserver.connections import Connections, Limits, connect
from streamproc.store.sqlserver.migrations import LIMITS, migrate
from streamproc.store.sqlserver.store import SqlServerStore
from tests.store.builders import GROUP, PLACE
from tests.store.tsql import dsn

#: What the reference's programs call otherwise than sql/sqlite does.
_NAMES = {r"\bm\.name\b": "m.model_name", r"\bsource_event_id\b": "event_id"}

_RULE = "[this value is not wanted]"
#: Tables with rows, those that refer to others first.
_FILLED = (
    "alert_notifications",
    "ml_events",
    "predictions",
    "ml_models",
    "alerts",
    "sensor_windows",
    "sensor_readings_latest",
    "sensor_readings",
    "sensors",
    "devices",
    "stream_offsets",
)


class SqlServer:
    """A database of its own on the server, made with all migrations and dropped afterwards."""

    def __init__(self) -> None:
        self._pyodbc = driver.pyodbc()
        self.name = f"streamproc_test_{uuid4().hex[:12]}"
        self._execute_in(None, f"CREATE DATABASE {self.name}")
        asyncio.run(self._migrate())

    async def _migrate(self) -> None:
        link = await connect(self.text, "the test's database", LIMITS)
        try:
            await migrate(link.connection)
        finally:
            await link.close()

    @property
    def text(self) -> str:
        """The connection string for this database."""
        return dsn(database=self.name)

    def empty(self) -> None:
        """Have it as it was made; identities go on."""
        self.execute(f"ALTER TABLE dbo.sensor_readings DROP CONSTRAINT IF EXISTS {_RULE}")
        for table in _FILLED:
            self.execute(f"DELETE FROM dbo.{table}")  # noqa: S608  # the names above

    def drop(self) -> None:
        """Drop the database; nobody may use it any more."""
        self._execute_in(None, f"DROP DATABASE {self.name}")

    def store(self, *, auto_register: bool = True) -> SqlServerStore:
        """A store that waits for a lock no longer than a test wants to."""
        return SqlServerStore(
            Connections(self.text, "the test's database", Limits(lock_ms=200)), auto_register=auto_register
        )

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a query gives, with names and values as sql/sqlite has them."""
        for name, other in _NAMES.items():
            query = re.sub(name, other, query)
        connection = self._pyodbc.connect(self.text, autocommit=True)
        try:
            return [tuple(map(_plain, row)) for row in connection.execute(query).fetchall()]
        finally:
            connection.close()

    def execute(self, statement: str) -> None:
        """Run and commit a statement."""
        self._execute_in(self.name, statement)

    def _execute_in(self, name: str | None, statement: str) -> None:
        text = self.text if name else dsn()
        connection = self._pyodbc.connect(text, autocommit=True)
        try:
            connection.execute(statement).close()
        finally:
            connection.close()

    def refuse(self, value: float) -> None:
        """Make a rule."""
        self.execute(f"ALTER TABLE dbo.sensor_readings ADD CONSTRAINT {_RULE} CHECK (value <> {value})")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Have an offset in a transaction of one's own: each batch begins with it."""
        connection = self._pyodbc.connect(self.text, autocommit=False)
        insert = "INSERT INTO dbo.stream_offsets (consumer_group, topic, [partition], next_offset) VALUES (?, ?, ?, 0)"
        try:
            connection.execute(insert, GROUP, *PLACE)
            yield
        finally:
            connection.rollback()
            connection.close()

    def make_read_only(self) -> None:
        """Not done: the database is shared by all tests, and not each server takes ALTER DATABASE."""
        pytest.skip(
            "a database of SQL Server is not made read-only by the tests: numbers alone are tested, in test_faults"
        )

    async def fill(self, store: Store) -> None:  # noqa: ARG002  # the protocol's
        """Not done: only a server's own files can be full."""
        pytest.skip("a SQL Server is not filled by the tests: numbers alone are tested, in test_faults")

    async def make_room(self, store: Store) -> None:
        """Undo `fill`."""


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03d}Z"
    return int(value) if isinstance(value, bool) else value
