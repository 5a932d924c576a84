"""Turns on a real server: one transaction at a time, and locks in one order."""

from __future__ import annotations

from typing import Any

import pytest

from streamproc.errors import StoreUnavailable
from streamproc.records import Severity
from streamproc.store.protocol import Batch
from streamproc.store.sqlserver.connections import Limits, connect
from streamproc.store.sqlserver.rows import write
from streamproc.store.sqlserver.sensors import Sensors
from streamproc.store.sqlserver.turns import take_turn
from tests.store.builders import GROUP, event, events, readings
from tests.store.databases import sql_server
from tests.store.tsql import dsn, made_database, on_a_server

pytestmark = on_a_server


class Heard:
    """A cursor that keeps the statements it was given."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor
        self.statements: list[str] = []

    async def execute(self, statement: str, *values: object) -> None:
        """Run it."""
        self.statements.append(statement)
        await self._cursor.execute(statement, *values)

    def __getattr__(self, name: str) -> Any:
        """What else a cursor has."""
        return getattr(self._cursor, name)


async def test_the_sink_takes_its_locks_in_the_triggers_order() -> None:
    """Events and notifications, then the newest readings: in another order the two would block each other."""
    told = Batch(
        GROUP, {}, readings(("a", 1.0, 1)), events=events(event("a", Severity.WARN, Severity.NORMAL))
    )
    async with sql_server() as database:
        store = database.store()
        await store.open()
        async with store.cursor(commits=False) as cursor:
            heard = Heard(cursor)
            await write(heard, told, Sensors(auto_register=True), {})
        await store.close()
    tables = [
        table
        for statement in heard.statements
        for table in ("UPDATE dbo.ml_events", "UPDATE dbo.alert_notifications", "streamproc_set_latest")
        if table in statement
    ]
    assert tables[-2:] == ["UPDATE dbo.alert_notifications", "streamproc_set_latest"]
    assert tables.count("streamproc_set_latest") == 1


async def test_a_turn_ends_with_its_transaction() -> None:
    """Until then another is told who has it, once it has waited for as long as it may."""
    async with made_database() as name:
        links = [await connect(dsn(database=name), "the test's database", Limits()) for _ in range(2)]
        first, second = [await link.connection.cursor() for link in links]
        await take_turn(first, "a-turn", 100, "another is at it")
        with pytest.raises(StoreUnavailable, match="another is at it") as told:
            await take_turn(second, "a-turn", 100, "another is at it")
        assert told.value.code == "locked"
        await links[1].connection.rollback()
        await take_turn(second, "another-turn", 100, "another is at it")
        await links[0].connection.commit()
        await take_turn(second, "a-turn", 60_000, "another is at it")
        for link in links:
            await link.close()
