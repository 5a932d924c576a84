"""The schema on SQL Server: the numbered scripts, each applied once among all processes, in one transaction."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from streamproc.errors import StoreUnavailable
from streamproc.settings import Settings
from streamproc.store.migrations import Applied, Migration, Status, foreign, scripts
from streamproc.store.sqlserver import driver, faults
from streamproc.store.sqlserver.connections import Limits, connect

#: Who waits for another that migrates waits for its largest script: an index on a table of millions takes minutes.
LOCK_MS = 600_000
#: So may a statement of ours; and it waits longer for readers and writers to let go of a table than they do for it.
LIMITS = Limits(query_s=3_600, lock_ms=30_000)
_RESOURCE = "streamproc-migrations"

_LEDGER = """
IF OBJECT_ID(N'dbo.schema_migrations', N'U') IS NULL
CREATE TABLE dbo.schema_migrations (
    version INT NOT NULL CONSTRAINT pk_schema_migrations PRIMARY KEY,
    name NVARCHAR(200) NOT NULL,
    checksum CHAR(64) NOT NULL,
    applied_at DATETIME2(3) NOT NULL CONSTRAINT df_schema_migrations_applied_at DEFAULT SYSUTCDATETIME()
)"""
_COLUMNS = "SELECT name FROM sys.columns WHERE object_id = OBJECT_ID(N'dbo.schema_migrations', N'U') ORDER BY column_id"
_APPLIED = "SELECT version, name, checksum, applied_at FROM dbo.schema_migrations ORDER BY version"
# Of the session, not of a transaction: one lock around all scripts, and none is left when the connection is lost.
_LOCK = (
    "SET NOCOUNT ON; DECLARE @got INT; EXEC @got = sp_getapplock @Resource = ?, @LockMode = N'Exclusive',"
    " @LockOwner = N'Session', @LockTimeout = ?; SELECT @got"
)
_UNLOCK = "EXEC sp_releaseapplock @Resource = ?, @LockOwner = N'Session'"

_GO = re.compile(r"^[ \t]*GO[ \t]*(?:--.*)?$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Statements:
    """What a script sends at once, and the lines of the script that it stands on."""

    text: str
    first_line: int
    last_line: int

    @property
    def lines(self) -> str:
        """The lines, as people are told them."""
        one = self.first_line == self.last_line
        return f"line {self.first_line}" if one else f"lines {self.first_line} to {self.last_line}"


def batches(text: str) -> list[Statements]:
    r"""The batches of a script, divided by lines `GO`; none is empty.

    >>> batches("SELECT 1\nGO\n\nSELECT 2\ngo -- done\n")
    [Statements(text='SELECT 1', first_line=1, last_line=1), Statements(text='SELECT 2', first_line=4, last_line=4)]
    """
    found = []
    line = 1
    for piece in _GO.split(text):
        body = piece.strip()
        if body:
            first = line + piece[: piece.index(body[0])].count("\n")
            found.append(Statements(body, first, first + body.count("\n")))
        line += piece.count("\n")
    return found


async def status(connection: Any, wanted: Sequence[Migration] | None = None) -> Status:
    """How the database's schema stands; nothing is changed."""
    wanted = scripts("sqlserver") if wanted is None else wanted
    async with _told(connection, "the schema's state cannot be read"):
        columns = [name for (name,) in await _rows(connection, _COLUMNS)]
        told = foreign("dbo.schema_migrations", columns, "DB_NAME")
        found = await _rows(connection, _APPLIED) if columns and told is None else []
        await connection.rollback()
    applied = (
        Applied(version, checksum, f"{at:%Y-%m-%dT%H:%M:%S}Z", name) for version, name, checksum, at in found
    )
    return Status(tuple(wanted), tuple(applied), told)


async def migrate(connection: Any, wanted: Sequence[Migration] | None = None) -> list[Migration]:
    """Apply what is pending and return it; `connection` is an aioodbc one without autocommit, of no use after an error.

    Raises StoreError, which names script, batch and lines, and leaves the scripts before that one applied;
    StoreUnavailable where another process migrates for longer than LOCK_MS.
    """
    wanted = scripts("sqlserver") if wanted is None else wanted
    if not (await status(connection, wanted)).pending:
        return []
    done = []
    async with _locked(connection):
        async with _told(connection, "the ledger dbo.schema_migrations cannot be made"):
            await _run(connection, _LEDGER)
            await connection.commit()
        # Asked again, now that nobody else can apply them.
        for script in (await status(connection, wanted)).pending:
            await _apply(connection, script)
            done.append(script)
    return done


async def _apply(connection: Any, script: Migration) -> None:
    for number, batch in enumerate(batches(script.text), 1):
        async with _told(connection, f"{script.name}, batch {number}, {batch.lines}"):
            await _run(connection, batch.text)
    async with _told(connection, f"{script.name} cannot be entered in dbo.schema_migrations"):
        insert = "INSERT INTO dbo.schema_migrations (version, name, checksum) VALUES (?, ?, ?)"
        await _run(connection, insert, script.version, script.name, script.checksum)
        await connection.commit()


@asynccontextmanager
async def _locked(connection: Any) -> AsyncIterator[None]:
    """Hold the lock that all who migrate take."""
    async with _told(connection, "the lock of the migrations cannot be had"):
        ((got,),) = await _rows(connection, _LOCK, _RESOURCE, LOCK_MS)
    if got < 0:  # -1: time is up, -2: cancelled, -3: a deadlock, -999: a wrong call
        raise StoreUnavailable(
            f"another process has migrated for {LOCK_MS // 1000} s (sp_getapplock: {got})", "locked"
        )
    try:
        yield
    finally:
        # If that fails, the connection is lost, and the lock with it.
        with suppress(driver.pyodbc().Error):
            await _run(connection, _UNLOCK, _RESOURCE)
            await connection.commit()


@asynccontextmanager
async def _told(connection: Any, what: str) -> AsyncIterator[None]:
    """Undo the transaction where the database raises, and tell of `what`."""
    try:
        yield
    except driver.pyodbc().Error as error:
        with suppress(driver.pyodbc().Error):
            await connection.rollback()
        raise faults.translated(error, what) from error


async def _rows(connection: Any, query: str, *values: object) -> list[Any]:
    cursor = await connection.execute(query, *values)
    try:
        return list(await cursor.fetchall())
    finally:
        await cursor.close()


async def _run(connection: Any, text: str, *values: object) -> None:
    """Run a batch to its end: an error of a later statement comes with the results of an earlier one."""
    cursor = await connection.execute(text, *values)
    try:
        while await cursor.nextset():
            pass
    finally:
        await cursor.close()


class SqlServerSchema:
    """The schema of the database that the settings name."""

    def __init__(self, settings: Settings) -> None:
        self.place = settings.database_place
        self._settings = settings

    async def status(self) -> Status:
        """How it stands; nothing is changed."""
        async with self._connected() as connection:
            return await status(connection)

    async def migrate(self) -> list[Migration]:
        """Apply what is pending and return it."""
        async with self._connected() as connection:
            return await migrate(connection)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Any]:
        found = driver.find(self._settings.odbc_driver)
        text = driver.connection_string(self._settings, found, "db")
        link = await connect(text, self.place, LIMITS)
        try:
            yield link.connection
        finally:
            await link.close()
