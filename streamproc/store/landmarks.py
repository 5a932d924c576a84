"""Where the rows of a range of records begin among the readings, by the rows of every 64th record. Pure: no SQL."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

#: Rows of landmarks that are looked at before a range: those of 4,096 records where each has a reading.
BEFORE = 64


class Landmarks(NamedTuple):
    """Row numbers of a range: of landmarks just before it the least and greatest, inside the least; None where none is."""

    first: int | None
    last: int | None
    inside: int | None


def first_row(ranges: Iterable[Landmarks]) -> int:
    """A row number that no reading of the ranges is below; 0 where that cannot be told.

    A new row's number is above all others, and a partition's records are written in their order: rows of earlier records have
    lower numbers, unless they were lost and written again.

    >>> first_row([Landmarks(70, 90, 95), Landmarks(60, 80, None)])
    60
    >>> first_row([Landmarks(70, 90, 85)])
    0
    """
    lowest = []
    for first, last, inside in ranges:
        if first is None or last is None or (inside is not None and last > inside):
            return 0  # the table may be no older than the range, or the rows are not in order
        lowest.append(first)
    return min(lowest, default=0)
