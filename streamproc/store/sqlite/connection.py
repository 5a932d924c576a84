"""Opens a connection to a SQLite file, with the settings that all of the store's share."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from time import monotonic, sleep

#: How long a call waits in SQLite for another writer before the caller is told. A registry edit takes
#: milliseconds.
BUSY_MS = 1_000
#: How long another's turn is let be before the log is asked for again.
_LOG_PAUSE_S = 0.01

# WAL lets people read while the sink writes. NORMAL: after a power cut the last transactions may be gone,
# but each as a whole, its offsets with its rows, and Kafka gives the records again; a commit costs no
# fsync.
# A batch changes the last page of an index for each sensor and size of window: 3,000 of 4 KB for 1,000 sensors.
# 32 MiB hold those; with SQLite's own 2 MB the sink writes a third fewer windows.
_PRAGMAS = (
    "synchronous = NORMAL",
    "foreign_keys = ON",
    "temp_store = MEMORY",
    "cache_size = -32768",
)


def connection(path: Path, busy_ms: int = BUSY_MS) -> sqlite3.Connection:
    """A connection as the store has it; it commits where it is told to. The folder is made where missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    opened = sqlite3.connect(path, timeout=busy_ms / 1000, isolation_level=None)
    try:
        _keep_log(opened, busy_ms)
        for pragma in _PRAGMAS:
            opened.execute(f"PRAGMA {pragma}")
        # SQLite's own lower() knows the letters of ASCII alone.
        opened.create_function("unicode_lower", 1, str.lower, deterministic=True)
    except BaseException:
        opened.close()
        raise
    return opened


def _keep_log(opened: sqlite3.Connection, busy_ms: int) -> None:
    """Turn WAL on: SQLite itself waits for nobody who writes to a file that has none yet, be it to turn it on, too."""
    until = monotonic() + busy_ms / 1000
    while True:
        try:
            opened.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or monotonic() >= until:
                raise
            sleep(_LOG_PAUSE_S)
        else:
            return
