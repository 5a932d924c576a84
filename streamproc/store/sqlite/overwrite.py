"""Writes a replay's rows over those in SQLite, inside a transaction of the caller's."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence

from streamproc.store.protocol import Batch
from streamproc.store.sqlite.forms import EVENTS, Ids, forms, window_parameters
from streamproc.store.sqlite.rows import model_id
from streamproc.store.sqlite.sensors import PARAMETERS, Sensors

# A prediction that an event refers to stays: it is part of that event's history.
_WITHDRAW = {
    "predictions": "DELETE FROM predictions WHERE id IN ({})"
    " AND NOT EXISTS (SELECT 1 FROM ml_events e WHERE e.prediction_id = predictions.id)",
    "events": "UPDATE ml_events SET status = 'superseded' WHERE id IN ({}) AND status <> 'superseded'",
}
# The last of the events that stand; of two at once the one of the later records. One that another program has acknowledged
# counts, and stays as it is.
_LAST = (
    "SELECT id FROM ml_events WHERE sensor_id = ? AND event_type = 'severity_change'"
    " AND status <> 'superseded'"
    " ORDER BY created_at DESC, json_extract(payload, '$.lineage.last_offset') DESC, id DESC LIMIT 1"
)
# Two statements, each by an index: one for both would look at all events of the sensor.
_END = (
    "UPDATE ml_events SET status = 'resolved' WHERE sensor_id = ? AND status = 'active'"
    " AND event_type = 'severity_change' AND id <> ?"
)
_STATE = (
    "UPDATE ml_events SET status = CASE WHEN severity <> 'NORMAL' THEN 'active' ELSE 'resolved' END"
    " WHERE id = ? AND status <> 'acknowledged'"
)


def overwrite(connection: sqlite3.Connection, batch: Batch, sensors: Sensors, models: Ids) -> None:
    """Make the database hold these rows as they are given."""
    ids = sensors.resolve(connection, batch)
    for name in set(batch.predictions.model) - models.keys():
        models[name] = model_id(connection, name)
    for form, rows in forms(batch):
        if len(rows):
            connection.executemany(form.overwrite, form.parameters(rows, ids, models))
            if form is EVENTS:
                _settle(connection, {ids[sensor] for sensor in rows.sensor})


def withdraw(connection: sqlite3.Connection, name: str, numbers: Sequence[int]) -> int:
    """Withdraw rows that should not be there; returns how many. Readings and notifications are never withdrawn."""
    if name == "windows":
        statement = "DELETE FROM sensor_windows WHERE sensor_id = ? AND size_ms = ? AND window_start = ?"
        return connection.executemany(statement, window_parameters(numbers)).rowcount
    if name not in _WITHDRAW:
        return 0
    taken = 0
    for part in _parts(numbers):
        places = ", ".join("?" * len(part))
        taken += connection.execute(_WITHDRAW[name].format(places), part).rowcount
        if name == "events":
            query = f"SELECT DISTINCT sensor_id FROM ml_events WHERE id IN ({places})"  # noqa: S608  # placeholders
            _settle(connection, [sensor for (sensor,) in connection.execute(query, part)])
    return taken


def _parts(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    for begin in range(0, len(numbers), PARAMETERS):
        yield numbers[begin : begin + PARAMETERS]


def _settle(connection: sqlite3.Connection, sensors: Iterable[int]) -> None:
    """Have the last standing event of each sensor tell its state, and no other be active."""
    for sensor in sensors:
        last = connection.execute(_LAST, (sensor,)).fetchone()
        if last is not None:
            connection.execute(_END, (sensor, *last))
            connection.execute(_STATE, last)
