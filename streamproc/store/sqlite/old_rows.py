"""Deletes old rows from a SQLite file, a bounded number at a time: found first, since deleting makes the sink wait.

What stays however old it is, is the same as on SQL Server (docs/sqlserver-schema.md). Most tables are walked by id, from the
oldest: an index on the times of readings and predictions would cost the sink more than this saves. The walk ends at the first
stretch without an old row; rows that were added late wait until those around them are old, too.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import NamedTuple

#: Rows in a stretch, and so in a transaction at most: some hundredths of a second, in which the sink waits; it waits for a
#: second before it takes the database for away.
STRETCH = 2_000


class _Table(NamedTuple):
    """A table that is walked through: its name, its time, and what else must hold of an old row `o` for it to go."""

    name: str
    time: str
    condition: str = "TRUE"


# A change of severity `{0}` is over with its sensor's next one, also if another program has acknowledged it: no one else
# ends it. The last one tells the sensor's state.
_FOLLOWED = (
    "{0}.event_type = 'severity_change' AND EXISTS (SELECT 1 FROM ml_events l WHERE l.sensor_id = {0}.sensor_id"
    " AND l.event_type = 'severity_change' AND l.status <> 'superseded'"
    " AND (l.created_at > {0}.created_at OR l.created_at = {0}.created_at AND l.id > {0}.id))"
)
_WALKED = {
    "notifications": _Table(
        "alert_notifications",
        "created_at",
        "NOT EXISTS (SELECT 1 FROM ml_events e WHERE e.event_id = o.source_event_id AND (e.status = 'active'"  # noqa: S608  # the text above
        f" OR e.status = 'acknowledged' AND NOT ({_FOLLOWED.format('e')})))",
    ),
    "events": _Table(
        "ml_events",
        "created_at",
        "(o.status = 'superseded' OR o.status = 'resolved' AND o.event_type <> 'severity_change'"  # noqa: S608  # as above
        f" OR o.status IN ('resolved', 'acknowledged') AND {_FOLLOWED.format('o')})"
        " AND NOT EXISTS (SELECT 1 FROM alert_notifications n WHERE n.source_event_id = o.event_id)",
    ),
    "predictions": _Table(
        "predictions",
        "predicted_at",
        "NOT EXISTS (SELECT 1 FROM ml_events e WHERE e.prediction_id = o.id)",
    ),
    "readings": _Table("sensor_readings", "timestamp"),
    # The last line of an entry tells its version.
    "audit": _Table(
        "registry_audit",
        "at",
        "EXISTS (SELECT 1 FROM registry_audit l WHERE l.kind = o.kind AND l.name = o.name"
        " AND (l.version > o.version OR l.version = o.version AND l.id > o.id))",
    ),
    # The last by a schedule tells what was due and done.
    "job_runs": _Table(
        "job_runs",
        "began_at",
        "o.outcome <> 'running' AND EXISTS (SELECT 1 FROM job_runs l WHERE l.name = o.name AND l.id > o.id"
        " AND l.started_by = 'schedule')",
    ),
}
_OLD_WINDOWS = "SELECT window_start, size_ms, sensor_id FROM sensor_windows WHERE window_start < ? LIMIT ?"
#: The key has the time first.
_DELETE_WINDOWS = f"DELETE FROM sensor_windows WHERE (window_start, size_ms, sensor_id) IN ({_OLD_WINDOWS})"  # noqa: S608  # as above
#: A trial goes whole, once none of its rows is young.
_OVER = (
    "SELECT trial, trial_version, begun_at FROM trial_events"
    " GROUP BY trial, trial_version, begun_at HAVING MAX(created_at) < ? LIMIT 1"
)
_DELETE_TRIAL = (
    "DELETE FROM trial_events WHERE id IN"
    " (SELECT id FROM trial_events WHERE trial = ? AND trial_version = ? AND begun_at = ? LIMIT ?)"
)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Where old rows are: the statement that deletes those of them that may go, and where to look next."""

    statement: str
    values: tuple[str | int, ...]
    go_on: int


def find(opened: sqlite3.Connection, table: str, before: str, start: int) -> Stretch | None:
    """The next stretch of one of OLD_ROWS that has old rows, or None; `before` is a time as it is stored."""
    if table in _WALKED:
        return _walked(opened, table, before, start)
    if table == "windows":
        there = opened.execute(_OLD_WINDOWS, (before, 1)).fetchone()
        return Stretch(_DELETE_WINDOWS, (before, STRETCH), start) if there else None
    if table == "trial_events":
        over = opened.execute(_OVER, (before,)).fetchone()
        return over and Stretch(_DELETE_TRIAL, (*over, STRETCH), start)
    return None


def delete(opened: sqlite3.Connection, stretch: Stretch) -> int:
    """How many rows of it are deleted, inside a transaction that the caller begins and ends."""
    return opened.execute(stretch.statement, stretch.values).rowcount


def _walked(opened: sqlite3.Connection, table: str, before: str, start: int) -> Stretch | None:
    name, time, condition = _WALKED[table]
    # So many rows, and not ids: behind a young one most may have been deleted, and it would be alone in its stretch for ever.
    stretch = f"SELECT MIN(id), MAX(id) FROM (SELECT id FROM {name} WHERE id >= ? ORDER BY id LIMIT ?)"  # noqa: S608  # the names above
    first, last = opened.execute(stretch, (start, STRETCH)).fetchone()
    if first is None:
        return None
    old = f"o.id >= ? AND o.id <= ? AND o.{time} < ?"
    place = (first, last, before)
    if opened.execute(f"SELECT 1 FROM {name} o WHERE {old} LIMIT 1", place).fetchone() is None:  # noqa: S608
        return None
    return Stretch(f"DELETE FROM {name} AS o WHERE {old} AND {condition}", place, last + 1)  # noqa: S608
