"""The sink's writer over a real SQLite file, and what it sends to the dead-letter topic."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from streamproc.core.chunk import Chunk
from streamproc.records import DeadLetter
from streamproc.registry.following import Whole
from streamproc.settings import Settings
from streamproc.sink.writer import Writer
from streamproc.store.sqlite.store import SqliteStore
from tests.store.builders import chunk, single


class Bench:
    """A writer on a file, and what it sends to the dead-letter topic."""

    def __init__(self, path: Path, store: SqliteStore) -> None:
        self.path, self.store = path, store
        self.letters: list[DeadLetter] = []
        self.registry = Whole()
        #: The offset in the database when each dead letter was sent.
        self.offsets: list[int | None] = []
        self.pauses: list[float] = []

    def writer(self, batch_rows: int = 1_000, batch_bytes: int = 1_000_000) -> Writer:
        """A writer that has not asked for its positions yet."""
        settings = Settings.model_validate({"sink_batch_rows": batch_rows, "sink_batch_bytes": batch_bytes})
        return Writer(self.store, settings, self._keep, self.registry, self._pause)

    async def _keep(self, letters: list[DeadLetter]) -> None:
        found = self.rows("SELECT next_offset FROM stream_offsets")
        self.offsets += [found[0][0] if found else None] * len(letters)
        self.letters += letters

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await self.while_away()

    async def while_away(self) -> None:
        """What a test does when the writer waits for the database; without that it would wait for ever."""
        raise AssertionError("the writer waits, and the test did not expect it")

    def connect(self) -> sqlite3.Connection:
        """Another way into the file, which commits each statement."""
        return sqlite3.connect(self.path, isolation_level=None)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a query gives."""
        with closing(self.connect()) as connection:
            return connection.execute(query).fetchall()

    def refuse(self, when: str) -> None:
        """Make the database refuse readings for which this is true."""
        self.rows(
            f"CREATE TRIGGER refuse BEFORE INSERT ON sensor_readings WHEN {when}"
            " BEGIN SELECT RAISE(ABORT, 'this reading is not wanted'); END"
        )


def singles(first: int, count: int, sensor: str = "a") -> Chunk:
    """Records with offsets from `first` on, each a reading whose value is its offset."""
    values = [single(sensor, float(i), i) for i in range(first, first + count)]
    return chunk(values, first_offset=first)
