"""A trial's changes and the live ones beside them, in SQL Server, inside a transaction of the caller's."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from streamproc.records import Severity
from streamproc.store.sqlserver.times import ms_of, time_of
from streamproc.store.trial_history import SeverityChange, TrialHistory

_NEWEST = (
    "SELECT TOP (1) trial_version, begun_at FROM dbo.trial_events WHERE trial = ?"
    " ORDER BY begun_at DESC, trial_version DESC"
)
_RECORDED = (
    "SELECT s.uuid, t.created_at, t.severity, t.previous_severity, t.cause FROM dbo.trial_events t"
    " JOIN dbo.sensors s ON s.id = t.sensor_id WHERE t.trial = ? AND t.trial_version = ? AND t.begun_at = ?"
    " ORDER BY t.created_at, t.id"
)
_TOLD = (
    "SELECT s.uuid, e.created_at, e.severity, e.previous_severity, e.event_code FROM dbo.ml_events e"
    " JOIN dbo.sensors s ON s.id = e.sensor_id"
    " WHERE e.event_type = N'severity_change' AND e.status <> N'superseded' AND e.created_at >= ? AND e.created_at <= ?"
    " AND e.sensor_id IN (SELECT sensor_id FROM dbo.trial_events WHERE trial = ?) ORDER BY e.created_at, e.id"
)


async def recorded(cursor: Any, trial: str) -> TrialHistory | None:
    """What the newest version of a trial has recorded; None if nothing."""
    await cursor.execute(_NEWEST, trial)
    newest = await cursor.fetchone()
    if newest is None:
        return None
    await cursor.execute(_RECORDED, trial, *newest)
    return TrialHistory(newest[0], ms_of(newest[1]), [_change(*row) for row in await cursor.fetchall()])


async def told(cursor: Any, trial: str, since: int, until: int) -> list[SeverityChange]:
    """The changes of severity of a trial's sensors from one time to another, both inclusive, in ms."""
    await cursor.execute(_TOLD, time_of(since), time_of(until), trial)
    return [_change(*row) for row in await cursor.fetchall()]


def _change(sensor: str, at: datetime, severity: str, previous: str, cause: str) -> SeverityChange:
    return SeverityChange(sensor, ms_of(at), Severity[severity], Severity[previous], cause)
