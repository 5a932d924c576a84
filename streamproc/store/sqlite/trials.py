"""A trial's changes and the live ones beside them, in SQLite, inside a transaction of the caller's."""

from __future__ import annotations

import sqlite3

from streamproc.records import Severity
from streamproc.store.stamps import ms_of, stamp_of
from streamproc.store.trial_history import SeverityChange, TrialHistory

_NEWEST = (
    "SELECT trial_version, begun_at FROM trial_events WHERE trial = ?"
    " ORDER BY begun_at DESC, trial_version DESC LIMIT 1"
)
_RECORDED = (
    "SELECT s.uuid, t.created_at, t.severity, t.previous_severity, t.cause FROM trial_events t"
    " JOIN sensors s ON s.id = t.sensor_id WHERE t.trial = ? AND t.trial_version = ? AND t.begun_at = ?"
    " ORDER BY t.created_at, t.id"
)
_TOLD = (
    "SELECT s.uuid, e.created_at, e.severity, e.previous_severity, e.event_code FROM ml_events e"
    " JOIN sensors s ON s.id = e.sensor_id"
    " WHERE e.event_type = 'severity_change' AND e.status <> 'superseded' AND e.created_at >= ? AND e.created_at <= ?"
    " AND e.sensor_id IN (SELECT sensor_id FROM trial_events WHERE trial = ?) ORDER BY e.created_at, e.id"
)


def recorded(connection: sqlite3.Connection, trial: str) -> TrialHistory | None:
    """What the newest version of a trial has recorded; None if nothing."""
    newest = connection.execute(_NEWEST, (trial,)).fetchone()
    if newest is None:
        return None
    rows = connection.execute(_RECORDED, (trial, *newest))
    return TrialHistory(newest[0], ms_of(newest[1]), [_change(*row) for row in rows])


def told(connection: sqlite3.Connection, trial: str, since: int, until: int) -> list[SeverityChange]:
    """The changes of severity of a trial's sensors from one time to another, both inclusive, in ms."""
    values = (stamp_of(since), stamp_of(until), trial)
    return [_change(*row) for row in connection.execute(_TOLD, values)]


def _change(sensor: str, at: str, severity: str, previous: str, cause: str) -> SeverityChange:
    return SeverityChange(sensor, ms_of(at), Severity[severity], Severity[previous], cause)
