"""A `timestamp,value` file, read some rows at a time."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from functools import lru_cache
from math import isfinite, nan
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streamproc.core.codec import TS_LIMIT, VALUE_LIMIT, to_ms
from streamproc.core.counted import counted
from streamproc.core.windows import Floats, Ints
from streamproc.detect.arriving import Arriving
from streamproc.errors import SeriesError

if TYPE_CHECKING:
    from _csv import Reader

COLUMNS = ("timestamp", "value")
#: How long a date is, and with it a time to the second; and one that a time of day can be read with.
_DATE, _PLAIN, _ANY_DAY = 10, 19, "2000-01-02"
#: From so many times on columns are faster (measured).
_MANY = 128
#: Where a plain time's signs stand, the end of its line with them, and the digits of its time of day: the greatest that each
#: can be (hours from 24 on show in the sum), and the ms that it counts for.
_SIGNS, _SIGNS_OF_PLAIN = np.array([4, 7, 13, 16, _PLAIN]), np.frombuffer(b"--::\n", np.uint8)
_CLOCK, _CLOCK_MOST = np.array([11, 12, 14, 15, 17, 18]), np.array([2, 9, 5, 9, 5, 9], np.uint8)
_CLOCK_MS = 1_000 * np.array([36_000, 3_600, 600, 60, 10, 1])
_DAY_MS = 86_400_000
#: As much of a faulty field as an error shows.
_SHOWN = 40


class Block(NamedTuple):
    """Rows in columns: the fields as they are written, the times in ms, and the numbers, NaN where one is missing."""

    timestamp: list[str]
    text: list[str]
    at_ms: Ints
    value: Floats


class _Rows(NamedTuple):
    """Rows that are not blank, as fields, and the lines that they end in."""

    fields: list[list[str]]
    lines: list[int]


def read(lines: Iterable[str], size: int) -> Iterator[Block]:
    """Read `size` rows at a time, in their order; raises SeriesError that names line and column, after the rows before.

    Of lines that are Arriving, those that have come are read, and none is waited for while there are any.

    A header must name both columns, in any order and case; other columns and blank lines are passed over.
    A time is ISO 8601 (`2024-05-01 12:00:00`; UTC where it names no zone) or epoch seconds, from 1970 to
    2100; times may repeat and run backwards. An empty value is a missing reading.
    """
    rows = csv.reader(lines, strict=True)
    try:
        at, of = _header(next(rows, []))
    except csv.Error as error:
        raise SeriesError(f"line {rows.line_num}: {error}") from None
    come = lines if isinstance(lines, Arriving) else None
    fault, more = None, True
    while fault is None and more:
        taken = _Rows([], [])
        try:
            more = _take(rows, taken, size, come)
        except csv.Error as error:
            fault = SeriesError(f"line {rows.line_num}: {error}")
        block, wrong = _block(taken, at, of)
        fault = wrong or fault
        if block.text:
            yield block
    if fault is not None:
        raise fault


def _take(rows: Reader, taken: _Rows, size: int, come: Arriving | None) -> bool:
    """Take over `size` rows, or what there is of them; returns whether there may be more."""
    fields, lines = taken
    for row in rows:
        if row:
            fields.append(row)
            lines.append(rows.line_num)
        if lines and (len(lines) == size or (come is not None and not come.waiting)):
            return True
    return False


def _block(rows: _Rows, at: int, of: int) -> tuple[Block, SeriesError | None]:
    """Read times and values, which are at these places; where one is at fault, the rows before it, and the fault."""
    try:
        stamps, texts = [row[at].strip() for row in rows.fields], [row[of].strip() for row in rows.fields]
        value = np.array([float(text) if text else nan for text in texts]) + 0.0
        block = Block(stamps, texts, _times(stamps), value)
    except (ValueError, OverflowError, IndexError):
        return _up_to_fault(rows, at, of)
    fine = int(np.count_nonzero(np.abs(value) <= VALUE_LIMIT)) + texts.count("")
    return (block, None) if fine == len(texts) else _up_to_fault(rows, at, of)


def _up_to_fault(rows: _Rows, at: int, of: int) -> tuple[Block, SeriesError | None]:
    """The same row by row."""
    stamps, texts, times, values = list[str](), list[str](), list[int](), list[float]()
    fault = None
    for row, line in zip(*rows, strict=True):
        try:
            stamp, text, at_ms, value = _row(row, line, at, of)
        except SeriesError as error:
            fault = error
            break
        stamps.append(stamp)
        texts.append(text)
        times.append(at_ms)
        values.append(value)
    return Block(stamps, texts, np.array(times, dtype=np.int64), np.array(values, dtype=np.float64)), fault


def _row(row: list[str], line: int, at: int, of: int) -> tuple[str, str, int, float]:
    if len(row) <= max(at, of):
        raise SeriesError(f"line {line}: {counted(len(row), 'column')}; `timestamp` and `value` are wanted")
    stamp, text = row[at].strip(), row[of].strip()
    return stamp, text, _time(stamp, line), _value(text, line)


def _header(header: list[str]) -> tuple[int, int]:
    """Return the places of the two columns."""
    names = [name.strip().lower().removeprefix("\ufeff") for name in header]
    for column in COLUMNS:
        if column not in names:
            raise SeriesError(
                f"line 1: no column `{column}`; the first line must name `timestamp` and `value`"
            )
    return names.index("timestamp"), names.index("value")


def _times(texts: list[str]) -> Ints:
    """Return the times of texts; raises ValueError where one may be at fault.

    Most are written as `2024-05-01 12:00:00`. Their days and times of day come again and again: the sum of two that are known
    costs a third of reading it anew, and in columns a tenth.
    """
    at_ms = _in_columns(texts) if len(texts) >= _MANY else None
    if at_ms is None:
        at_ms = _one_by_one(texts)
    if np.count_nonzero((at_ms < 0) | (at_ms > TS_LIMIT * 1000)):
        raise ValueError("beyond 1970 to 2100")
    return at_ms


def _in_columns(texts: list[str]) -> Ints | None:
    """Return the times of texts that are all plain, None where one is not; raises ValueError where a date is none."""
    lines = "\n".join([*texts, ""])
    if len(lines) != len(texts) * (_PLAIN + 1) or not lines.isascii():
        return None
    written = np.frombuffer(lines.encode(), np.uint8).reshape(len(texts), _PLAIN + 1)
    clock = written[:, _CLOCK] - ord("0")  # what is below it wraps around
    if (written[:, _SIGNS] != _SIGNS_OF_PLAIN).any() or (clock > _CLOCK_MOST).any():
        return None
    of_day = clock @ _CLOCK_MS
    if of_day.max() >= _DAY_MS:
        return None
    other = np.append(True, (written[1:, :_DATE] != written[:-1, :_DATE]).any(axis=1))
    days = np.array([_day(texts[row][:_DATE]) for row in np.flatnonzero(other).tolist()])
    at_ms: Ints = days[np.cumsum(other) - 1] + of_day
    return at_ms


def _one_by_one(texts: list[str]) -> Ints:
    """The same of any texts."""
    times, date, day = [], "", 0
    for text in texts:
        if len(text) != _PLAIN:
            times.append(_any_time(text))
            continue
        if text[:_DATE] != date:
            day = _day(text[:_DATE])
            date = text[:_DATE]
        times.append(day + _clock(text[_DATE:]))
    return np.array(times, dtype=np.int64)


def _time(text: str, line: int) -> int:
    try:
        return _any_time(text)
    except (ValueError, OverflowError):
        shown = text[:_SHOWN]
        raise SeriesError(f"line {line}, column timestamp: not a time from 1970 to 2100: {shown!r}") from None


def _any_time(text: str) -> int:
    # Most times are written so; that they are no numbers need not be found out each time.
    if text[4:5] == "-" and text[:4].isdecimal():
        return to_ms(text)
    return to_ms(_seconds(text))


@lru_cache(maxsize=1_000)  # three years
def _day(text: str) -> int:
    if text[4:5] != "-" or not text[:4].isdecimal():
        raise ValueError("not a date")
    return to_ms(text)


@lru_cache(maxsize=86_400)  # as many as there are
def _clock(text: str) -> int:
    return to_ms(_ANY_DAY + text) - to_ms(_ANY_DAY)


def _seconds(text: str) -> float | str:
    """Return epoch seconds where it is a number, else the text; raises ValueError."""
    try:
        stamp = float(text)
    except ValueError:
        return text
    if not 0 <= stamp <= TS_LIMIT:
        raise ValueError("beyond 1970 to 2100")
    return stamp


def _value(text: str, line: int) -> float:
    if not text:
        return nan
    try:
        value = float(text)
    except ValueError:
        raise SeriesError(f"line {line}, column value: not a number: {text[:_SHOWN]!r}") from None
    if not isfinite(value) or abs(value) > VALUE_LIMIT:
        raise SeriesError(f"line {line}, column value: not a number from -1e100 to 1e100: {text[:_SHOWN]!r}")
    return value + 0.0
