"""Tumbling event-time windows of many sensors at once, as columns.

A window is half-open, `[k * size, (k + 1) * size)`. Readings fall into base windows of 1 s; windows of 5 and 10 s are
merged from closed base windows, so a reading counts in all sizes or, if it is late, in none.

Sums are taken one by one in record order, never pairwise, and minima by comparison: a window's numbers depend only on the
order of its records, not on how these were cut into chunks. So a replay gives the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamproc.records import WINDOW_SIZES_MS

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

BASE_MS = 1_000
SIZES_MS = WINDOW_SIZES_MS

#: Before every time; far enough from the end of int64 that a lateness can be taken off.
NEVER = -(2**62)


@dataclass(slots=True)
class Moments:
    """What windows are made of; each column has shape (n,), row i being one reading or one (part of a) window.

    `value_sum`, `value_square` and `time_value` are sums of x-shift, (x-shift)² and t(x-shift), with t in ms from the
    window's start: taken about a value of the window itself, they do not cancel when the level is high.
    """

    start: Ints
    count: Ints
    time_sum: Ints
    time_square: Ints
    first_ts: Ints
    last_ts: Ints
    first_offset: Ints
    last_offset: Ints
    shift: Floats
    value_sum: Floats
    value_square: Floats
    time_value: Floats
    min: Floats
    max: Floats
    first: Floats
    last: Floats

    @classmethod
    def empty(cls, n: int) -> Moments:
        """`n` rows of no window."""
        rows = cls.of(np.zeros(n, dtype=DTYPES[name]) for name in COLUMNS)
        rows.start[:] = NEVER
        return rows

    @classmethod
    def of(cls, columns: Iterable[NDArray[Any]]) -> Moments:
        """Rows of their columns, in the order of COLUMNS."""
        return cls(*columns)

    def __len__(self) -> int:
        return len(self.start)

    def take(self, at: Ints | Bools | slice) -> Moments:
        """The rows at these indices."""
        return Moments.of(getattr(self, name)[at] for name in COLUMNS)

    def put(self, at: Ints | slice, rows: Moments) -> None:
        """Overwrite the rows at these indices."""
        for name in COLUMNS:
            getattr(self, name)[at] = getattr(rows, name)

    @classmethod
    def from_bytes(cls, columns: list[bytes]) -> Moments:
        """Rows from the bytes of each column, in the order of COLUMNS; raises ValueError where they do not fit."""
        return cls.of(
            np.frombuffer(column, dtype=DTYPES[name]) for name, column in zip(COLUMNS, columns, strict=True)
        )

    def grown(self, n: int) -> Moments:
        """A copy with empty rows added up to `n`."""
        bigger = Moments.empty(n)
        bigger.put(slice(0, len(self)), self)
        return bigger


COLUMNS = tuple(field.name for field in fields(Moments))
_FLOATS = {"shift", "value_sum", "value_square", "time_value", "min", "max", "first", "last"}
DTYPES = {name: np.dtype(np.float64 if name in _FLOATS else np.int64) for name in COLUMNS}


def join(first: Moments, second: Moments) -> Moments:
    """The rows of one after those of the other."""
    if not len(first) or not len(second):  # mostly: it spares a copy of 16 columns
        return second if not len(first) else first
    return Moments.of(np.concatenate([getattr(first, name), getattr(second, name)]) for name in COLUMNS)


def from_readings(ts: Ints, value: Floats, offset: Ints) -> Moments:
    """Each reading as a part of its base window. All of shape (n,); `ts` in ms."""
    time = ts % BASE_MS
    return Moments(
        start=ts - time,
        count=np.ones(len(ts), dtype=np.int64),
        time_sum=time,
        time_square=time * time,
        first_ts=ts,
        last_ts=ts,
        first_offset=offset,
        last_offset=offset,
        shift=value,
        value_sum=np.zeros(len(ts)),
        value_square=np.zeros(len(ts)),
        time_value=np.zeros(len(ts)),
        min=value,
        max=value,
        first=value,
        last=value,
    )


def _rebase(parts: Moments, start: Ints, shift: Floats) -> Moments:
    """The parts' sums about another start and shift, row by row."""
    by, more = parts.start - start, parts.shift - shift
    value_sum = parts.value_sum + parts.count * more
    return Moments(
        start=start,
        count=parts.count,
        time_sum=parts.time_sum + by * parts.count,
        time_square=parts.time_square + 2 * by * parts.time_sum + by * by * parts.count,
        first_ts=parts.first_ts,
        last_ts=parts.last_ts,
        first_offset=parts.first_offset,
        last_offset=parts.last_offset,
        shift=shift,
        value_sum=value_sum,
        value_square=parts.value_square + 2 * more * parts.value_sum + parts.count * more * more,
        time_value=parts.time_value + more * parts.time_sum + by * value_sum,
        min=parts.min,
        max=parts.max,
        first=parts.first,
        last=parts.last,
    )


