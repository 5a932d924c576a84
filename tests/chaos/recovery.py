"""How long after each kill the first new result came."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from streamproc.records import SeverityEvent, WindowRows
from tests.chaos.faults import Broken


@dataclass(frozen=True, slots=True)
class Recovery:
    """Seconds from a kill (or from the broker's return) to the first result made of records that came after it.

    `seconds` is None where none came before the next fault; `all_s` is that of the partition that had its first last.
    """

    kind: str
    at_ms: int
    seconds: float | None
    all_s: float | None
    cut_s: float


def recoveries(
    broken: list[Broken], begun: list[int], end_ms: int, held: Mapping[str, dict[int, list[Any]]]
) -> list[Recovery]:
    """The recovery from each moment, by the timestamps of records; what the next fault came into has no seconds."""
    results = {partition: _results(held, partition) for partition in held["readings"]}
    found = []
    for moment in broken:
        until = min([at for at in begun if at > moment.at_ms] + [end_ms])
        firsts = [
            _first(held["readings"][partition], results[partition], moment.at_ms)
            for partition in moment.partitions
        ]
        seconds = [(at - moment.at_ms) / 1000 for at in firsts if at is not None and at <= until]
        found.append(
            Recovery(
                moment.kind,
                moment.at_ms,
                min(seconds, default=None),
                max(seconds) if seconds and len(seconds) == len(firsts) else None,
                (until - moment.at_ms) / 1000,
            )
        )
    return found


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


def _first(readings: list[Any], results: list[tuple[int, int]], at_ms: int) -> int | None:
    """When the first result came that was made of records from `at_ms` on."""
    stamps = np.array([record.timestamp for record in readings], dtype=np.int64)
    later = np.flatnonzero(stamps >= at_ms)
    if not len(later):
        return None
    offset = readings[int(later[0])].offset
    begin = bisect_left(results, (at_ms, 0))
    return next((stamp for stamp, last in results[begin:] if last >= offset), None)
