"""A replay's progress in a file: what is done, counted and found, all as of one moment.

The file is SQLite's, so that a kill leaves the last save whole: state, counters, differences and seen rows belong together.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from streamproc.core.checkpoint import Snapshot
from streamproc.errors import ReplayError, why
from streamproc.replay.differences import Difference

FILE = "progress.db"
#: Differences kept one by one: half a gigabyte. Beyond they are counted.
DETAILS = 1_000_000

_TABLES = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS state (number INTEGER PRIMARY KEY, block BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS counts ("table" TEXT, kind TEXT, count INTEGER NOT NULL, PRIMARY KEY ("table", kind));
CREATE TABLE IF NOT EXISTS differences (id INTEGER PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS seen ("table" TEXT, page INTEGER, bits BLOB NOT NULL, PRIMARY KEY ("table", page));
CREATE TABLE IF NOT EXISTS closed (
    "partition" INTEGER, sensor TEXT, low INTEGER, high INTEGER, newest INTEGER, PRIMARY KEY ("partition", sensor)
);
"""
#: The number that the head of a state has among its blocks.
_HEAD = -1


class Journal:
    """The progress of one replay; nothing lasts until `commit`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(
                folder / FILE, timeout=0, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as error:
            raise ReplayError(
                f"no progress can be kept in {folder}: {why(error)}; set STREAMPROC_DATA_DIR to another"
            ) from error
        try:
            # One process has it, from here to the end; whatever ends the process lets go of it.
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("BEGIN EXCLUSIVE")
            for statement in _TABLES.strip().split(";\n"):
                self._db.execute(statement)
            self.commit()
        except sqlite3.OperationalError as error:
            self._db.close()
            raise ReplayError(f"this replay is running already ({folder}: {error})") from error
        self._details = int(self._db.execute("SELECT count(*) FROM differences").fetchone()[0])

    def commit(self) -> None:
        """Make all since the last time last."""
        self._db.execute("COMMIT")
        self._db.execute("BEGIN")

    def close(self) -> None:
        """Let go of the file; what was not committed is as if it had not been."""
        self._db.close()

    def remove(self) -> None:
        """Let go of the file, and delete it."""
        self.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def fact(self, name: str) -> Any:
        """What was put under this name, None if nothing was."""
        row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else msgspec.json.decode(row[0])

    def put(self, name: str, value: object) -> None:
        """Put a value under a name."""
        self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, msgspec.json.encode(value)))

    def save(self, partition: int, snapshot: Snapshot) -> None:
        """Put the state of the partition that is under way."""
        self._db.execute("DELETE FROM state")
        parts = {_HEAD: snapshot.head, **snapshot.blocks}
        self._db.executemany("INSERT INTO state VALUES (?, ?)", parts.items())
        self.put("under way", (partition, snapshot.next_offset))

    def state(self, partition: int) -> Snapshot | None:
        """The partition's state, if it is the one under way."""
        saved, next_offset = self.fact("under way") or (None, 0)
        if saved != partition:
            return None
        blocks = dict(self._db.execute("SELECT number, block FROM state"))
        return Snapshot(next_offset, blocks.pop(_HEAD), blocks)

    def count(self, table: str, kind: str, more: int) -> None:
        """Count so many more."""
        if more:
            self._db.execute(
                "INSERT INTO counts VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
                (table, kind, more),
            )

    def counts(self) -> dict[str, dict[str, int]]:
        """What was counted: table to kind to number."""
        found: dict[str, dict[str, int]] = {}
        for table, kind, count in self._db.execute("SELECT * FROM counts"):
            found.setdefault(table, {})[kind] = count
        return found

    def add(self, difference: Difference) -> None:
        """Count a difference, and keep it while there is room."""
        self.count(difference.table, difference.kind, 1)
        if self._details < DETAILS:
            self._details += 1
            self._db.execute("INSERT INTO differences (value) VALUES (?)", (msgspec.json.encode(difference),))

    def differences(self) -> Iterator[bytes]:
        """The differences that were kept, as JSON, in the order that they were found in."""
        for (value,) in self._db.execute("SELECT value FROM differences ORDER BY id"):
            yield value

    def page(self, table: str, number: int) -> bytes | None:
        """A page of the rows that were seen."""
        query = 'SELECT bits FROM seen WHERE "table" = ? AND page = ?'
        row = self._db.execute(query, (table, number)).fetchone()
        return row and bytes(row[0])

    def keep(self, table: str, number: int, bits: bytes) -> None:
        """Keep a page of the rows that were seen."""
        self._db.execute("INSERT OR REPLACE INTO seen VALUES (?, ?, ?)", (table, number, bits))

    def begin(self, partition: int, closed: dict[str, tuple[int, int]]) -> None:
        """Keep up to where the sensors' windows are closed before the range."""
        rows = ((partition, sensor, low, low, low) for sensor, (low, _) in closed.items())
        self._db.executemany("INSERT OR REPLACE INTO closed VALUES (?, ?, ?, ?, ?)", rows)

    def end(self, partition: int, closed: dict[str, tuple[int, int]], *, cold: bool) -> None:
        """Keep up to where they are closed after it. Sensors that are new count from the first time, unless it is `cold`."""
        update = 'UPDATE closed SET high = ?, newest = ? WHERE "partition" = ? AND sensor = ?'
        self._db.executemany(
            update, ((high, newest, partition, name) for name, (high, newest) in closed.items())
        )
        if not cold:
            rows = ((partition, sensor, 0, high, newest) for sensor, (high, newest) in closed.items())
            self._db.executemany("INSERT OR IGNORE INTO closed VALUES (?, ?, ?, ?, ?)", rows)

    def closed(self, partition: int) -> dict[str, tuple[int, int, int]]:
        """From and up to where each sensor's windows closed in the range, and its newest `ts`, in ms."""
        query = 'SELECT sensor, low, high, newest FROM closed WHERE "partition" = ?'
        return {
            name: (low, high, newest) for name, low, high, newest in self._db.execute(query, (partition,))
        }

    def restart(self, phase: str) -> None:
        """Forget all but the spans, and go over to another phase."""
        for table in ("state", "counts", "differences", "seen", "closed"):
            self._db.execute(f"DELETE FROM {table}")  # noqa: S608  # names above
        self._db.execute("DELETE FROM facts WHERE name <> 'spans'")
        self._details = 0
        self.put("phase", phase)
        self.commit()
