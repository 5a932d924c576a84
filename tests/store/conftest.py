"""The stores that the contract is tested on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streamproc.store.job_runs import JobStore
from streamproc.store.protocol import Store
from tests.store.databases import Database, Sqlite, sql_server
from tests.store.tsql import on_a_server


@pytest.fixture(params=["sqlite", pytest.param("sqlserver", marks=on_a_server)])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        yield Sqlite(tmp_path / "folder" / "streamproc.db")
        return
    async with sql_server() as server:
        yield server


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    """An open store that registers what it does not know."""
    opened = database.store()
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def jobs(database: Database) -> AsyncIterator[JobStore]:
    """The same database as jobs see it, open."""
    opened = database.jobs()
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
