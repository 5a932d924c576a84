"""What should be: the pure core over everything on `readings`, in partition order, cut otherwise than the workers did."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import msgspec
import numpy as np
from faust.types import TP

from streamproc.core.chunk import Chunk
from streamproc.core.engine import Options, PartitionState, run
from streamproc.core.ownership import Owners
from streamproc.core.registry import RegistryLog, parts
from streamproc.engine.outputs import Message, messages
from streamproc.kafka.columns import gather
from streamproc.records import Notification, SeverityEvent, WindowRows
from streamproc.sink.rows import Decoder
from streamproc.store.protocol import NotificationColumns, PredictionColumns, ReadingColumns, join
from streamproc.store.stamps import iso
from tests.live.oracle import PARTITIONS

Key = tuple[Any, ...]
Row = tuple[Any, ...]

_window_rows = msgspec.json.Decoder(WindowRows).decode


@dataclass(slots=True)
class Expected:
    """Rows by table and identity; `readings` has all that may be the row, one of each partition that holds the record.

    `origin` tells where a row comes from: partition and offset. `messages` are those of the topics without a table.
    """

    readings: dict[Key, list[Row]] = field(default_factory=dict)
    predictions: dict[Key, Row] = field(default_factory=dict)
    events: dict[Key, Row] = field(default_factory=dict)
    notifications: dict[Key, Row] = field(default_factory=dict)
    windows: dict[Key, Row] = field(default_factory=dict)
    late: set[bytes] = field(default_factory=set)
    trials: dict[Key, bytes] = field(default_factory=dict)
    letters: dict[Key, bytes] = field(default_factory=dict)
    origin: dict[Key, str] = field(default_factory=dict)
    #: Readings that are no row: their sensors are other devices'.
    foreign: int = 0
    #: Of each sensor its events in order: (at, event_id, severity).
    history: dict[str, list[tuple[int, str, int]]] = field(default_factory=dict)


def expected(records: Mapping[int, list[Any]], prefix: str, registry: RegistryLog, seed: int) -> Expected:
    """What the core and the sink's decoder make of the records of `readings`, by partition."""
    found = Expected()
    chance = Random(f"cuts {seed}")  # noqa: S311  # not a secret
    decoder = Decoder(allowed_skew_ms=60_000, prefix=prefix)
    for partition, held in records.items():
        if not held:
            continue
        whole, made = made_by_core(held, f"{prefix}readings", partition, registry, chance)
        _add_readings(found, decoder, whole, Owners(registry))
        for message in made:
            _add(found, message, partition)
        _add_columns(found, decoder, prefix, partition, made)
    return found


def made_by_core(
    held: list[Any],
    topic: str,
    partition: int,
    registry: RegistryLog,
    chance: Random | None = None,
) -> tuple[Chunk, list[Message]]:
    """A partition's records as one chunk, and all messages that the core makes of them, cut by `chance`."""
    whole = gather(TP(topic, partition), held)
    return whole, list(_messages(whole, registry, chance or Random(0)))  # noqa: S311  # not a secret


def _messages(whole: Chunk, registry: RegistryLog, chance: Random) -> Iterator[Message]:
    state = PartitionState(Options(whole.topic, whole.partition, PARTITIONS))
    begin = 0
    while begin < len(whole):
        end = min(len(whole), begin + int(10 ** chance.uniform(0, 4)))
        for chunk, out in run(state, whole.cut(begin, end), registry):
            yield from messages(state, chunk, out)
        begin = end


