"""A database for one measurement, on the server of the settings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from uuid import uuid4

from streamproc.errors import StoreError
from streamproc.settings import Settings
from streamproc.store.schema import schema
from streamproc.store.sqlserver import driver
from streamproc.store.sqlserver.connections import Limits, Link, connect

#: What is made and dropped may take longer on a server that is small or busy than a sink would wait.
LIMITS = Limits(query_s=600, lock_ms=30_000)
#: Between two tries to drop it.
_LOOK_S = 0.1
#: A statement of a process that was ended may run on for the 30 s of a sink's, twice that on a busy server.
_LEFT_S = 60.0


@asynccontextmanager
async def made(settings: Settings) -> AsyncIterator[Settings]:
    """The settings with a new database, which has the schema and goes with the block; the login must be able to make one."""
    name = f"streamproc_bench_{uuid4().hex[:12]}"
    text = connection_string(settings.model_copy(update={"db_name": "master"}))
    master = await connect(text, settings.database_place, LIMITS, autocommit=True)
    try:
        try:
            await (await master.connection.execute(f"CREATE DATABASE {name}")).close()
            chosen = settings.model_copy(update={"db_name": name})
            await schema(chosen).migrate()
            yield chosen
        finally:
            await _drop(master, name)
    finally:
        await master.close()


def connection_string(settings: Settings) -> str:
    """What ODBC is given to connect the benchmark; it holds the password."""
    return driver.connection_string(settings, driver.find(settings.odbc_driver), "bench")


async def _drop(master: Link, name: str) -> None:
    """Drop the database, if it is there, as soon as nobody has it; raises StoreError where somebody goes on having it."""
    deadline = monotonic() + _LEFT_S
    while not await _dropped(master, name):
        if monotonic() > deadline:
            raise StoreError(f"the benchmark's database {name} is still in use: DROP DATABASE it yourself")
        await asyncio.sleep(_LOOK_S)  # the server tells nobody


async def _dropped(master: Link, name: str) -> bool:
    """Drop the database, unless the server has not yet heard that its last connection is closed."""
    try:
        await (await master.connection.execute(f"DROP DATABASE IF EXISTS {name}")).close()
    except driver.pyodbc().Error as error:
        if "in use" not in str(error):
            raise
        return False
    return True
