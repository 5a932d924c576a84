"""How one row in the database differs from the replay's, with its lineage."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np

from streamproc.store.comparison import Extra
from streamproc.store.protocol import Columns, EventColumns, NotificationColumns
from streamproc.store.stamps import iso

Kind = Literal["missing", "different", "extra", "refused"]
#: Columns of an extra row that its numbers in the database, or the lineage, tell already.
_LEFT_OUT = {
    "id",
    "sensor_id",
    "payload",
    "kafka_partition",
    "kafka_offset",
    "kafka_landmark",
    "reading_key",
    "dedupe_ms",
}
#: Columns that hold times in ms.
_TIMES = {"ts", "received", "made_at", "target", "start"}
#: Columns of given rows that say nothing of the row itself, or are told by the lineage.
_PLACES = {
    "sensor",
    "device",
    "partition",
    "offset",
    "dedupe_ms",
    "key",
    "source_partition",
    "first_offset",
    "last_offset",
}


class Difference(msgspec.Struct, frozen=True):
    """One row that is missing in the database, different there, or extra, or that is missing since the database refused it.

    `row` is the row as the replay gives it, or an extra one as it is there; `columns` maps those that differ to
    [the database's value, the replay's]. `lineage` says which records, window, rule and versions it was made of; that of a
    refused row has the place of its letter on `dead-letter`, too.
    """

    table: str
    kind: Kind
    sensor: str
    row: dict[str, Any]
    columns: dict[str, tuple[Any, Any]]
    lineage: dict[str, Any]


def given(rows: Columns, index: int) -> dict[str, Any]:
    """A row that the replay gives, as plain values."""
    if isinstance(rows, EventColumns):
        event = msgspec.to_builtins(rows.event[index])
        names = ("event_id", "previous", "cause", "value", "explanation")
        told = {name: event[name] for name in names} | {"severity": rows.event[index].severity.name}
        return told | {"previous": rows.event[index].previous.name, "at": _iso(event["at"])}
    if isinstance(rows, NotificationColumns):
        note = rows.notification[index]
        told = {"notification_id": note.notification_id, "event_id": note.event_id, "title": note.title}
        return told | {"severity": note.severity.name, "at": _iso(note.at)}
    row = {}
    for name in type(rows).__slots__:
        if name not in _PLACES:
            value = getattr(rows, name)[index]
            plain = value.item() if isinstance(value, np.generic) else value
            row[name] = _iso(plain) if name in _TIMES else plain
    return row


def standing(extra: Extra) -> tuple[dict[str, Any], dict[str, Any]]:
    """An extra row as it stands in the database, and what it says of its lineage."""
    row = {name: value for name, value in extra.row.items() if name not in _LEFT_OUT and value is not None}
    if payload := extra.row.get("payload"):
        return row, msgspec.json.decode(str(payload)).get("lineage", {})
    if "kafka_partition" in extra.row:
        first, last = ("first_offset", "last_offset") if "last_offset" in row else ("kafka_offset",) * 2
        return row, {
            "partition": extra.row["kafka_partition"],
            "first_offset": extra.row[first],
            "last_offset": extra.row[last],
        }
    return row, {}


def _iso(ms: int) -> str:
    return iso(np.array([ms], dtype=np.int64))[0]
