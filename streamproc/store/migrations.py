"""The numbered scripts in `sql/<database>/`: each is applied once, in order, and never changed afterwards."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from streamproc.errors import StoreError

_NAME = re.compile(r"(\d{4})_\w+\.sql")
_PACKAGE = Path(__file__).parents[1]

_LEDGER = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version INTEGER PRIMARY KEY,
    checksum TEXT NOT NULL,
    applied_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
)"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One script; `checksum` is the SHA-256 of its text."""

    version: int
    text: str

    @property
    def checksum(self) -> str:
        """What tells whether a script was changed after it was applied."""
        return sha256(self.text.encode()).hexdigest()


def scripts(database: str) -> list[Migration]:
    """The migrations of a kind of database, in order; raises StoreError where some are missing."""
    # A wheel has them inside the package, a work tree beside it.
    folders = [folder for folder in (_PACKAGE / "sql", _PACKAGE.parent / "sql") if folder.is_dir()]
    paths = sorted((folders[0] / database).glob("*.sql")) if folders else []
    found = [
        Migration(int(match[1]), path.read_text("utf-8"))
        for path in paths
        if (match := _NAME.fullmatch(path.name))
    ]
    if [script.version for script in found] != list(range(1, len(paths) + 1)) or not found:
        raise StoreError(
            f"the migrations of {database} are missing or misnumbered: {[p.name for p in paths]}"
        )
    return found


def pending(connection: sqlite3.Connection, wanted: list[Migration]) -> list[Migration]:
    """Those not applied yet; raises StoreError where the database is newer, or a script was changed since."""
    known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'schema_migrations'").fetchone()
    query = "SELECT version, checksum FROM schema_migrations"
    applied: dict[int, str] = dict(connection.execute(query)) if known else {}
    for version, checksum in applied.items():
        if version > len(wanted):
            raise StoreError(f"the database has schema {version}; this program knows up to {len(wanted)}")
        if wanted[version - 1].checksum != checksum:
            raise StoreError(f"migration {version} is not the one that was applied to the database")
    return [script for script in wanted if script.version not in applied]


def migrate(connection: sqlite3.Connection, wanted: list[Migration]) -> None:
    """Apply what is pending, in one transaction, once among all processes; `connection` autocommits."""
    if not pending(connection, wanted):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(_LEDGER)
        for script in pending(connection, wanted):  # asked again, now that nobody else can apply them
            for statement in statements(script.text):
                connection.execute(statement)
            connection.execute(
                "INSERT INTO schema_migrations (version, checksum) VALUES (?, ?)",
                (script.version, script.checksum),
            )
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def statements(text: str) -> Iterator[str]:
    r"""The statements of a script; `executescript` would commit the transaction that they must share.

    >>> list(statements("SELECT 1;\nSELECT ';';"))
    ['SELECT 1;', "SELECT ';';"]
    """
    statement = ""
    for piece in re.split(r"(?<=;)(?=\s*\n|\s*$)", text):
        statement += piece
        if sqlite3.complete_statement(statement):
            yield statement.strip()
            statement = ""
    if statement.strip():
        yield statement.strip()
