"""Documents of the registry in SQLite, inside a transaction of the caller's."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from streamproc.store.document_rows import DOCUMENT, document_values, documents_of
from streamproc.store.documents import DocumentEntry
from streamproc.store.edits import Kind, Plan, Registered, Row, Standing, registered

_ALL = f"SELECT {', '.join(DOCUMENT)} FROM registry_documents"  # noqa: S608  # constants
_ONE = f"{_ALL} WHERE kind = ? AND name = ?"
_DROP = "DELETE FROM registry_documents WHERE kind = ? AND name = ?"
_PUT = (
    f"REPLACE INTO registry_documents ({', '.join(DOCUMENT)}, updated_at)"  # noqa: S608  # constants
    f" VALUES ({', '.join('?' * len(DOCUMENT))}, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))"
)


def documents(
    connection: sqlite3.Connection, only: Collection[tuple[Kind, str]] | None = None
) -> dict[Kind, dict[str, Row[DocumentEntry]]]:
    """All documents by kind and name, or these."""
    if only is None:
        return documents_of(connection.execute(_ALL))
    return documents_of(row for key in sorted(only) for row in connection.execute(_ONE, key))


def registered_documents(connection: sqlite3.Connection) -> Registered:
    """All documents by their key on the topic."""
    return registered(Standing(documents=documents(connection)))


def write(connection: sqlite3.Connection, plan: Plan) -> None:
    """Have the table hold the plan's documents, and not those that it drops."""
    connection.executemany(_DROP, plan.dropped)
    connection.executemany(_PUT, map(document_values, plan.documents))
