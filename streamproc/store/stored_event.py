"""Rebuilds an event from its row in the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from streamproc.errors import StoreError
from streamproc.records import Cause, Lineage, Severity, SeverityEvent

#: Columns of `ml_events` beside the sensor's uuid and `created_at`, in the order of `event_of`'s row.
STORED = ("event_id", "message", "recommended_action", "severity", "previous_severity", "payload")


class _Payload(msgspec.Struct):
    """What of an event has no column of its own."""

    cause: Cause
    value: float
    lineage: Lineage
    version: int = 1


class _Numbers(msgspec.Struct, frozen=True):
    scores: dict[str, float] = {}


class _Standing(msgspec.Struct, frozen=True):
    lineage: _Numbers = _Numbers()


_standing = msgspec.json.Decoder(_Standing).decode
_payload = msgspec.json.Decoder(_Payload).decode


def stored_event(row: Sequence[Any], sensor: str, at_ms: int) -> SeverityEvent:
    """The event of a row of STORED; raises StoreError where it is not one that the sink has written."""
    event_id, message, action, severity, previous, payload = row
    try:
        rest = _payload(payload or "")
        return SeverityEvent(
            event_id=event_id,
            sensor=sensor,
            severity=Severity[severity],
            previous=Severity[previous],
            cause=rest.cause,
            at=at_ms,
            value=rest.value,
            explanation=message,
            recommended_action=action or "",
            lineage=rest.lineage,
            version=rest.version,
        )
    except (msgspec.MsgspecError, KeyError) as error:
        raise StoreError(
            f"the row of event {event_id} in ml_events is none of streamproc's, or was changed: {error}"
        ) from error


def told_with(payload: str | None) -> dict[str, float]:
    """The numbers of the lineage in a row's `payload`; none where another program has written it."""
    try:
        return _standing(payload or "{}").lineage.scores
    except msgspec.MsgspecError:
        return {}
