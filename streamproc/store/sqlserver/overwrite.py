"""Writes a replay's rows over those in SQL Server, inside a transaction of the caller's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from streamproc.store.protocol import Batch, Columns
from streamproc.store.sqlserver.forms import BIGINT, CODE, INT, TIME, Form, Ids, forms, given, naive, text_of
from streamproc.store.sqlserver.rows import ALERTS, add_models, insert, refer, settle
from streamproc.store.sqlserver.sensors import Sensors
from streamproc.store.window_numbers import window_keys

_END = (
    "UPDATE dbo.ml_events SET status = N'resolved' WHERE status = 'active' AND event_type = N'severity_change'"
    f" AND sensor_id IN (SELECT sensor_id FROM {given({'sensor_id': BIGINT})})"
)
# The last of the events that stand tells the state; of two at once the one of the later records. One that another program
# has acknowledged counts, and stays as it is. Only those of the last time are put in order: a sensor may have any number.
_ACTIVATE = (
    "UPDATE dbo.ml_events SET status = CASE WHEN severity <> N'NORMAL' THEN N'active' ELSE N'resolved' END"
    " WHERE status <> N'acknowledged' AND id IN"
    " (SELECT id FROM (SELECT e.id, ROW_NUMBER() OVER (PARTITION BY e.sensor_id ORDER BY"
    " CAST(JSON_VALUE(e.payload, '$.lineage.last_offset') AS BIGINT) DESC, e.id DESC) AS place"
    f" FROM {given({'sensor_id': BIGINT})} g JOIN dbo.ml_events e ON e.sensor_id = g.sensor_id AND e.created_at ="
    " (SELECT TOP (1) l.created_at FROM dbo.ml_events l WHERE l.sensor_id = g.sensor_id"
    " AND l.event_type = N'severity_change' AND l.status <> N'superseded' ORDER BY l.created_at DESC)"
    " WHERE e.event_type = N'severity_change' AND e.status <> N'superseded') standing WHERE place = 1)"
)
# An event that is written again has another number: its notifications are to name that one.
_UNREFER = (
    "UPDATE dbo.alert_notifications SET source_event_id = NULL WHERE source = N'ml_event'"
    f" AND event_id IN (SELECT event_id FROM {given({'event_id': CODE})})"
)
_WITHDRAWN = (
    f"SELECT e.sensor_id, e.event_id FROM {given({'id': BIGINT})} g JOIN dbo.ml_events e ON e.id = g.id"
)
# A prediction that an event refers to stays: it is part of that event's history.
_WITHDRAW = {
    "predictions": f"DELETE FROM dbo.predictions WHERE id IN (SELECT id FROM {given({'id': BIGINT})})"
    " AND NOT EXISTS (SELECT 1 FROM dbo.ml_events e WHERE e.prediction_id = dbo.predictions.id); SELECT @@ROWCOUNT",
    "events": "UPDATE dbo.ml_events SET status = N'superseded' WHERE status <> N'superseded'"
    f" AND id IN (SELECT id FROM {given({'id': BIGINT})}); SELECT @@ROWCOUNT",
}
_WITHDRAW_WINDOWS = (
    "DELETE w FROM dbo.sensor_windows w JOIN"
    f" {given({'sensor_id': BIGINT, 'size_ms': INT, 'window_start': TIME})} g"
    " ON w.sensor_id = g.sensor_id AND w.size_ms = g.size_ms AND w.window_start = g.window_start; SELECT @@ROWCOUNT"
)


async def overwrite(cursor: Any, batch: Batch, sensors: Sensors, models: Ids) -> None:
    """Make the database hold these rows as they are given."""
    ids = await sensors.resolve(cursor, batch)
    await add_models(cursor, batch, models)
    for form, rows in forms(batch):
        if len(rows):
            await _overwrite(cursor, form, rows, (ids, models))
    if len(batch.events):
        await settle(cursor, batch.events, ids)
        await _settle(cursor, {ids[sensor] for sensor in batch.events.sensor})
        await cursor.execute(_UNREFER, text_of([event.event_id] for event in batch.events.event))
    await refer(cursor, batch)


async def _overwrite(cursor: Any, form: Form, rows: Columns, known: tuple[Ids, Ids]) -> None:
    """Insert what is not there, and have every row that was there hold what is given."""
    values = form.values(rows, *known)
    if await insert(cursor, form, values) < len(rows):
        await cursor.executemany(form.update, [form.updated(row) for row in zip(*values, strict=True)])


async def withdraw(cursor: Any, name: str, numbers: Sequence[int]) -> int:
    """Withdraw rows that should not be there; returns how many. Readings and notifications are never withdrawn."""
    if name == "windows":
        return await _count(cursor, _WITHDRAW_WINDOWS, window_rows(numbers))
    if name not in _WITHDRAW:
        return 0
    rows = [[number] for number in numbers]
    taken = await _count(cursor, _WITHDRAW[name], rows)
    if name == "events":
        await cursor.execute(_WITHDRAWN, text_of(rows))
        found = await cursor.fetchall()
        await _settle(cursor, {sensor for sensor, _ in found})
        await cursor.execute(ALERTS, text_of([event] for _, event in found))
    return taken


async def _count(cursor: Any, statement: str, rows: Sequence[Sequence[object]]) -> int:
    await cursor.execute(statement, text_of(rows))
    count: int
    (count,) = await cursor.fetchone()
    return count


def window_rows(numbers: Sequence[int]) -> list[tuple[int, int, object]]:
    """The sensor's id, size and start of each window, as the table has them."""
    sensor_id, size_ms, start = window_keys(np.array(numbers, dtype=np.int64))
    return list(zip(sensor_id.tolist(), size_ms.tolist(), naive(start), strict=True))


async def _settle(cursor: Any, sensors: Iterable[int]) -> None:
    """Have the last standing event of each sensor tell its state, and no other be active."""
    text = text_of([number] for number in sorted(sensors))
    await cursor.execute(_END, text)
    await cursor.execute(_ACTIVATE, text)
