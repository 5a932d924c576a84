"""Collects pieces into batches that a transaction can hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamproc.core.chunk import Chunk
from streamproc.core.letters import letter
from streamproc.records import DeadLetter
from streamproc.sink.rows import Piece
from streamproc.store.protocol import (
    Batch,
    EventColumns,
    NotificationColumns,
    Place,
    PredictionColumns,
    ReadingColumns,
    TrialColumns,
    WindowColumns,
    join,
    take,
)

#: Reasons and fields named in one dead letter; a record of thousands of rows may have as many.
_TOLD = 5


class Bounds(NamedTuple):
    """What a transaction may hold at most: rows, and bytes of the records that they come from.

    Rows bound the work of a database, bytes what long texts take there, in statements and in memory.
    """

    rows: int
    size_bytes: int


def cut(chunk: Chunk, limit: int) -> Iterator[Chunk]:
    """The chunk in parts of at most so many bytes; a record that is larger is a part alone."""
    if chunk.size_bytes <= limit:
        yield chunk
        return
    begin = held = 0
    for index, value in enumerate(chunk.values):
        size = len(value or b"")
        if index > begin and held + size > limit:
            yield chunk.cut(begin, index)
            begin, held = index, 0
        held += size
    yield chunk.cut(begin, len(chunk))


def split(piece: Piece, limit: int) -> Iterator[Piece]:
    """The piece in parts of at most so many rows; a record is never split, however many rows it has."""
    if len(piece.rows) <= limit:
        yield piece
        return
    offsets = piece.rows.offset
    begin = 0
    while begin < len(offsets):
        end = begin + limit
        if end < len(offsets):
            end = int(np.searchsorted(offsets, offsets[end]))  # back to the record's first row
            end = end if end > begin else int(np.searchsorted(offsets, offsets[begin], side="right"))
        end = min(end, len(offsets))
        yield _part(piece, begin, end)
        begin = end


def _part(piece: Piece, begin: int, end: int) -> Piece:
    """Rows begin..end-1, and all records up to the next part that have none."""
    offsets, records = piece.rows.offset, piece.chunk.offsets
    first = int(np.searchsorted(records, offsets[begin])) if begin else 0
    last = int(np.searchsorted(records, offsets[end])) if end < len(offsets) else len(records)
    chunk = piece.chunk.cut(first, last)
    inside = [fault for fault in piece.letters if records[first] <= fault.offset <= records[last - 1]]
    rows = take(piece.rows, np.arange(begin, end))
    return replace(piece, chunk=chunk, rows=rows, letters=inside, foreign=0 if begin else piece.foreign)


def group(pieces: Iterable[Piece], bounds: Bounds) -> Iterator[list[Piece]]:
    """Pieces in order, as many together as the bounds allow (a piece beyond them alone)."""
    waiting: list[Piece] = []
    rows = held = 0
    for piece in pieces:
        size = piece.chunk.size_bytes
        if waiting and (rows + len(piece.rows) > bounds.rows or held + size > bounds.size_bytes):
            yield waiting
            waiting, rows, held = [], 0, 0
        waiting.append(piece)
        rows += len(piece.rows)
        held += size
    if waiting:
        yield waiting


def batch(name: str, pieces: Sequence[Piece], standing: dict[Place, int | None]) -> Batch:
    """The pieces' rows, and their partitions' offsets: from those in the database to the next ones."""
    offsets, registry = {}, {}
    for piece in pieces:
        place = (piece.chunk.topic, piece.chunk.partition)
        offsets[place] = (standing[place], piece.chunk.next_offset)
        if piece.registry >= 0:
            registry[place] = piece.registry
    rows = [piece.rows for piece in pieces]
    return Batch(
        name,
        offsets,
        join([part for part in rows if isinstance(part, ReadingColumns)] or [ReadingColumns()]),
        join([part for part in rows if isinstance(part, PredictionColumns)] or [PredictionColumns()]),
        join([part for part in rows if isinstance(part, EventColumns)] or [EventColumns()]),
        join([part for part in rows if isinstance(part, NotificationColumns)] or [NotificationColumns()]),
        join([part for part in rows if isinstance(part, WindowColumns)] or [WindowColumns()]),
        join([part for part in rows if isinstance(part, TrialColumns)] or [TrialColumns()]),
        registry=registry,
    )


@dataclass(frozen=True, slots=True)
class Refusals:
    """Rows of a batch, by index, that the database refuses, and why."""

    rows: list[int]
    reasons: list[str]

    def __bool__(self) -> bool:
        return bool(self.rows)


def without(whole: Batch, refused: Refusals) -> Batch:
    """The batch's other rows, and its offsets."""
    keep: NDArray[np.bool_] = np.ones(len(whole), dtype=np.bool_)
    keep[refused.rows] = False
    return whole.take(np.flatnonzero(keep))


def letters(pieces: Sequence[Piece], whole: Batch, refused: Refusals) -> list[DeadLetter]:
    """One dead letter for each record with refused rows; of a record of columns it repeats only those rows.

    The reason has their number and the first causes.
    """
    causes: dict[tuple[type, int, int], dict[int, str]] = {}
    ends = np.cumsum([0, *(len(table) for table in whole.tables())])
    for row, reason in zip(refused.rows, refused.reasons, strict=True):
        at = int(np.searchsorted(ends, row, side="right")) - 1
        table, inside = whole.tables()[at], row - int(ends[at])
        record = (type(table), int(table.partition[inside]), int(table.offset[inside]))
        causes.setdefault(record, {})[row] = reason
    found = []
    for (table_type, partition, offset), reasons in causes.items():
        chunk, index = _record(pieces, table_type, partition, offset)
        part = _part_of_record(whole.take(np.array(sorted(reasons))), chunk.values[index])
        found.append(letter("sink", chunk, index, _reason(list(reasons.values())), part=part))
    return found


def _part_of_record(refused: Batch, value: bytes | None) -> bytes | None:
    """The record of columns with only these of its rows; None for another record, which is told whole.

    A message of thousands of rows comes every second: told whole for one unknown sensor, it would be 50 GB a day.
    """
    if value is None or not (len(refused.windows) or len(refused.predictions)):
        return None
    name, ours = (
        ("start", refused.windows.start) if len(refused.windows) else ("target", refused.predictions.target)
    )
    sensors = refused.windows.sensor or refused.predictions.sensor
    wanted = set(zip(sensors, ours.tolist(), strict=True))
    told: dict[str, Any] = msgspec.json.decode(value)
    theirs = zip(map(str.lower, told["sensor"]), told[name], strict=True)
    at = [row for row, key in enumerate(theirs) if key in wanted]
    rows = {key: [column[i] for i in at] for key, column in told.items() if isinstance(column, list)}
    return msgspec.json.encode({**told, **rows})


def _record(pieces: Sequence[Piece], table: type, partition: int, offset: int) -> tuple[Chunk, int]:
    """The chunk that a row's record is in, and its index there."""
    for piece in pieces:
        chunk = piece.chunk
        if type(piece.rows) is table and chunk.partition == partition:
            index = int(np.searchsorted(chunk.offsets, offset))
            if index < len(chunk) and chunk.offsets[index] == offset:
                return chunk, index
    raise LookupError(f"no record {partition}/{offset} in the batch")  # rows are made of these pieces only


def _reason(reasons: list[str]) -> str:
    told = list(dict.fromkeys(reasons))
    some = "; ".join(told[:_TOLD]) + ("; …" if len(told) > _TOLD else "")
    return some if len(reasons) == 1 else f"{len(reasons)} rows: {some}"