def _fold(parts: Moments, start: Ints, group: Ints, begin: Ints) -> Moments:
    """One row for each window. `start` (n,) is each part's window, `group` (n,) its number, `begin` (g,) its first part."""
    n, total = len(begin), len(parts)
    shift = parts.shift[begin]
    moved = _rebase(parts, start, shift[group])
    # The first, or the last, of several equal stamps is the one that came first, or last.
    at = np.arange(total)
    early = np.minimum.reduceat((moved.first_ts - moved.start) * total + at, begin) % total
    late = np.maximum.reduceat((moved.last_ts - moved.start) * total + at, begin) % total

    def summed(column: Floats | Ints) -> Floats:
        return np.bincount(group, weights=column, minlength=n).astype(np.float64, copy=False)

    return Moments(
        start=moved.start[begin],
        count=summed(moved.count).astype(np.int64),
        time_sum=summed(moved.time_sum).astype(np.int64),
        time_square=summed(moved.time_square).astype(np.int64),
        first_ts=moved.first_ts[early],
        last_ts=moved.last_ts[late],
        first_offset=np.minimum.reduceat(moved.first_offset, begin),
        last_offset=np.maximum.reduceat(moved.last_offset, begin),
        shift=shift,
        value_sum=summed(moved.value_sum),
        value_square=summed(moved.value_square),
        time_value=summed(moved.time_value),
        min=np.minimum.reduceat(moved.min, begin),
        max=np.maximum.reduceat(moved.max, begin),
        first=moved.first[early],
        last=moved.last[late],
    )


def _order(place: Ints) -> Ints | None:
    """The stable order of numbers (n,); None where they are in it. Two ascending runs, the usual case, cost one merge."""
    if (place[1:] >= place[:-1]).all():
        return None
    order: Ints = np.argsort(place, kind="stable")
    return order


