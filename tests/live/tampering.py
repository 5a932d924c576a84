"""A replay's tables as somebody else may have changed them, in words that every database takes."""

# ruff: noqa: S608  # what is put into statements are numbers, times and names of these tests' own

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from tests.live.pipeline import select
from tests.live.processes import Site

#: The tables that a replay writes, and what is compared of each beside its number: that of a row written again is another.
TABLES = {
    "sensor_readings": "*",
    "predictions": "*",
    "ml_events": "*",
    "alert_notifications": "id, notification_id, source_event_id, sensor_id, severity, title, message, is_read, created_at",
    "sensor_windows": "*",
    "stream_offsets": "*",
}
#: How many differences there are of each kind, by table, once a database was tampered with.
DIFFERENCES = Counter(
    {
        ("readings", "missing"): 1,
        ("readings", "different"): 1,
        ("predictions", "missing"): 1,
        ("predictions", "different"): 1,
        ("predictions", "extra"): 1,
        ("events", "missing"): 1,
        ("events", "different"): 1,
        ("events", "extra"): 1,
        ("notifications", "missing"): 1,
        ("windows", "missing"): 1,
        ("windows", "different"): 1,
        ("windows", "extra"): 1,
    }
)


def content(site: Site) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of the tables that a replay writes."""
    return {table: select(site, f"SELECT {columns} FROM {table}") for table, columns in TABLES.items()}


def unnumbered(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows without their numbers, in an order of their own."""
    return sorted((row[1:] for row in rows), key=repr)


def run(site: Site, *statements: str) -> None:
    """Run and commit statements on the site's database, as somebody else would."""
    for statement in statements:
        site.held.execute(statement)


def tamper(site: Site) -> tuple[int, int]:
    """Delete, change and add a row of each table that allows for it; the place of the reading that was deleted.

    The differences are then DIFFERENCES.
    """
    reading, other = _numbers(site, "sensor_readings")[9:11]
    prediction, changed, copied = _numbers(site, "predictions")[4:7]
    event, lost = _numbers(site, "ml_events")[:2]
    notification = _numbers(site, "alert_notifications")[0]
    (place,) = select(site, f"SELECT kafka_partition, kafka_offset FROM sensor_readings WHERE id = {reading}")
    run(
        site,
        f"DELETE FROM sensor_readings WHERE id = {reading}",
        f"UPDATE sensor_readings SET value = value + 1 WHERE id = {other}",
        f"DELETE FROM predictions WHERE id = {prediction}",
        f"UPDATE predictions SET anomaly_score = 0.123 WHERE id = {changed}",
        _copied_prediction(site, copied),
        f"UPDATE ml_events SET message = 'all is well' WHERE id = {event}",
        "INSERT INTO ml_events (event_id, sensor_id, event_type, event_code, title, message, severity, status, created_at,"
        " payload) SELECT 'added', sensor_id, event_type, event_code, title, message, severity, 'resolved', created_at,"
        f" payload FROM ml_events WHERE id = {lost}",
        f"DELETE FROM ml_events WHERE id = {lost}",
        f"DELETE FROM alert_notifications WHERE id = {notification}",
        *_windows(site),
    )
    return place


def copied_reading(site: Site) -> str:
    """A statement that adds a reading, of a record that gives another."""
    number = _numbers(site, "sensor_readings")[29]
    return (
        "INSERT INTO sensor_readings (sensor_id, value, dedupe_ms, reading_key, kafka_partition, kafka_offset)"
        f" SELECT sensor_id, 1.5, dedupe_ms, 4711, kafka_partition, kafka_offset FROM sensor_readings WHERE id = {number}"
    )


def _numbers(site: Site, table: str) -> list[int]:
    """A table's rows by number; there are gaps where a transaction was undone."""
    return [number for (number,) in select(site, f"SELECT id FROM {table}")]


def _copied_prediction(site: Site, number: int) -> str:
    """A prediction of half a second earlier."""
    ((target,),) = select(site, f"SELECT target_timestamp FROM predictions WHERE id = {number}")
    return (
        "INSERT INTO predictions (model_id, sensor_id, predicted_value, confidence, predicted_at, target_timestamp)"
        f" SELECT model_id, sensor_id, 1.5, 1, predicted_at, '{_moved(target, -0.5)}' FROM predictions WHERE id = {number}"
    )


def _windows(site: Site) -> list[str]:
    """Statements that delete a window, change another, and add one where there is none."""
    found = select(site, "SELECT sensor_id, window_start FROM sensor_windows WHERE size_ms = 5000")
    one, two, three = (
        f"WHERE size_ms = 5000 AND sensor_id = {sensor} AND window_start = '{start}'"
        for sensor, start in found[1:4]
    )
    columns = "[count], mean, [min], [max], deviation, [first], [last], trend, first_offset, last_offset, kafka_partition"
    return [
        f"DELETE FROM sensor_windows {one}",
        f"UPDATE sensor_windows SET mean = mean + 1 {two}",
        (
            f"INSERT INTO sensor_windows (sensor_id, size_ms, window_start, {columns})"
            f" SELECT sensor_id, 5000, '{_moved(found[3][1], 1)}', {columns} FROM sensor_windows {three}"
        ),
    ]


def _moved(stamp: str, seconds: float) -> str:
    moved = datetime.fromisoformat(stamp) + timedelta(seconds=seconds)
    return moved.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moved.microsecond // 1000:03d}Z"
