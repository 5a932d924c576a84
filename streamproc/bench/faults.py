"""`streamproc bench faults`: which faults of a catalogue the engine finds, how soon, and its false alarms on clean series.

Synthetic readings go through the engine's core as a worker runs it: records of a partition in chunks, windows, learners,
rules and severity. Each series is sent twice: by a sensor that the registry does not know, so that only learners judge it,
and by one with the ranges and rules of docs/severity.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import isfinite

import numpy as np

from streamproc.bench.fault_series import DAY_MS, FAULTS, KINDS, LEVEL, SWING, Fault, Rows, Size, Source
from streamproc.bench.fault_site import Signal, Site
from streamproc.core.windows import BASE_MS, Ints
from streamproc.records import (
    DeltaSpike,
    Expression,
    NoData,
    Range,
    RateOfChange,
    Rule,
    SensorEntry,
    Severity,
    StuckValue,
)

#: How often sensors speak.
SAMPLINGS_MS = {"1s": 1_000, "10s": 10_000, "1min": 60_000, "5min": 300_000}
#: What faults are put into.
BASES = ("white", "daily")
SIZES = ("small", "medium", "large")
#: Rows before a fault: the learners' longest memory twice …
HISTORY = 1_000
#: … and with a season where a week can be had in as many rows as these: days are believed after a week.
SEASON_MS, SEASON_ROWS = 7.5 * DAY_MS, 12_000
#: A fault begins up to so many rows later, for each sensor its own.
SCATTER = 60
#: Rows after a fault is of its size, or is over, in which it is found or missed.
LATEST, LATEST_OVER = 60, 3
#: Rows in which a large fault is to be found.
SOON = 3
#: Alarms on clean series in USUAL_DAYS sensor-days, at most.
ALLOWED = 1.0
#: Rows are made so many values at a time.
_BLOCK = 200_000
#: Kinds of clean series that stay within ranges.
RANGED = ("white", "daily")


@dataclass(frozen=True, slots=True)
class Days:
    """So many sensors, for so many days each."""

    sensors: int
    days: int


#: How long clean series are watched, for each 30 sensor-days that are asked for: of slow sensors more, for they cost less.
WATCHED = {"1s": Days(30, 1), "10s": Days(60, 2), "1min": Days(30, 14), "5min": Days(100, 21)}
USUAL_DAYS = 30


@dataclass(slots=True)
class Found:
    """How often one size of a fault was found, in how many rows from when it was of that size, and by what first."""

    base: str
    sampling: str
    fault: Fault
    size: int
    ruled: bool
    tried: int = 0
    delays: list[int] = field(default_factory=list)
    by: Counter[str] = field(default_factory=Counter)

    @property
    def part(self) -> float:
        """The part that was found."""
        return len(self.delays) / self.tried

    @property
    def soon(self) -> float:
        """The part that was found soon."""
        return sum(delay <= SOON for delay in self.delays) / self.tried

    def delay(self, part: float) -> int:
        """The delay of that part of those found, at most."""
        return sorted(self.delays)[max(0, int(np.ceil(part * len(self.delays))) - 1)]


@dataclass(slots=True)
class Clean:
    """What was told of one kind of clean series: times that sensors left NORMAL, by cause."""

    kind: str
    sampling: str
    ruled: bool
    sensor_days: float
    alarms: Counter[str] = field(default_factory=Counter)

    @property
    def a_month(self) -> float:
        """Alarms in 30 sensor-days."""
        return USUAL_DAYS * self.alarms.total() / self.sensor_days


def entry(sensor: str, every_ms: int, swing: float) -> SensorEntry:
    """What docs/faults.md recommends for a sensor whose usual values go up and down by `swing`.

    It has no warning range: within one learners raise nothing, which is for those who know better.
    """
    rules: list[Rule] = [
        DeltaSpike(absolute=8.0),
        NoData(seconds=3 * every_ms / 1_000),
        StuckValue(seconds=10 * every_ms / 1_000),
    ]
    if every_ms == BASE_MS:  # slower sensors have no windows of several readings
        rules += [RateOfChange(1.0), Expression("deviation_10s > 4")]
    far = swing + 10
    return SensorEntry(sensor, critical=Range(LEVEL - far, LEVEL + far), rules=tuple(rules))


@dataclass(frozen=True, slots=True)
class _Case:
    """One size of one fault, and the columns that it is put into: as many without rules as with."""

    fault: Fault
    size: int
    columns: slice

    @property
    def its(self) -> Size:
        """The size itself."""
        return self.fault.sizes[self.size]


class Trial:
    """Faults in all sizes, each `seeds` times, at one sampling and in one kind of series."""

    def __init__(
        self,
        base: str,
        sampling: str,
        seeds: int,
        *,
        faults: Sequence[Fault] = FAULTS,
        chunk: int | None = None,
    ) -> None:
        self.base, self.sampling, self.every_ms = base, sampling, SAMPLINGS_MS[sampling]
        cases = [(fault, size) for fault in faults for size in range(len(SIZES))]
        self.cases = [
            _Case(fault, size, slice(i * seeds, (i + 1) * seeds)) for i, (fault, size) in enumerate(cases)
        ]
        self.count = len(cases) * seeds
        self.source = Source(base, self.count, self.every_ms, 1)
        scatter = np.random.default_rng([2, self.every_ms]).integers(0, SCATTER, self.count)
        self.onset: Ints = scatter.copy()
        for case in self.cases:
            self.onset[case.columns] += _history(base, self.every_ms, case.fault)
        self.end: Ints = self.onset.copy()
        for case in self.cases:
            self.end[case.columns] += _last(case.its, self.every_ms) + LATEST
        self.before = np.zeros(self.count)
        names = [f"s{i}" for i in range(self.count)]
        ruled = [f"{name}-ruled" for name in names]
        entries = {name: entry(name, self.every_ms, SWING if base == "daily" else 0.0) for name in ruled}
        options = {} if chunk is None else {"chunk": chunk}
        self.site = Site([*names, *ruled], self.every_ms, entries, **options)

    def run(self) -> tuple[list[Found], list[Clean]]:
        """Play it; gives what was found, and what was told before there was any fault."""
        signals = list(self._signals())
        first = np.full(2 * self.count, -1)
        by: dict[int, Signal] = {}
        last = self.onset.copy()
        for case in self.cases:
            last[case.columns] += _latest(case.its, self.every_ms)
        clean = [self._clean(ruled=ruled) for ruled in (False, True)]
        for signal in signals:
            at, ruled = signal.sensor % self.count, signal.sensor >= self.count
            if signal.row < self.onset[at]:
                if signal.raised and not signal.previous:
                    clean[ruled].alarms[signal.cause] += 1
            elif (
                first[signal.sensor] < 0
                and signal.row <= last[at]
                and (signal.raised or signal.what != "severity")
            ):
                first[signal.sensor], by[signal.sensor] = signal.row, signal
        return [
            self._found(case, first, by, ruled=ruled) for case in self.cases for ruled in (False, True)
        ], clean

    def _clean(self, *, ruled: bool) -> Clean:
        days = float(self.onset.sum()) * self.every_ms / DAY_MS
        return Clean(f"{self.base}, before faults", self.sampling, ruled, days)

    def _found(self, case: _Case, first: Ints, by: dict[int, Signal], *, ruled: bool) -> Found:
        found = Found(self.base, self.sampling, case.fault, case.size, ruled)
        evident = case.its.evident(self.every_ms)
        for at in range(self.count)[case.columns]:
            sensor = at + ruled * self.count
            found.tried += 1
            if first[sensor] >= 0:
                found.delays.append(int(first[sensor] - self.onset[at]) + 1 - evident)
                found.by[by[sensor].cause or by[sensor].what] += 1
        return found

    def _signals(self) -> Iterator[Signal]:
        row, last = 0, int(self.end.max())
        while row < last:
            alive = int(np.count_nonzero(self.end > row))
            rows = min(max(1, _BLOCK // (2 * alive)), last - row)
            yield from self._play(row, rows)
            row += rows

    def _play(self, row: int, count: int) -> Iterator[Signal]:
        usual, value = self.source.rows(count)
        at = row + np.arange(count)[:, None]
        since = at - self.onset
        place, sensor = np.nonzero(since == -1)
        self.before[sensor] = value[place, sensor]
        sent, shift = at < self.end, np.zeros(since.shape, dtype=np.int64)
        rows = Rows(usual, value, since, self.before, sent, shift)
        if (since >= 0).any():
            for case in self.cases:
                case.fault.put(rows.of(case.columns), case.its, self.every_ms)
        yield from self.site.send(row, np.tile(value, 2), np.tile(sent, 2), np.tile(shift, 2))


def _history(base: str, every_ms: int, fault: Fault) -> int:
    """Rows before a fault."""
    week, known = round(SEASON_MS / every_ms), round(fault.known_days * DAY_MS / every_ms)
    season = week if base == "daily" and week <= SEASON_ROWS else 0
    return max(HISTORY, season, known)


def _last(size: Size, every_ms: int) -> int:
    """Rows from the first until nothing more happens."""
    return max(size.evident(every_ms), int(size.over) if isfinite(size.over) else 0)


def _latest(size: Size, every_ms: int) -> int:
    """Rows from the first in which the fault is found or missed."""
    if isfinite(size.over):
        return int(size.over) + LATEST_OVER - 1
    return size.evident(every_ms) + LATEST


def watch(sampling: str, factor: int = 1) -> list[Clean]:
    """What is told of clean series of all kinds at one sampling; each `factor` gives as many sensors again."""
    every_ms, watched = SAMPLINGS_MS[sampling], WATCHED[sampling]
    sensors = watched.sensors * factor
    told = [Clean(kind, sampling, False, sensors * watched.days) for kind in KINDS]
    told += [Clean(kind, sampling, True, sensors * watched.days) for kind in RANGED]
    sources = {kind: Source(kind, sensors, every_ms, 3) for kind in KINDS}
    names, entries = [], {}
    for one in told:
        for number in range(sensors):
            name = f"{one.kind}-{number}" + ("-ruled" if one.ruled else "")
            names.append(name)
            if one.ruled:
                entries[name] = entry(name, every_ms, SWING if one.kind == "daily" else 0.0)
    site = Site(names, every_ms, entries)
    last, block = watched.days * DAY_MS // every_ms, max(1, _BLOCK // len(names))
    for row in range(0, last, block):
        rows = {kind: source.rows(min(block, last - row))[1] for kind, source in sources.items()}
        for signal in site.send(row, np.concatenate([rows[one.kind] for one in told], axis=1)):
            if signal.raised and signal.previous == Severity.NORMAL:
                told[signal.sensor // sensors].alarms[signal.cause] += 1
    return told
