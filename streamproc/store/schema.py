"""The schema of the database that the settings name, of either kind: its status, and migration."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Protocol, TypeVar

from streamproc.errors import StoreError, why
from streamproc.settings import Settings
from streamproc.store import migrations
from streamproc.store.migrations import Migration, Status, scripts
from streamproc.store.sqlite.connection import connection

T = TypeVar("T")


class Schema(Protocol):
    """A database's schema; both calls raise StoreError, or StoreUnavailable where the database is away."""

    place: str

    async def status(self) -> Status:
        """How it stands; nothing is changed."""

    async def migrate(self) -> list[Migration]:
        """Apply what is pending and return it; once among all processes."""


class SqliteSchema:
    """The schema of a SQLite file."""

    def __init__(self, path: Path) -> None:
        self.place = str(path)
        self._path = path

    async def status(self) -> Status:
        """How it stands; a file that is not there has no schema, and is not made."""
        return await asyncio.to_thread(self._told, self._status)

    async def migrate(self) -> list[Migration]:
        """Apply what is pending and return it."""
        return await asyncio.to_thread(self._told, self._migrate)

    def _status(self) -> Status:
        wanted = scripts("sqlite")
        if not self._path.exists():
            return Status(tuple(wanted), ())
        uri = f"{self._path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as looking:
            return migrations.status(looking, wanted)

    def _migrate(self) -> list[Migration]:
        if not self._status().pending:  # looked at before the file is opened to write, which turns its log on
            return []
        with closing(connection(self._path)) as opened:
            return migrations.migrate(opened, scripts("sqlite"))

    def _told(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{self._path}: {why(error)}") from error


def schema(settings: Settings) -> Schema:
    """The schema of the database that the settings name, not connected to yet."""
    if settings.store == "sqlserver":
        from streamproc.store.sqlserver.migrations import SqlServerSchema  # noqa: PLC0415  # the extra is its own

        return SqlServerSchema(settings)
    return SqliteSchema(settings.database_path)
