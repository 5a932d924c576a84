"""How long after each moment it went on."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamproc.records import SeverityEvent, WindowRows
from tests.chaos.moments import Moment, Moments, Offsets, Sign


@dataclass(frozen=True, slots=True)
class Recovery:
    """Seconds from a moment until it went on, by the moment's sign; of a flow, how long it stopped at most.

    `seconds` is None where the next fault came first, `cut_s` after the moment; `all_s` is that of the partition that went
    on last, None where one did not.
    """

    moment: Moment
    seconds: float | None
    all_s: float | None
    cut_s: float

    def slow(self, bound_s: float) -> bool:
        """Whether it took longer than that for certain."""
        return (self.cut_s if self.seconds is None else self.seconds) > bound_s

    def __str__(self) -> str:
        """For the report."""
        if self.seconds is None:
            return f"{self.moment.name}: none within {self.cut_s:.1f} s"
        every = f", all partitions {self.all_s:.1f} s" if self.all_s is not None else ""
        return f"{self.moment.name}: {self.seconds:.1f} s{every}"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a run has left: topics by partition, how far the database had come when, and when the gateway took what.

    `taken` has (begun, told) of each request that was taken, `silence` a partition and from when to when it got nothing; ms.
    """

    held: Mapping[str, dict[int, list[Any]]]
    rows: Sequence[tuple[int, Offsets]]
    taken: Sequence[tuple[int, int]]
    silence: tuple[int, int, int]
    prefix: str


def recoveries(moments: Moments, end_ms: int, evidence: Evidence) -> list[Recovery]:
    """The recovery from each moment, by the timestamps of records; what the next fault came into has no seconds."""
    readings = {number: _Readings(records) for number, records in evidence.held["readings"].items()}
    results = {number: _results(evidence.held, number) for number in readings}
    found = []
    for moment in moments.noted:
        until = moments.until(moment, end_ms)
        if moment.sign is Sign.FLOW:
            stops = _stops(moment, until, results, evidence.silence)
            found.append(_recovery(moment, until, max(stops, default=None), None))
            continue
        if moment.sign is Sign.TAKEN:
            firsts = [min((told for begun, told in evidence.taken if begun >= moment.at_ms), default=None)]
        elif moment.sign is Sign.ROW:
            firsts = [_stored(evidence, n, readings[n].first(moment.at_ms)) for n in moment.partitions]
        else:
            firsts = [
                _made(results[n], moment.at_ms, readings[n].first(moment.at_ms)) for n in moment.partitions
            ]
        seconds = [(at - moment.at_ms) / 1000 for at in firsts if at is not None and at <= until]
        every = max(seconds) if seconds and len(seconds) == len(firsts) > 1 else None
        found.append(_recovery(moment, until, min(seconds, default=None), every))
    return found


def _recovery(moment: Moment, until: int, seconds: float | None, all_s: float | None) -> Recovery:
    return Recovery(moment, seconds, all_s, (until - moment.at_ms) / 1000)


class _Readings:
    """A partition's readings: their stamps and offsets."""

    def __init__(self, records: list[Any]) -> None:
        self._stamps: NDArray[np.int64] = np.array([record.timestamp for record in records], dtype=np.int64)
        self._offsets = [record.offset for record in records]

    def first(self, at_ms: int) -> int | None:
        """The offset of the first one from then on."""
        later = np.flatnonzero(self._stamps >= at_ms)
        return self._offsets[int(later[0])] if len(later) else None


def _results(held: Mapping[str, dict[int, list[Any]]], partition: int) -> list[tuple[int, int]]:
    """(timestamp, last offset of `readings`) of each result of a partition, by timestamp."""
    found = []
    for record in held["windows"][partition]:
        rows = msgspec.json.decode(record.value, type=WindowRows)
        found.append((record.timestamp, max(rows.last_offset)))
    for record in held["events"][partition]:
        event = msgspec.json.decode(record.value, type=SeverityEvent)
        found.append((record.timestamp, event.lineage.last_offset))
    return sorted(found)


def _made(results: list[tuple[int, int]], at_ms: int, offset: int | None) -> int | None:
    """When (ms) the first result came that was made of the record at `offset` or later ones."""
    if offset is None:
        return None
    begin = bisect_left(results, (at_ms, 0))
    return next((stamp for stamp, last in results[begin:] if last >= offset), None)


def _stops(
    moment: Moment, until: int, results: Mapping[int, list[tuple[int, int]]], silence: tuple[int, int, int]
) -> list[float]:
    """Of each partition the longest time without a result; not of the one that got no readings meanwhile."""
    silent, begin, end = silence
    overlaps = begin < until and moment.at_ms < end
    found = []
    for partition in moment.partitions:
        if overlaps and partition == silent:
            continue
        stamps = [stamp for stamp, _ in results[partition] if moment.at_ms < stamp < until]
        found.append(max(after - before for before, after in pairwise([moment.at_ms, *stamps, until])) / 1000)
    return found


def _stored(evidence: Evidence, partition: int, offset: int | None) -> int | None:
    """When (ms) the database was seen to have the reading at `offset`."""
    if offset is None:
        return None
    place = (f"{evidence.prefix}readings", partition)
    return next((at for at, told in evidence.rows if told.get(place, 0) > offset), None)
