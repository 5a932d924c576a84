"""Documents of the registry in SQL Server, inside a transaction of the caller's."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from streamproc.store.document_rows import DOCUMENT, document_values, documents_of
from streamproc.store.documents import DocumentEntry
from streamproc.store.edits import Kind, Plan, Registered, Row, Standing, registered
from streamproc.store.sqlserver.forms import CODE, INT, TEXT, batched, given, text_of
from streamproc.store.sqlserver.sensors import EXACT

_KEY = {"kind": CODE, "name": CODE}
_ROW = {"kind": CODE, "name": CODE, "body": TEXT, "version": INT, "is_active": INT}
_ALL = f"SELECT {', '.join(f'd.[{name}]' for name in DOCUMENT)} FROM dbo.registry_documents d"
_THESE = f"JOIN {given(_KEY)} g ON d.kind = g.kind {EXACT} AND d.name = g.name {EXACT}"
_DROP = f"DELETE d FROM dbo.registry_documents d {_THESE}"
_ADD = (
    f"INSERT INTO dbo.registry_documents ({', '.join(f'[{name}]' for name in DOCUMENT)})"
    f" SELECT {', '.join(f'g.[{name}]' for name in DOCUMENT)} FROM {given(_ROW)} g"
)
#: Documents in a statement: some hundred bytes each.
_AT_ONCE = 1_000


async def documents(
    cursor: Any, only: Collection[tuple[Kind, str]] | None = None
) -> dict[Kind, dict[str, Row[DocumentEntry]]]:
    """All documents by kind and name, or these."""
    found: list[tuple[Any, ...]] = []
    if only is None:
        await cursor.execute(_ALL)
        return documents_of(map(tuple, await cursor.fetchall()))
    for part in batched(sorted(only), _AT_ONCE):
        await cursor.execute(f"{_ALL} {_THESE}", text_of(part))
        found += map(tuple, await cursor.fetchall())
    return documents_of(found)


async def registered_documents(cursor: Any) -> Registered:
    """All documents by their key on the topic."""
    return registered(Standing(documents=await documents(cursor)))


async def write(cursor: Any, plan: Plan) -> None:
    """Have the table hold the plan's documents, and not those that it drops."""
    made = [document_values(row) for row in plan.documents]
    for keys in batched([*plan.dropped, *(values[:2] for values in made)], _AT_ONCE):
        await cursor.execute(_DROP, text_of(keys))
    for part in batched(made, _AT_ONCE):
        await cursor.execute(_ADD, text_of(part))
