"""Writes a batch's rows to SQLite, inside a transaction of the caller's.

Only a conflict of identity is passed over, never another fault: hence ON CONFLICT (…), not INSERT OR
IGNORE, which would silently drop a row that breaks any rule.
"""

from __future__ import annotations

import sqlite3

from streamproc.errors import StaleOwner
from streamproc.store.columns import (
    event_rows,
    model_metadata,
    model_row,
    notification_rows,
    prediction_columns,
    reading_columns,
    trial_rows,
    window_columns,
)
from streamproc.store.protocol import (
    Batch,
    EventColumns,
    NotificationColumns,
    Place,
    PredictionColumns,
    Reached,
    ReadingColumns,
    TrialColumns,
    WindowColumns,
    Written,
)
from streamproc.store.sqlite.sensors import Sensors

INSERT_READING = (
    "INSERT INTO sensor_readings (sensor_id, value, device_timestamp, timestamp, dedupe_ms, reading_key,"
    " kafka_partition, kafka_offset) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_ONCE_READING = f"{INSERT_READING} ON CONFLICT (dedupe_ms, reading_key) DO NOTHING"
INSERT_PREDICTION = (
    "INSERT INTO predictions (sensor_id, model_id, predicted_value, confidence, predicted_at,"
    " target_timestamp, is_anomaly, anomaly_score, lower, upper) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_ONCE_PREDICTION = (
    f"{INSERT_PREDICTION} ON CONFLICT (sensor_id, target_timestamp, model_id, predicted_at) DO NOTHING"
)
# An event that comes after its sensor's next one, such as one that was refused at first, is over already. Events of other
# types are other programs': they end none of these, and are ended by none.
INSERT_EVENT = (
    "INSERT INTO ml_events (event_id, sensor_id, device_id, event_type, event_code, title, message,"
    " recommended_action, severity, previous_severity, status, created_at, payload)"
    " VALUES (?1, ?2, (SELECT device_id FROM sensors WHERE id = ?2),"
    " ?3, ?4, ?5, ?6, ?7, ?8, ?9,"
    " CASE WHEN EXISTS (SELECT 1 FROM ml_events WHERE sensor_id = ?2 AND created_at > ?11"
    " AND event_type = 'severity_change' AND status <> 'superseded')"
    " THEN 'resolved' ELSE ?10 END, ?11, ?12)"
)
_ONCE_EVENT = f"{INSERT_EVENT} ON CONFLICT (event_id) DO NOTHING"
# The event that ends a state; `id` tells which came first where two have the same time. One that a replay has withdrawn ends
# none, though the sink reads it again.
_RESOLVE = (
    "UPDATE ml_events SET status = 'resolved' WHERE sensor_id = ? AND status = 'active' AND created_at <= ?"
    " AND event_type = 'severity_change'"
    " AND id < (SELECT id FROM ml_events WHERE event_id = ? AND status <> 'superseded')"
)
INSERT_NOTIFICATION = (
    "INSERT INTO alert_notifications (notification_id, source, source_event_id, sensor_id, severity, title,"
    " message, created_at) VALUES (?, 'ml_event', ?, ?, ?, ?, ?, ?)"
)
_ONCE_NOTIFICATION = f"{INSERT_NOTIFICATION} ON CONFLICT (notification_id) DO NOTHING"
INSERT_WINDOW = (
    "INSERT INTO sensor_windows (sensor_id, size_ms, window_start, count, mean, min, max, deviation, first, last,"
    " trend, first_offset, last_offset, kafka_partition) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_ONCE_WINDOW = f"{INSERT_WINDOW} ON CONFLICT (window_start, size_ms, sensor_id) DO NOTHING"
_ONCE_MODEL = (
    "INSERT INTO ml_models (name, version, metadata) VALUES (?, ?, ?) ON CONFLICT (name, version) DO NOTHING"
)
# Of a model's versions the highest: a worker of an older one may go on for a while beside it.
_ACTIVE_MODEL = (
    "UPDATE ml_models SET is_active = CAST(version AS INTEGER) ="
    " (SELECT max(CAST(version AS INTEGER)) FROM ml_models WHERE name = ?) WHERE name = ?"
)

INSERT_TRIAL = (
    "INSERT INTO trial_events (event_id, trial, trial_version, begun_at, sensor_id, severity, previous_severity, cause,"
    " message, created_at, payload) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_ONCE_TRIAL = f"{INSERT_TRIAL} ON CONFLICT (event_id) DO NOTHING"


def reached(connection: sqlite3.Connection, group: str) -> dict[Place, Reached]:
    """The next offset of each partition that the group has written, and the registry's position there."""
    query = (
        'SELECT topic, "partition", next_offset, COALESCE(registry_position, -1) FROM stream_offsets'
        " WHERE consumer_group = ?"
    )
    return {
        (topic, partition): Reached(*told) for topic, partition, *told in connection.execute(query, (group,))
    }


def advance(connection: sqlite3.Connection, batch: Batch) -> None:
    """Move the offsets on; raises StaleOwner where one is not what the batch expects."""
    for (topic, partition), (expected, following) in batch.offsets.items():
        judged_by = batch.registry.get((topic, partition))
        if expected is None:
            moved = connection.execute(
                'INSERT INTO stream_offsets (consumer_group, topic, "partition", next_offset, registry_position)'
                ' VALUES (?, ?, ?, ?, ?) ON CONFLICT (consumer_group, topic, "partition") DO NOTHING',
                (batch.group, topic, partition, following, judged_by),
            )
        else:
            moved = connection.execute(
                "UPDATE stream_offsets SET next_offset = ?, registry_position = ?"
                ' WHERE consumer_group = ? AND topic = ? AND "partition" = ? AND next_offset = ?',
                (following, judged_by, batch.group, topic, partition, expected),
            )
        if moved.rowcount != 1:
            raise StaleOwner(f"{topic}/{partition}: the database does not hold {expected} as its next offset")


def write(connection: sqlite3.Connection, batch: Batch, sensors: Sensors, models: dict[str, int]) -> Written:
    """Insert the rows that are not there yet."""
    ids = sensors.resolve(connection, batch)
    return Written(
        readings=_readings(connection, batch.readings, ids),
        predictions=_predictions(connection, batch.predictions, ids, models),
        events=_events(connection, batch.events, ids),
        notifications=_notifications(connection, batch.notifications, ids),
        windows=_windows(connection, batch.windows, ids),
        trial_events=_trial_events(connection, batch.trial_events, ids),
    )


def _readings(connection: sqlite3.Connection, rows: ReadingColumns, ids: dict[str, int]) -> int:
    if not len(rows):
        return 0
    return connection.executemany(_ONCE_READING, zip(*reading_columns(rows, ids), strict=True)).rowcount


def _predictions(
    connection: sqlite3.Connection, rows: PredictionColumns, ids: dict[str, int], models: dict[str, int]
) -> int:
    if not len(rows):
        return 0
    for model in set(rows.model) - models.keys():
        models[model] = model_id(connection, model)
    columns = prediction_columns(rows, ids, models)
    return connection.executemany(_ONCE_PREDICTION, zip(*columns, strict=True)).rowcount


def model_id(connection: sqlite3.Connection, model: str) -> int:
    """The model's id in `ml_models`, where it gets a row if it has none."""
    row = model_row(model)
    new = connection.execute(_ONCE_MODEL, (*row, model_metadata(model))).rowcount
    if new:
        connection.execute(_ACTIVE_MODEL, row[:1] * 2)
    number: int
    (number,) = connection.execute("SELECT id FROM ml_models WHERE name = ? AND version = ?", row).fetchone()
    return number


def _events(connection: sqlite3.Connection, rows: EventColumns, ids: dict[str, int]) -> int:
    if not len(rows):
        return 0
    made = event_rows(rows, ids)
    inserted = connection.executemany(_ONCE_EVENT, made).rowcount
    connection.executemany(_RESOLVE, ((row[1], row[10], row[0]) for row in made))
    return inserted


def _notifications(connection: sqlite3.Connection, rows: NotificationColumns, ids: dict[str, int]) -> int:
    if not len(rows):
        return 0
    return connection.executemany(_ONCE_NOTIFICATION, notification_rows(rows, ids)).rowcount


def _windows(connection: sqlite3.Connection, rows: WindowColumns, ids: dict[str, int]) -> int:
    if not len(rows):
        return 0
    return connection.executemany(_ONCE_WINDOW, zip(*window_columns(rows, ids), strict=True)).rowcount


def _trial_events(connection: sqlite3.Connection, rows: TrialColumns, ids: dict[str, int]) -> int:
    if not len(rows):
        return 0
    return connection.executemany(_ONCE_TRIAL, trial_rows(rows, ids)).rowcount
