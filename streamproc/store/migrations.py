"""The numbered scripts in `sql/<database>/`: each is applied once, in order, and never changed afterwards."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from streamproc.errors import StoreError

_NAME = re.compile(r"(\d{4})_\w+\.sql")
_ADDED_COLUMN = re.compile(r"^ALTER TABLE (\w+) ADD COLUMN (\w+)", re.MULTILINE)
_PACKAGE = Path(__file__).parents[1]

_LEDGER = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version INTEGER PRIMARY KEY,
    checksum TEXT NOT NULL,
    applied_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
)"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One script; `checksum` is the SHA-256 of its text, `name` its file's."""

    version: int
    text: str
    name: str = ""

    @property
    def checksum(self) -> str:
        """What tells whether a script was changed after it was applied."""
        return sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Applied:
    """A script that a database has; `at` is ISO 8601 in UTC, `name` is empty where the ledger has none."""

    version: int
    checksum: str
    at: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """The scripts of this program, in order, beside those that a database has; `foreign`: what else has the ledger's name."""

    wanted: tuple[Migration, ...]
    applied: tuple[Applied, ...]
    foreign: str | None = None

    @property
    def fault(self) -> str | None:
        """Why the database is not this program's to change: it is newer or another's, or a script was changed since."""
        if self.foreign is not None:
            return self.foreign
        for script in self.applied:
            if script.version > len(self.wanted):
                return (
                    f"the database has schema {script.version}; this program knows up to {len(self.wanted)}"
                )
            if self.wanted[script.version - 1].checksum != script.checksum:
                return f"migration {script.version} is not the one that was applied to the database"
        return None

    @property
    def pending(self) -> list[Migration]:
        """Those not applied yet; raises StoreError where there is a `fault`."""
        if self.fault is not None:
            raise StoreError(self.fault)
        known = {script.version for script in self.applied}
        return [script for script in self.wanted if script.version not in known]


def scripts(database: str) -> list[Migration]:
    """The migrations of a kind of database, in order; raises StoreError where some are missing."""
    # A wheel has them inside the package, a work tree beside it.
    folders = [folder for folder in (_PACKAGE / "sql", _PACKAGE.parent / "sql") if folder.is_dir()]
    paths = sorted((folders[0] / database).glob("*.sql")) if folders else []
    found = [
        Migration(int(match[1]), path.read_text("utf-8"), path.name)
        for path in paths
        if (match := _NAME.fullmatch(path.name))
    ]
    if [script.version for script in found] != list(range(1, len(paths) + 1)) or not found:
        raise StoreError(
            f"the migrations of {database} are missing or misnumbered: {[p.name for p in paths]}"
        )
    return found


def foreign(table: str, columns: Sequence[str], setting: str) -> str | None:
    """Why a table of the ledger's name is another tool's, by its columns, and what to do; None where it is none, or ours.

    >>> foreign("schema_migrations", ["version", "checksum", "applied_at"], "DB_NAME")
    """
    lacking = {"version", "checksum", "applied_at"} - {name.lower() for name in columns}
    if not columns or not lacking:
        return None
    return (
        f"the table {table} is not streamproc's: its columns are {', '.join(columns)}, without"
        f" {' and '.join(sorted(lacking))}. Other tools, such as Rails and golang-migrate, have one of that name: give"
        f" streamproc a database of its own ({setting}), or have that tool call its table otherwise"
    )


def status(connection: sqlite3.Connection, wanted: Sequence[Migration]) -> Status:
    """How the schema of a SQLite database stands."""
    columns = connection.execute("SELECT name FROM pragma_table_info('schema_migrations')").fetchall()
    told = foreign("schema_migrations", [name for (name,) in columns], "STREAMPROC_DATABASE")
    query = "SELECT version, checksum, applied_at FROM schema_migrations ORDER BY version"
    applied = connection.execute(query).fetchall() if columns and told is None else []
    return Status(tuple(wanted), tuple(Applied(*row) for row in applied), told)


def pending(connection: sqlite3.Connection, wanted: Sequence[Migration]) -> list[Migration]:
    """Those not applied yet; raises StoreError where the database is newer, or a script was changed since."""
    return status(connection, wanted).pending


def migrate(connection: sqlite3.Connection, wanted: Sequence[Migration]) -> list[Migration]:
    """Apply what is pending, in one transaction, once among all processes, and return it; `connection` autocommits."""
    if not pending(connection, wanted):
        return []
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(_LEDGER)
        due = pending(connection, wanted)  # asked again, now that nobody else can apply them
        for script in due:
            for statement in statements(script.text):
                if not _has_column(connection, statement):
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
    return due


def _has_column(connection: sqlite3.Connection, statement: str) -> bool:
    """Whether the statement adds a column that is there; SQLite has no `ADD COLUMN IF NOT EXISTS`."""
    added = _ADDED_COLUMN.search(statement)
    if added is None:
        return False
    query = "SELECT 1 FROM pragma_table_info(?) WHERE name = ?"
    return connection.execute(query, added.groups()).fetchone() is not None


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
