"""Chunks of records into columns of rows. Pure but for what it remembers of names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import astuple

from streamproc.core.chunk import Chunk
from streamproc.core.codec import decode
from streamproc.core.identity import reading_keys, seed
from streamproc.core.letters import letter
from streamproc.records import DeadLetter, Notification, PredictionRows, SeverityEvent
from streamproc.store.protocol import (
    Columns,
    EventColumns,
    Floats,
    Ints,
    NotificationColumns,
    PredictionColumns,
    ReadingColumns,
    join,
)
from streamproc.store.stamps import LAST_MS

#: Names remembered at once: some 200 MB of them. A sender of ever new names costs time then, not memory.
_NAMES = 1_000_000
#: The version of records that this program reads.
_VERSION = 1

_predictions = msgspec.json.Decoder(PredictionRows).decode
_event = msgspec.json.Decoder(SeverityEvent).decode
_notification = msgspec.json.Decoder(Notification).decode


@dataclass(frozen=True, slots=True)
class Piece:
    """The rows of one chunk, of one table, and what was wrong with others of its records."""

    chunk: Chunk
    rows: Columns
    letters: list[DeadLetter]


class _Names(dict[str, Any]):
    """What follows from a name, worked out when it is first asked for."""

    def __init__(self, follow: Callable[[str], object]) -> None:
        super().__init__()
        self._follow = follow

    def __missing__(self, name: str) -> object:
        if len(self) >= _NAMES:
            self.clear()
        self[name] = value = self._follow(name)
        return value


class Decoder:
    """Makes rows of the records of the sink's topics.

    `allowed_skew_ms` is the engine's, so that both accept the same readings. Which of them are malformed,
    the engine tells; the sink leaves them out without a word.
    """

    TOPICS = ("readings", "predictions", "events", "notifications")

    def __init__(self, allowed_skew_ms: int, prefix: str = "") -> None:
        self._allowed_skew_ms, self._prefix = allowed_skew_ms, prefix
        self._keys, self._seeds = _Names(str.lower), _Names(lambda name: seed(name.lower()))

    def piece(self, chunk: Chunk) -> Piece:
        """The rows of a chunk; raises ValueError for a topic that is not the sink's."""
        match chunk.topic.removeprefix(self._prefix):
            case "readings":
                return Piece(chunk, self._readings(chunk), [])
            case "predictions":
                return _decoded(chunk, _prediction_rows, PredictionColumns())
            case "events":
                return _decoded(chunk, _event_row, EventColumns())
            case "notifications":
                return _decoded(chunk, _notification_row, NotificationColumns())
        raise ValueError(f"topic {chunk.topic} is none of the sink's")

    def _readings(self, chunk: Chunk) -> ReadingColumns:
        """The chunk's rows. A record that was sent on gives those of the record that it was first: they are one row."""
        readings = decode(chunk, self._allowed_skew_ms)
        seeds = np.array(list(map(self._seeds.__getitem__, readings.sensor)), dtype=np.uint64)
        return ReadingColumns(
            sensor=list(map(self._keys.__getitem__, readings.sensor)),
            device=[device and self._keys[device] for device in readings.device],
            value=readings.value,
            ts=np.clip(readings.ts, 0, LAST_MS),  # -1 is Kafka's word for a record without a time
            received=np.clip(chunk.first_timestamps()[readings.record], 0, LAST_MS),
            dedupe_ms=readings.dedupe_ms,
            key=reading_keys(seeds, readings.ts, readings.value, readings.source),
            partition=np.full(len(readings), chunk.partition, dtype=np.int64),
            offset=chunk.offsets[readings.record],
        )


class _MalformedError(ValueError):
    """A record breaks a rule that its type does not state; the text says which."""


def _decoded(chunk: Chunk, row: Callable[[Chunk, int, bytes], Any], none: Any) -> Piece:
    """Each record by itself: one that is wrong costs only itself."""
    parts, letters = [], []
    for index, value in enumerate(chunk.values):
        if chunk.is_control(index):
            continue
        if value is None:
            letters.append(letter("sink", chunk, index, "the record has no value"))
            continue
        try:
            parts.append(row(chunk, index, value))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, _MalformedError) as error:
            letters.append(letter("sink", chunk, index, str(error)))
    return Piece(chunk, join(parts) if parts else none, letters)


def _prediction_rows(chunk: Chunk, index: int, value: bytes) -> PredictionColumns:
    rows = _predictions(value)
    _check_version(rows.version)
    columns = astuple(rows)[1:-1]
    if len({len(column) for column in columns}) > 1:
        raise _MalformedError("the columns are not of one length")
    made_at, target = _stamps(rows.made_at), _stamps(rows.target)
    value_, lower, upper = np.array(rows.value), np.array(rows.lower), np.array(rows.upper)
    return PredictionColumns(
        sensor=[sensor.lower() for sensor in rows.sensor],
        model=[rows.model] * len(rows.sensor),
        made_at=made_at,
        target=target,
        value=value_,
        lower=lower,
        upper=upper,
        confidence=confidence(value_, lower, upper),
        anomaly_score=np.array(rows.anomaly_score),
        is_anomaly=np.array(rows.is_anomaly, dtype=np.bool_),
        partition=np.full(len(rows.sensor), chunk.partition, dtype=np.int64),
        offset=np.full(len(rows.sensor), chunk.offsets[index], dtype=np.int64),
    )


def _event_row(chunk: Chunk, index: int, value: bytes) -> EventColumns:
    event = _event(value)
    _check_version(event.version)
    _stamps([event.at])
    partition = np.array([chunk.partition], dtype=np.int64)
    return EventColumns([event.sensor.lower()], [event], partition, chunk.offsets[index : index + 1])


def _notification_row(chunk: Chunk, index: int, value: bytes) -> NotificationColumns:
    notification = _notification(value)
    _check_version(notification.version)
    _stamps([notification.at])
    partition = np.array([chunk.partition], dtype=np.int64)
    offset = chunk.offsets[index : index + 1]
    return NotificationColumns([notification.sensor.lower()], [notification], partition, offset)


def _check_version(version: int) -> None:
    if version != _VERSION:
        raise _MalformedError(f"version {version} is not known here")


def _stamps(ms: list[int]) -> Ints:
    """Times of four-digit year, as a database holds them."""
    if ms and not 0 <= min(ms) <= max(ms) <= LAST_MS:
        raise _MalformedError("a time is not between 1970 and 9999, in milliseconds")
    return np.array(ms, dtype=np.int64)


def confidence(value: Floats, lower: Floats, upper: Floats) -> Floats:
    """How narrow an interval is beside its value, 0..1, of shape (n,): |value| / (|value| + half the width).

    >>> confidence(np.array([20.0, 0.0]), np.array([15.0, 0.0]), np.array([25.0, 0.0]))
    array([0.8, 1. ])
    """
    half = np.abs(upper / 2 - lower / 2)
    with np.errstate(over="ignore"):
        whole = np.abs(value) + half
    narrow: Floats = np.divide(np.abs(value), whole, out=np.ones_like(value), where=half > 0)
    return narrow
