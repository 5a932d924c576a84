"""Documents of the registry as rows of `registry_documents`, with the columns named here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from streamproc.store.documents import FORMS, DocumentEntry, Unreadable, name_field
from streamproc.store.edits import Kind, Row, kind_of

#: The columns of a document; `body` is JSON, without name and version, which are columns.
DOCUMENT = ("kind", "name", "body", "version", "is_active")


def document_values(row: Row[DocumentEntry]) -> tuple[object, ...]:
    """The values of DOCUMENT.

    >>> from streamproc.records.alerting import PolicyEntry
    >>> document_values(Row(PolicyEntry("pump", down_windows=9, version=3)))
    ('policy', 'pump', '{"down_windows":9}', 3, 1)
    """
    entry = row.entry
    if isinstance(entry, Unreadable):
        return entry.kind, entry.name, entry.body, entry.version, int(row.registered)
    kind, name = kind_of(entry)
    body = msgspec.to_builtins(entry)
    body.pop(name_field(kind))
    body.pop("version", None)
    return kind, name, msgspec.json.encode(body).decode(), entry.version, int(row.registered)


def documents_of(rows: Iterable[Sequence[Any]]) -> dict[Kind, dict[str, Row[DocumentEntry]]]:
    """The documents of rows of DOCUMENT, by kind and name; rows of kinds that this version does not know are left out."""
    found: dict[Kind, dict[str, Row[DocumentEntry]]] = {}
    for kind, name, body, version, active in rows:
        if kind in FORMS:
            entry = _entry(kind, name, body, int(version))
            found.setdefault(kind, {})[name] = Row(entry, registered=bool(active))
    return found


def _entry(kind: str, name: str, body: str, version: int) -> DocumentEntry:
    try:
        fields = msgspec.json.decode(body)
        if not isinstance(fields, dict):
            return Unreadable(kind, name, body, "body is no JSON object", version)
        whole = {**fields, name_field(kind): name, "version": version}
        entry: DocumentEntry = msgspec.convert(whole, FORMS[kind])
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError) as error:
        return Unreadable(kind, name, body, str(error), version)
    return entry
