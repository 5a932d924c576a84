"""The databases that real sinks write to, each with ways to disturb them: SQLite's file, and one on a T-SQL server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

from tests.live.processes import eventually
from tests.store.databases import Database, Sqlite, SqlServer, sql_server
from tests.store.wire import Fault, Wire, wired

#: The value at which SQLite stands still: `halted`.
HALT = 777.0
#: A transaction that only asks how the database stands is seen by one look, never by so many in a row.
_LOOKS = 5

#: Returns once the sink stands still.
Reached = Callable[[], Awaitable[None]]


class Disturbed(Database, Protocol):
    """A database as somebody else than the sinks sees it, who can stop a sink within a transaction."""

    def halted(self) -> AbstractAsyncContextManager[Reached]:
        """Have the next transaction that has a reading of HALT stand still, its rows written, until the sink is killed."""


class File(Sqlite):
    """SQLite's."""

    @asynccontextmanager
    async def halted(self) -> AsyncIterator[Reached]:
        """A trigger that never ends."""
        self.execute(
            "CREATE VIEW for_ever AS WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
        )
        action = "BEGIN SELECT count(*) FROM for_ever; END"
        self.execute(f"CREATE TRIGGER halt AFTER INSERT ON sensor_readings WHEN NEW.value = {HALT} {action}")

        async def reached() -> None:
            looks = 0

            async def stands_still() -> bool:
                nonlocal looks
                looks = looks + 1 if self.is_locked() else 0
                return looks == _LOOKS

            await eventually(stands_still)

        yield reached
        self.execute("DROP TRIGGER halt")
        self.execute("DROP VIEW for_ever")


class Server(SqlServer):
    """One that sinks reach over a wire, and the tests directly."""

    def __init__(self, name: str, wire: Wire) -> None:
        super().__init__(name)
        self.wire = wire

    @property
    def variables(self) -> dict[str, str]:
        """To the wire; its end has another name than the server's certificate."""
        over = {"DB_HOST": "127.0.0.1", "DB_PORT": str(self.wire.port), "DB_TRUST_SERVER_CERTIFICATE": "yes"}
        return super().variables | over

    @asynccontextmanager
    async def halted(self) -> AsyncIterator[Reached]:
        """The commit stays on the wire."""
        self.wire.fail_commit(Fault.UNSENT)
        yield self.until_failed

    async def until_failed(self) -> None:
        """Wait until the commit has failed that was to."""

        async def has() -> bool:
            return self.wire.failed.is_set()

        await eventually(has)


@asynccontextmanager
async def server() -> AsyncIterator[Server]:
    """A migrated database on the server, dropped at the end, and the wire to it."""
    with wired() as (wire, _):
        async with sql_server() as made:
            there = Server(made.name, wire)
            try:
                yield there
            finally:
                there.close()
                made.is_altered |= there.is_altered


@asynccontextmanager
async def made(kind: str, folder: Path) -> AsyncIterator[Disturbed]:
    """An empty database of a kind, `sqlite` or `sqlserver`; SQLite's file is where a site of this folder has it."""
    if kind == "sqlite":
        yield File(folder / "streamproc.db")
        return
    async with server() as there:
        yield there
