"""SQL Server's migrations: divided into batches, applied once, whole or not at all, and refused where they do not fit."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.errors import StoreError
from streamproc.store.migrations import Migration
from streamproc.store.sqlserver.connections import Limits, connect
from streamproc.store.sqlserver.migrations import batches, migrate, status
from tests.store.tsql import dsn, made_database, on_a_server

FIRST = Migration(1, "CREATE TABLE dbo.a (x INT);\nGO\nINSERT INTO dbo.a VALUES (1);\nGO\n", "0001_first.sql")
SECOND = Migration(2, "CREATE TABLE dbo.b (x INT);", "0002_second.sql")


@given(
    st.lists(st.sampled_from(["SELECT 1", "SELECT 'GOING'", "", "  ", "GO", " go -- on", "SELECT 2\nAS x"]))
)
def test_batches_are_what_stands_between_the_lines_go(pieces: list[str]) -> None:
    """Nothing is lost but the lines GO and empty ones, and each batch stands where it says."""
    text = "\n".join(pieces)
    lines = text.split("\n")
    found = batches(text)
    for batch in found:
        stands = "\n".join(lines[batch.first_line - 1 : batch.last_line])
        assert stands.strip() == batch.text
    kept = [line.strip() for batch in found for line in batch.text.split("\n") if line.strip()]
    assert kept == [
        line.strip() for line in lines if line.strip() and not line.strip().lower().startswith("go")
    ]


@asynccontextmanager
async def connected(name: str) -> AsyncIterator[Any]:
    """A connection to the database of this name."""
    link = await connect(dsn(Database=name), name, Limits(login_s=60, query_s=120, lock_ms=60_000))
    try:
        yield link.connection
    finally:
        await link.close()


async def migrated(name: str, wanted: list[Migration]) -> list[Migration]:
    """What was applied over a connection of its own."""
    async with connected(name) as connection:
        return await migrate(connection, wanted)


async def rows(connection: Any, query: str) -> list[tuple[Any, ...]]:
    """What a query gives."""
    cursor = await connection.execute(query)
    found = [tuple(row) for row in await cursor.fetchall()]
    await cursor.close()
    await connection.rollback()
    return found


@on_a_server
async def test_they_are_applied_once_and_the_ledger_says_so() -> None:
    """A later one by itself; the state tells names, checksums and times."""
    async with made_database() as name, connected(name) as connection:
        before = await status(connection, [FIRST, SECOND])
        assert (before.applied, before.pending) == ((), [FIRST, SECOND])
        assert await migrate(connection, [FIRST]) == [FIRST]
        assert await migrate(connection, [FIRST, SECOND]) == [SECOND]
        assert await migrate(connection, [FIRST, SECOND]) == []
        after = await status(connection, [FIRST, SECOND])
        assert [(one.version, one.name, one.checksum) for one in after.applied] == [
            (script.version, script.name, script.checksum) for script in (FIRST, SECOND)
        ]
        assert all(one.at.startswith("20") and one.at.endswith("Z") for one in after.applied)
        assert await rows(connection, "SELECT x FROM dbo.a") == [(1,)]


@on_a_server
async def test_processes_that_start_together_apply_each_once() -> None:
    """One does it while the others wait, and find it done."""
    async with made_database() as name:
        done = await asyncio.gather(*(migrated(name, [FIRST, SECOND]) for _ in range(4)))
        assert sorted(map(len, done)) == [0, 0, 0, 2]
        async with connected(name) as connection:
            assert await rows(connection, "SELECT x FROM dbo.a") == [(1,)]


@on_a_server
async def test_one_that_fails_leaves_nothing_and_says_where() -> None:
    """Not its first batches either; those before it stay, and mended it is applied."""
    broken = Migration(2, "CREATE TABLE dbo.b (x INT);\nGO\n\nSELECT 1;\nSELEC 2;\nGO\n", "0002_second.sql")
    async with made_database() as name:
        with pytest.raises(StoreError, match=r"0002_second\.sql, batch 2, lines 4 to 5: "):
            await migrated(name, [FIRST, broken])
        async with connected(name) as connection:
            assert [one.version for one in (await status(connection, [FIRST, broken])).applied] == [1]
            assert await rows(connection, "SELECT OBJECT_ID(N'dbo.b')") == [(None,)]
        assert await migrated(name, [FIRST, SECOND]) == [SECOND]


@on_a_server
async def test_an_error_behind_a_result_is_an_error() -> None:
    """A statement that fails after another has given rows; without looking on, nobody would hear of it."""
    late = Migration(2, "SELECT 1;\nINSERT INTO dbo.a VALUES (NULL / 0), (1 / 0);", "0002_late.sql")
    async with made_database() as name:
        with pytest.raises(StoreError, match=r"0002_late\.sql, batch 1, lines 1 to 2"):
            await migrated(name, [FIRST, late])
        async with connected(name) as connection:
            assert await rows(connection, "SELECT x FROM dbo.a") == [(1,)]


@on_a_server
async def test_a_changed_or_newer_schema_is_refused() -> None:
    """A script changed since, or a database of a later program, is not written to."""
    async with made_database() as name, connected(name) as connection:
        await migrate(connection, [FIRST, SECOND])
        changed = Migration(1, "CREATE TABLE dbo.z (x INT);", "0001_first.sql")
        with pytest.raises(StoreError, match="migration 1 is not the one"):
            await migrate(connection, [changed, SECOND])
        with pytest.raises(StoreError, match="has schema 2"):
            await migrate(connection, [FIRST])


@on_a_server
@pytest.mark.parametrize("columns", ["version NVARCHAR(255) NOT NULL", "version BIGINT, dirty BIT"])
async def test_another_tools_ledger_is_told_and_left_alone(columns: str) -> None:
    """Rails and golang-migrate have a table of that name: it is said whose it is not, and what to do."""
    async with made_database() as name, connected(name) as connection:
        await (await connection.execute(f"CREATE TABLE dbo.schema_migrations ({columns})")).close()
        await connection.commit()
        state = await status(connection, [FIRST])
        assert state.fault is not None
        assert re.search(
            r"dbo\.schema_migrations is not streamproc's: its columns are version.*DB_NAME", state.fault
        )
        with pytest.raises(StoreError, match="is not streamproc's"):
            await migrate(connection, [FIRST])
        assert await rows(connection, "SELECT name FROM sys.tables") == [("schema_migrations",)]
