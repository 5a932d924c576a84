"""A `timestamp,value` file, read row by row."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from functools import lru_cache
from math import isfinite
from typing import NamedTuple

from streamproc.core.codec import TS_LIMIT, VALUE_LIMIT, to_ms
from streamproc.errors import SeriesError

COLUMNS = ("timestamp", "value")
#: How long a date is, and with it a time to the second; and one that a time of day can be read with.
_DATE, _PLAIN, _ANY_DAY = 10, 19, "2000-01-02"
#: As much of a faulty field as an error shows.
_SHOWN = 40


class Sample(NamedTuple):
    """One row: its fields as they are written, the time in ms, and the number, None where it is missing."""

    timestamp: str
    text: str
    at_ms: int
    value: float | None


def read(lines: Iterable[str]) -> Iterator[Sample]:
    """Read the samples in the order of the rows; raises SeriesError that names line and column.

    A header must name both columns, in any order and case; other columns and blank lines are passed over.
    A time is ISO 8601 (`2024-05-01 12:00:00`; UTC where it names no zone) or epoch seconds, from 1970 to
    2100; times may repeat and run backwards. An empty value is a missing reading.
    """
    rows = csv.reader(lines, strict=True)
    try:
        at, of = _header(next(rows, []))
        least = max(at, of)
        for row in rows:
            if not row:
                continue
            if len(row) <= least:
                raise SeriesError(
                    f"line {rows.line_num}: {len(row)} columns; `timestamp` and `value` are wanted"
                )
            stamp, text = row[at].strip(), row[of].strip()
            yield Sample(stamp, text, _time(stamp, rows.line_num), _value(text, rows.line_num))
    except csv.Error as error:
        raise SeriesError(f"line {rows.line_num}: {error}") from None


def _header(header: list[str]) -> tuple[int, int]:
    """Return the places of the two columns."""
    names = [name.strip().lower().removeprefix("\ufeff") for name in header]
    for column in COLUMNS:
        if column not in names:
            raise SeriesError(
                f"line 1: no column `{column}`; the first line must name `timestamp` and `value`"
            )
    return names.index("timestamp"), names.index("value")


def _time(text: str, line: int) -> int:
    try:
        # Most times are written so; that they are no numbers need not be found out each time.
        if text[4:5] == "-" and text[:4].isdecimal():
            return _plain(text) if len(text) == _PLAIN else to_ms(text)
        return to_ms(_seconds(text))
    except (ValueError, OverflowError):
        shown = text[:_SHOWN]
        raise SeriesError(f"line {line}, column timestamp: not a time from 1970 to 2100: {shown!r}") from None


def _plain(text: str) -> int:
    """Return the time of a text such as `2024-05-01 12:00:00`; raises ValueError.

    Days and times of day come again and again: the sum of two that are known costs a third of reading it anew.
    """
    try:
        at_ms = _day(text[:_DATE]) + _clock(text[_DATE:])
    except ValueError:
        return to_ms(text)  # such as a week
    if not 0 <= at_ms <= TS_LIMIT * 1000:
        raise ValueError("beyond 1970 to 2100")
    return at_ms


@lru_cache(maxsize=1_000)  # three years
def _day(text: str) -> int:
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


def _value(text: str, line: int) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        raise SeriesError(f"line {line}, column value: not a number: {text[:_SHOWN]!r}") from None
    if not isfinite(value) or abs(value) > VALUE_LIMIT:
        raise SeriesError(f"line {line}, column value: not a number from -1e100 to 1e100: {text[:_SHOWN]!r}")
    return value + 0.0
