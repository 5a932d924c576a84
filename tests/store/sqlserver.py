"""A database on a T-SQL server for the contract of all stores."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest

from streamproc.store.protocol import Store
from streamproc.store.sqlserver import driver
from streamproc.store.sqlserver.connections import Connections, Limits, connect
from streamproc.store.sqlserver.migrations import LIMITS, migrate
from streamproc.store.sqlserver.store import SqlServerStore
from tests.store.builders import GROUP, PLACE
from tests.store.tsql import dsn
from tests.store.tsql_database import Database

#: What the reference's programs call otherwise than sql/sqlite does.
_NAMES = {r"\bm\.name\b": "m.model_name", r"\bsource_event_id\b": "event_id"}
_RULE = "[this value is not wanted]"


class SqlServer:
    """A database with all migrations."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._text = dsn(database=database.name)
        asyncio.run(self._migrate())

    async def _migrate(self) -> None:
        link = await connect(self._text, "the test's database", LIMITS)
        try:
            await migrate(link.connection)
        finally:
            await link.close()

    def store(self, *, auto_register: bool = True) -> SqlServerStore:
        """A store that waits for a lock no longer than a test wants to."""
        connections = Connections(self._text, "the test's database", Limits(lock_ms=200))
        return SqlServerStore(connections, auto_register=auto_register)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a query gives, with names and values as sql/sqlite has them."""
        for name, other in _NAMES.items():
            query = re.sub(name, other, query)
        return [tuple(map(_plain, row)) for row in self._database.rows(query)]

    def execute(self, statement: str) -> None:
        """Run and commit a statement."""
        self._database.run(statement)

    def refuse(self, value: float) -> None:
        """Make a rule."""
        self.execute(f"ALTER TABLE dbo.sensor_readings ADD CONSTRAINT {_RULE} CHECK (value <> {value})")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Have an offset in a transaction of one's own: each batch begins with it."""
        connection = driver.pyodbc().connect(self._text, autocommit=False)
        insert = "INSERT INTO dbo.stream_offsets (consumer_group, topic, [partition], next_offset) VALUES (?, ?, ?, 0)"
        try:
            connection.execute(insert, GROUP, *PLACE)
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


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03d}Z"
    return int(value) if isinstance(value, bool) else value
