"""Turns chunks of records into columns of rows. Pure, except for a memory of names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sized
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import astuple

from streamproc.core.chunk import Chunk
from streamproc.core.codec import Readings, decode
from streamproc.core.identity import reading_keys, seed
from streamproc.core.letters import letter
from streamproc.core.ownership import Owners, foreign, without
from streamproc.records import (
    WINDOW_SIZES_MS,
    DeadLetter,
    Notification,
    PredictionRows,
    SeverityEvent,
    WindowRows,
)
from streamproc.records.alerting import TrialEvent
from streamproc.store.protocol import (
    Columns,
    EventColumns,
    Floats,
    Ints,
    NotificationColumns,
    PredictionColumns,
    ReadingColumns,
    TrialColumns,
    WindowColumns,
    join,
)
from streamproc.store.stamps import LAST_MS

#: Names remembered at once: some 200 MB of them. A sender of ever new names costs time then, not memory.
_NAMES = 1_000_000
#: The version of records that this program reads.
_VERSION = 1
#: Counts and offsets are 64-bit integers, here and in databases.
_LAST_INT = 2**63 - 1

_predictions = msgspec.json.Decoder(PredictionRows).decode
_windows = msgspec.json.Decoder(WindowRows).decode
_event = msgspec.json.Decoder(SeverityEvent).decode
_notification = msgspec.json.Decoder(Notification).decode
_tried = msgspec.json.Decoder(TrialEvent).decode


@dataclass(frozen=True, slots=True)
class Piece:
    """The rows of one chunk for one table, and the faults of its other records; `skipped` records were not wanted.

    Of readings `foreign` are left out, by the registry as of the position `registry`.
    """

    chunk: Chunk
    rows: Columns
    letters: list[DeadLetter]
    skipped: int = 0
    foreign: int = 0
    registry: int = -1


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
    """Makes rows from the records of the sink's topics.

    `allowed_skew_ms` is the engine's, so that both accept the same readings. Which of them are malformed,
    the engine tells; the sink leaves them out without a word. Of windows, those of the sizes `window_sizes_ms` are rows.
    """

    TOPICS = ("readings", "predictions", "events", "notifications", "windows", "trial-events")

    def __init__(
        self, allowed_skew_ms: int, prefix: str = "", window_sizes_ms: Collection[int] = WINDOW_SIZES_MS
    ) -> None:
        self._allowed_skew_ms, self._prefix, self._sizes_ms = allowed_skew_ms, prefix, window_sizes_ms
        self._keys, self._seeds = _Names(str.lower), _Names(lambda name: seed(name.lower()))

    def piece(self, chunk: Chunk) -> Piece:
        """The rows of a chunk, of `readings` all of them; raises ValueError for a topic that is not the sink's."""
        match chunk.topic.removeprefix(self._prefix):
            case "readings":
                return Piece(chunk, self.reading_rows(chunk, self._readings(chunk)), [])
            case "predictions":
                return _decoded(chunk, _prediction_rows, PredictionColumns())
            case "events":
                return _decoded(chunk, _event_row, EventColumns())
            case "notifications":
                return _decoded(chunk, _notification_row, NotificationColumns())
            case "windows":
                return _decoded(chunk, partial(_window_rows, self._sizes_ms), WindowColumns())
            case "trial-events":
                return _decoded(chunk, _trial_row, TrialColumns())
        raise ValueError(f"topic {chunk.topic} is none of the sink's")

    def judged(self, chunk: Chunk, position: int, owners: Owners, readings: Readings | None = None) -> Piece:
        """The rows of a chunk of `readings`, without those that are foreign by the registry as of a position.

        `readings` are the chunk's, where the caller has decoded them `for_sink` already.
        """
        readings = self._readings(chunk) if readings is None else readings
        left_out = foreign(chunk, readings, position, owners)
        rows = self.reading_rows(chunk, without(readings, left_out))
        return Piece(chunk, rows, [], foreign=len(left_out), registry=position)

    def _readings(self, chunk: Chunk) -> Readings:
        return decode(chunk, self._allowed_skew_ms, for_sink=True)

    def reading_rows(self, chunk: Chunk, readings: Readings) -> ReadingColumns:
        """The rows of a chunk's readings, decoded `for_sink`.

        A record that was sent on gives those of the record that it was first: they are one row.
        """
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
    """Each record by itself: one that is wrong costs only itself. `row` gives None for one that is not wanted."""
    parts, letters, skipped = [], [], 0
    for index, value in enumerate(chunk.values):
        if chunk.is_control(index):
            continue
        if value is None:
            letters.append(letter("sink", chunk, index, "the record has no value"))
            continue
        try:
            made = row(chunk, index, value)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, _MalformedError) as error:
            letters.append(letter("sink", chunk, index, str(error)))
            continue
        if made is None:
            skipped += 1
        else:
            parts.append(made)
    return Piece(chunk, join(parts) if parts else none, letters, skipped)


def _prediction_rows(chunk: Chunk, index: int, value: bytes) -> PredictionColumns:
    rows = _predictions(value)
    _check_version(rows.version)
    columns = astuple(rows)[1:-1]
    _check_lengths(columns)
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


class _Size(msgspec.Struct):
    """What tells at a tenth of the cost whether a message of windows is wanted."""

    size_ms: int


_size = msgspec.json.Decoder(_Size).decode


def _window_rows(sizes_ms: Collection[int], chunk: Chunk, index: int, value: bytes) -> WindowColumns | None:
    if _size(value).size_ms not in sizes_ms:
        return None
    rows = _windows(value)
    _check_version(rows.version)
    _check_lengths(astuple(rows)[3:-1])
    many = len(rows.sensor)
    return WindowColumns(
        sensor=[sensor.lower() for sensor in rows.sensor],
        size_ms=np.full(many, rows.size_ms, dtype=np.int64),
        start=_stamps(rows.start),
        count=_counts(rows.count),
        mean=np.array(rows.mean),
        min=np.array(rows.min),
        max=np.array(rows.max),
        deviation=np.array(rows.deviation),
        first=np.array(rows.first),
        last=np.array(rows.last),
        trend=np.array(rows.trend),
        first_offset=_counts(rows.first_offset),
        last_offset=_counts(rows.last_offset),
        source_partition=_counts([rows.partition]).repeat(many),
        partition=np.full(many, chunk.partition, dtype=np.int64),
        offset=np.full(many, chunk.offsets[index], dtype=np.int64),
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


def _trial_row(chunk: Chunk, index: int, value: bytes) -> TrialColumns:
    tried = _tried(value)
    _check_version(tried.version)
    _stamps([tried.at, tried.begun_at])
    partition = np.array([chunk.partition], dtype=np.int64)
    return TrialColumns([tried.sensor.lower()], [tried], partition, chunk.offsets[index : index + 1])


def _check_version(version: int) -> None:
    if version != _VERSION:
        raise _MalformedError(f"version {version} is not known here")


def _check_lengths(columns: Iterable[Sized]) -> None:
    if len({len(column) for column in columns}) > 1:
        raise _MalformedError("the columns are not of one length")


def _counts(numbers: list[int]) -> Ints:
    if numbers and not 0 <= min(numbers) <= max(numbers) <= _LAST_INT:
        raise _MalformedError("a count, an offset or a partition is not between 0 and 2^63")
    return np.array(numbers, dtype=np.int64)


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