class OpenWindows:
    """The open windows of one size, `depth` cells a sensor; `rows` has shape (sensors * depth,)."""

    def __init__(self, size_ms: int, depth: int) -> None:
        self.size_ms, self.depth, self.rows = size_ms, depth, Moments.empty(0)

    def grow(self, sensors: int) -> None:
        """Make room for so many sensors."""
        self.rows = self.rows.grown(sensors * self.depth)

    def put(self, slot: Ints, rows: Moments) -> None:
        """Hold these open windows (n,) of these sensors (n,)."""
        self.rows.put(self._cell(slot, rows.start), rows)

    def advance(self, slot: Ints, parts: Moments, closed: Ints, moved: Ints) -> tuple[Ints, Moments]:
        """Add the parts, close what is due, and give the closed windows with their slots, by slot and start.

        `slot` (n,) and `parts` (n,) are in order of slot, and of record within a slot. `closed` (sensors,) is the time
        up to which each sensor's windows are closed; it has `moved` for these slots since the last call.
        """
        slot, parts = self._with_open(slot, parts)
        due_slot, due = self._take_due(closed, moved)
        if len(slot):
            slot, parts = self._summed(slot, parts)
            over = parts.start + self.size_ms <= closed[slot]
            if not over.all():
                keep, closing = np.flatnonzero(~over), np.flatnonzero(over)
                self.put(slot[keep], parts.take(keep))
                slot, parts = slot[closing], parts.take(closing)
            due_slot, due = np.concatenate([due_slot, slot]), join(due, parts)
        order = _order(self._place(due_slot, due.start))
        return (due_slot, due) if order is None else (due_slot[order], due.take(order))

    def _place(self, slot: Ints, start: Ints) -> Ints:
        """Numbers (n,) that are in the order of slots, and of starts within one."""
        if not len(slot):
            return slot
        number = start // self.size_ms
        low = number.min()
        place: Ints = slot * (number.max() - low + 1) + (number - low)
        return place

    def _cell(self, slot: Ints, start: Ints) -> Ints:
        return slot * self.depth + start // self.size_ms % self.depth

    def _with_open(self, slot: Ints, parts: Moments) -> tuple[Ints, Moments]:
        """Put what the cells already hold of the parts' windows before the parts, and clear those cells."""
        if not len(slot):
            return slot, parts
        start = parts.start // self.size_ms * self.size_ms
        cells = self._cell(slot, start)
        held = self.rows.start[cells] == start
        if not held.any():
            return slot, parts
        cell = np.unique(cells[held])
        rows = self.rows.take(cell)
        self.rows.start[cell] = NEVER
        return np.concatenate([cell // self.depth, slot]), join(rows, parts)

    def _summed(self, slot: Ints, parts: Moments) -> tuple[Ints, Moments]:
        start = parts.start // self.size_ms * self.size_ms
        place = self._place(slot, start)
        order = _order(place)
        if order is not None:
            slot, start, parts, place = slot[order], start[order], parts.take(order), place[order]
        new = np.empty(len(slot), dtype=bool)
        new[0] = True
        np.not_equal(place[1:], place[:-1], out=new[1:])
        begin = np.flatnonzero(new)
        if len(begin) == len(slot):  # nothing to sum: the rule where sensors read seldom
            return slot, _rebase(parts, start, parts.shift)
        return slot[begin], _fold(parts, start, np.cumsum(new) - 1, begin)

    def _take_due(self, closed: Ints, moved: Ints) -> tuple[Ints, Moments]:
        """Remove the windows that are over of the sensors whose time has moved."""
        cells = (moved[:, None] * self.depth + np.arange(self.depth)).ravel()
        start = self.rows.start[cells]
        due = cells[(start != NEVER) & (start + self.size_ms <= np.repeat(closed[moved], self.depth))]
        rows = self.rows.take(due)
        self.rows.start[due] = NEVER
        return due // self.depth, rows


def mean(rows: Moments) -> Floats:
    """The mean of each window, of shape (n,)."""
    return rows.shift + rows.value_sum / rows.count


def deviation(rows: Moments) -> Floats:
    """The population's standard deviation of each window, of shape (n,)."""
    about = rows.value_sum / rows.count
    return np.sqrt(np.maximum(rows.value_square / rows.count - about * about, 0.0))


def trend(rows: Moments) -> Floats:
    """The least-squares slope of each window in units per second, of shape (n,); 0 where all stamps are equal."""
    # About the mean's whole part: exact, and 0 where all stamps are equal. Products of the plain sums are beyond int64 at
    # 300,000 readings in a window of 10 s.
    middle = rows.time_sum // rows.count
    rest = rows.time_sum - middle * rows.count
    spread = (rows.time_square - middle * (rows.time_sum + rest)) - rest * (rest / rows.count)
    product = rows.time_value - rows.time_sum / rows.count * rows.value_sum
    level = spread <= 0
    return np.where(level, 0.0, 1000.0 * product / np.where(level, 1.0, spread))
