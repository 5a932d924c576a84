"""Which of the three pipelines each reading is for: alerts, warnings or predictions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from streamproc.core.ranges import breaches
from streamproc.core.sensor_state import SensorState, Steps
from streamproc.core.severity import SeverityBank
from streamproc.core.spikes import Spike, SpikeRules, Verdicts
from streamproc.core.watermarks import Runs
from streamproc.core.windows import Bools, Floats, Ints, Moments
from streamproc.records import DeltaSpike, SensorEntry


class Pipeline(IntEnum):
    """What a reading is told by: the higher number wins.

    ALERTS are readings outside the critical range, WARNINGS those outside the warning range and jumps, PREDICTIONS the
    normal ones, of which nobody hears but by what learners say of their windows.
    """

    PREDICTIONS = 0
    WARNINGS = 1
    ALERTS = 2


@dataclass(frozen=True, slots=True)
class Observed:
    """What a chunk showed, by sensor: its readings (n,), and the base windows that closed with it (m,).

    `closed` (n,) is up to where the sensor's windows were closed when the reading came: it orders the two.
    """

    runs: Runs
    ts: Ints
    value: Floats
    offset: Ints
    closed: Ints
    window_slot: Ints
    rows: Moments

    @property
    def slot(self) -> Ints:
        """The sensor of each reading (n,)."""
        return self.runs.slot


@dataclass(frozen=True, slots=True)
class Classified:
    """A chunk's readings: `breach` (n,) is the range that each is out of (0 none, 1 warning, 2 critical).

    `spikes` has the jumps by the reading's row, those that only come near to one with a severity of 0.
    """

    breach: NDArray[np.int8]
    spikes: dict[int, Spike]

    def pipelines(self, rows: Ints) -> NDArray[np.int8]:
        """The pipeline of each of these rows (k,)."""
        jumped = [row for row, spike in self.spikes.items() if spike.severity]
        if not jumped:
            return self.breach[rows]
        least = np.where(np.isin(rows, jumped), Pipeline.WARNINGS, Pipeline.PREDICTIONS)
        return np.maximum(self.breach[rows], least).astype(np.int8)

    def notable(self) -> Ints:
        """The rows that a pipeline must look at by themselves, in their order."""
        rows: Ints = np.flatnonzero(self.breach)
        return np.union1d(rows, np.array(list(self.spikes), dtype=np.int64)) if self.spikes else rows


class ReadingClassifier:
    """Sorts readings by the user's ranges and rules, in columns; `states` is what each sensor last read."""

    def __init__(self, severity: SeverityBank) -> None:
        self._severity = severity
        self.states, self.rules = SensorState(), SpikeRules()

    def grow(self, n: int) -> None:
        """Append `n` sensors that have read nothing and have no rules."""
        self.states.grow(n)
        self.rules.grow(n)

    def limit(self, slot: int, entry: SensorEntry | None) -> None:
        """Sort a sensor's readings by the rules in its entry from now on."""
        self.rules.put(slot, [rule for rule in entry.rules if isinstance(rule, DeltaSpike)] if entry else ())

    def classify(self, seen: Observed) -> Classified:
        """Sort a chunk's readings, and take them in as what their sensors last read."""
        watched = self.rules.ruled if self.rules else None
        steps = self.states.advance(seen.runs, seen.ts, seen.value, seen.offset, watched)
        return Classified(self._breaches(seen), self._spikes(seen, steps) if steps else {})

    def _breaches(self, seen: Observed) -> NDArray[np.int8]:
        bounds = self._severity.bounds
        breach = np.zeros(len(seen.slot), dtype=np.int8)
        limited: Bools = np.asarray(np.isfinite(bounds).any(axis=1))
        at = np.flatnonzero(limited[seen.slot])
        if len(at):
            breach[at] = breaches(seen.value[at], bounds[seen.slot[at]])
        return breach

    def _spikes(self, seen: Observed, steps: Steps) -> dict[int, Spike]:
        slot = seen.slot[steps.at]
        verdicts = self.rules.judge(slot, steps.previous, seen.value[steps.at], steps.lapse_ms)
        # What only comes near counts for a sensor that is up already, or that jumps in this chunk.
        jumped = verdicts.severity > 0
        up = (self._severity.level[slot] > 0) | np.isin(slot, slot[jumped])
        rows = np.flatnonzero(jumped | (verdicts.near & up))
        return {int(steps.at[row]): self._spike(seen, steps, verdicts, row) for row in rows.tolist()}

    def _spike(self, seen: Observed, steps: Steps, verdicts: Verdicts, row: int) -> Spike:
        at = int(steps.at[row])
        return Spike(
            at=int(seen.ts[at]),
            value=float(seen.value[at]),
            offset=int(seen.offset[at]),
            previous=float(steps.previous[row]),
            lapse_ms=int(steps.lapse_ms[row]),
            first_offset=int(steps.first_offset[row]),
            allowed=float(verdicts.allowed[row]),
            severity=int(verdicts.severity[row]),
            rule=self.rules.rule(int(seen.slot[at]), int(verdicts.rule[row])),
        )
