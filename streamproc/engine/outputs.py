"""The outputs of a step as messages on topics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson
from numpy.typing import NDArray

from streamproc.core import windows
from streamproc.core.chunk import MOVED, Chunk, Headers
from streamproc.core.codec import Rejected
from streamproc.core.engine import ClosedWindows, Outputs, PartitionState
from streamproc.core.letters import letter
from streamproc.core.predict import MODEL, Predicted
from streamproc.engine.printed import Printed, named

#: Rows in one message of columns: about 600 KB, below the broker's usual 1 MB.
ROWS = 4_000
#: Of a two-sided interval that holds 90 % of a normal distribution.
Z_90 = 1.6448536269514722
#: Reasons that a dead letter tells; a packet of ten thousand readings can have as many faults.
REASONS = 5

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Message:
    """One message to be sent; `topic` is its name in topics.yaml. Without a `partition`, the key decides."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None = None
    headers: Headers = ()


def messages(state: PartitionState, chunk: Chunk, out: Outputs) -> Iterator[Message]:
    """All messages of a step, in the order in which they must be sent."""
    partition, printed = chunk.partition, Printed(state.sensors.names)
    for closed in out.windows:
        for value in window_values(state, closed, printed):
            yield Message("windows", None, value, partition)
    if out.predictions is not None:
        for value in prediction_values(out.predictions, printed):
            yield Message("predictions", None, value, partition)
    for event in out.events:
        yield Message("events", event.sensor.encode(), _encode(event), partition)
    for notification in out.notifications:
        yield Message("notifications", notification.sensor.encode(), _encode(notification), partition)
    for tried in out.trial_events:
        yield Message("trial-events", tried.sensor.encode(), _encode(tried), partition)
    for late in out.late:
        yield Message("late", late.sensor.encode(), _encode(late), partition)
    for record, home in out.moved:
        yield moved(chunk, record, home)
    yield from dead_letters(chunk, out.rejected)


def window_values(state: PartitionState, closed: ClosedWindows, printed: Printed) -> Iterator[bytes]:
    """The columns of `records.WindowRows`, ROWS windows a message."""
    for first in range(0, len(closed.slot), ROWS):
        at = slice(first, first + ROWS)
        rows = closed.rows.take(at)
        # Windows of several readings have no two columns alike.
        lone = bool((rows.count == 1).all())
        told = printed.column if lone else _as_it_is
        columns = {
            "size_ms": closed.size_ms,
            "topic": state.options.topic,
            "partition": state.options.partition,
            "sensor": printed.sensors(closed.slot[at])
            if lone
            else named(state.sensors.names, closed.slot[at]),
            "start": told(rows.start),
            "count": told(rows.count),
            "mean": told(windows.mean(rows)),
            "min": told(rows.min),
            "max": told(rows.max),
            "deviation": told(windows.deviation(rows)),
            "first": told(rows.first),
            "last": told(rows.last),
            "trend": told(windows.trend(rows)),
            "first_offset": told(rows.first_offset),
            "last_offset": told(rows.last_offset),
            "version": 1,
        }
        yield orjson.dumps(columns, option=orjson.OPT_SERIALIZE_NUMPY)


def _as_it_is(column: NDArray[Any]) -> NDArray[Any]:
    return column


def prediction_values(predicted: Predicted, printed: Printed) -> Iterator[bytes]:
    """The columns of `records.PredictionRows`, ROWS predictions a message."""
    for first in range(0, len(predicted.slot), ROWS):
        at = slice(first, first + ROWS)
        value, margin = predicted.value[at], Z_90 * predicted.deviation[at]
        columns = {
            "model": MODEL,
            "sensor": printed.sensors(predicted.slot[at]),
            "made_at": predicted.made_at[at],
            "target": predicted.target[at],
            "value": value,
            "lower": value - margin,
            "upper": value + margin,
            "anomaly_score": predicted.anomaly[at],
            "is_anomaly": predicted.is_anomaly[at],
            "version": 1,
        }
        yield orjson.dumps(columns, option=orjson.OPT_SERIALIZE_NUMPY)


def moved(chunk: Chunk, record: int, home: int) -> Message:
    """The record for its own partition, marked with the place and time that it had."""
    place = f"{chunk.partition}:{chunk.offsets[record]}:{chunk.timestamps[record]}"
    headers = (*chunk.headers.get(record, ()), (MOVED, place.encode()))
    return Message("readings", None, chunk.values[record], home, headers)


def dead_letters(chunk: Chunk, rejected: list[Rejected]) -> Iterator[Message]:
    """One dead letter for each record with something rejected."""
    by_record: dict[int, list[Rejected]] = {}
    for fault in rejected:
        by_record.setdefault(fault.record, []).append(fault)
    for record, faults in sorted(by_record.items()):
        told = [
            f"{fault.field}: {fault.reason}" if fault.field else fault.reason for fault in faults[:REASONS]
        ]
        more = len(faults) - len(told)
        reason = "; ".join(told) + (f"; and {more} more" if more else "")
        yield Message("dead-letter", None, _encode(letter("engine", chunk, record, reason, faults[0].field)))