def _add_readings(found: Expected, decoder: Decoder, whole: Chunk, owners: Owners) -> None:
    begin = owners.registry.begin(-1, int(whole.timestamps[0]))
    pieces = [decoder.judged(part, at, owners) for part, at in parts(whole, begin, owners.registry)]
    found.foreign += sum(piece.foreign for piece in pieces)
    rows = join([piece.rows for piece in pieces])
    assert isinstance(rows, ReadingColumns)
    columns = (rows.sensor, rows.value.tolist(), iso(rows.ts), iso(rows.received))
    seen = set()
    identities = zip(rows.dedupe_ms.tolist(), rows.key.tolist(), rows.offset.tolist(), strict=True)
    for (dedupe_ms, key, offset), row in zip(identities, zip(*columns, strict=True), strict=True):
        identity = (dedupe_ms, key)
        if identity not in seen:  # of a partition's records the first is the row
            seen.add(identity)
            found.readings.setdefault(identity, []).append(row)
            found.origin.setdefault(identity, f"{whole.partition}/{offset}")


def _add(found: Expected, message: Message, partition: int) -> None:
    assert message.value is not None or message.topic == "readings"
    match message.topic:
        case "windows":
            rows = _window_rows(message.value or b"")
            for key, row in window_rows(rows):
                found.windows[key] = row
        case "trial-events":
            found.trials[msgspec.json.decode(message.value or b"")["event_id"],] = message.value or b""
        case "late":
            found.late.add(message.value or b"")
        case "dead-letter":
            letter = msgspec.json.decode(message.value or b"")
            found.letters[partition, letter["offset"]] = message.value or b""


def window_rows(rows: WindowRows) -> Iterable[tuple[Key, Row]]:
    """The rows of a message, by (sensor, size, start)."""
    columns = msgspec.structs.astuple(rows)[3:-1]
    for row in zip(*columns, strict=True):
        yield (row[0], rows.size_ms, row[1]), (rows.partition, *row[2:])


def _add_columns(found: Expected, decoder: Decoder, prefix: str, partition: int, made: list[Message]) -> None:
    for topic in ("predictions", "events", "notifications"):
        values = [message.value for message in made if message.topic == topic]
        numbers = np.arange(len(values), dtype=np.int64)
        piece = decoder.piece(Chunk(prefix + topic, partition, numbers, numbers, values))
        assert not piece.letters, piece.letters
        rows = piece.rows
        if isinstance(rows, PredictionColumns):
            found.predictions.update(_predictions(rows))
        elif isinstance(rows, NotificationColumns):
            found.notifications.update(_notification(row) for row in rows.notification)
        elif topic == "events":
            for event in rows.event:  # type: ignore[union-attr]
                found.events[event.event_id,] = _event(event)
                found.history.setdefault(event.sensor, []).append(
                    (event.at, event.event_id, int(event.severity))
                )
                found.origin[event.event_id,] = (
                    f"{partition}/{event.lineage.first_offset}-{event.lineage.last_offset}"
                )


def _predictions(rows: PredictionColumns) -> Iterable[tuple[Key, Row]]:
    models = [model if "@" in model else f"{model}@1" for model in rows.model]  # as the table splits them
    keys = zip(rows.sensor, models, iso(rows.made_at), iso(rows.target), strict=True)
    columns = (rows.value, rows.confidence, rows.lower, rows.upper, rows.anomaly_score, rows.is_anomaly)
    return zip(keys, zip(*(column.tolist() for column in columns), strict=True), strict=True)


def _event(event: SeverityEvent) -> Row:
    """As the table has it: sensor, cause, message, action, severities, time, payload."""
    payload = {"cause": event.cause, "value": event.value, "lineage": event.lineage, "version": event.version}
    return (
        event.sensor,
        event.cause,
        event.explanation,
        event.recommended_action,
        event.severity.name,
        event.previous.name,
        iso(np.array([event.at]))[0],
        msgspec.json.encode(payload).decode(),
    )


def _notification(row: Notification) -> tuple[Key, Row]:
    stamp = iso(np.array([row.at]))[0]
    return (row.notification_id,), (
        row.event_id,
        row.sensor,
        row.severity.name,
        row.title,
        row.message,
        stamp,
    )


def active(history: list[tuple[int, str, int]]) -> set[str]:
    """Which of a sensor's events, in order, still stands: the last one, if it is no recovery."""
    _, event, severity = history[-1]
    return {event} if severity else set()
