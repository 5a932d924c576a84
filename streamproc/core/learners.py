"""Learners: what is usual for each sensor, learnt online, and how far from it each closed window is.

A sensor's level and its squared error are River's `EWMean`, one object each; what else is remembered stands in a row
of numbers beside them. The formulas are in `judgement`. Windows of many sensors are judged as columns, a long run of
one sensor's windows one by one, with the same bits for result: how calls batch the windows never matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from river.stats import EWMean

from streamproc.core.judgement import (
    EVIDENCE,
    FADING,
    LEARNT_ERROR,
    LEARNT_LEVEL,
    WEIGHT,
    WIDTH,
    WINDOWS,
    Judgement,
    judge,
)
from streamproc.core.tails import COLUMNS, SINGLE, Value, anomaly_of

__all__ = ["EVIDENCE", "WIDTH", "LearnerBank", "Scores"]

#: Below so many sensors at once, one by one is faster than columns (measured: they meet at 12 to 20).
FEW = 16
#: What a mean starts from; it is divided by the weight of what it has seen, so this start never shows.
_START = 0.0
_COLUMNS = ("anomaly", "evidence", "surprise", "expected", "forecast", "deviation")


@dataclass(frozen=True, slots=True)
class Scores:
    """Windows judged, all of shape (k,) in the order given.

    `anomaly` is `surprise` (about -log10 of a tail's probability) brought to 0..1, `evidence` an index into EVIDENCE;
    `expected` what was expected of this window's mean, `forecast` of the next one's, `deviation` its one sigma.
    """

    anomaly: NDArray[np.float64]
    evidence: NDArray[np.int8]
    surprise: NDArray[np.float64]
    expected: NDArray[np.float64]
    forecast: NDArray[np.float64]
    deviation: NDArray[np.float64]


class LearnerBank:
    """The learners of a partition's sensors; a slot is a sensor's index."""

    #: Changes whenever the same windows would give other results.
    VERSION = "1"

    def __init__(self) -> None:
        self._state: NDArray[np.float64] = np.zeros((0, WIDTH))
        self._level: list[EWMean] = []
        self._error: list[EWMean] = []

    def __len__(self) -> int:
        return len(self._level)

    def grow(self, n: int) -> None:
        """Append `n` sensors that have seen nothing."""
        self._state = np.concatenate([self._state, np.zeros((n, WIDTH))])
        for _ in range(n):
            self._level.append(_mean(_START))
            self._error.append(_mean(_START))

    def observe(
        self,
        slots: Sequence[int],
        mean: Sequence[float],
        deviation: Sequence[float],
        count: Sequence[int],
    ) -> Scores:
        """Judge closed windows, then learn them; a slot's rows in time order, later ones knowing the earlier."""
        out = np.empty((5, len(slots)))
        rest: Sequence[int] = range(len(slots))
        if len(slots) >= FEW:
            rows = _Rows(slots, mean, deviation, count)
            for at in rows.rounds():
                out[:, at] = self._columns(rows, at)
            rest = rows.rest
        for row in rest:
            out[:, row] = self._single(slots[row], mean[row], deviation[row], count[row])
        surprise = out[0]
        return Scores(
            anomaly=anomaly_of(surprise),
            evidence=out[1].astype(np.int8),
            surprise=surprise,
            expected=out[2],
            forecast=out[3],
            deviation=out[4],
        )

    def dump(self, slots: Sequence[int]) -> NDArray[np.float64]:
        """The state of these sensors, exactly, of shape (len(slots), WIDTH)."""
        return self._state[np.asarray(slots, dtype=np.intp)]

    def load(self, first_slot: int, state: NDArray[np.float64]) -> None:
        """Put dumped state in the place of that of the sensors from `first_slot` on."""
        end = first_slot + len(state)
        self._state[first_slot:end] = state
        self._level[first_slot:end] = [_mean(value) for value in state[:, LEARNT_LEVEL].tolist()]
        self._error[first_slot:end] = [_mean(value) for value in state[:, LEARNT_ERROR].tolist()]

    def _columns(self, rows: _Rows, at: NDArray[np.intp]) -> tuple[NDArray[np.float64], ...]:
        """Judge and learn one window of each of many sensors."""
        slots = rows.slots[at]
        state = np.ascontiguousarray(self._state[slots].T)
        judged = judge(state, rows.mean[at], rows.deviation[at], rows.count[at], COLUMNS)
        places = slots.tolist()
        state[LEARNT_LEVEL] = _learn([self._level[i] for i in places], judged.level)
        state[LEARNT_ERROR] = _learn([self._error[i] for i in places], judged.error)
        state[WEIGHT:] = judged.state
        self._state[slots] = state.T
        return _told(judged, state, np.sqrt(state[LEARNT_ERROR] / state[WEIGHT]))

    def _single(self, slot: int, mean: float, deviation: float, count: int) -> tuple[float, ...]:
        """Judge and learn one window of one sensor."""
        state = self._state[slot].tolist()
        judged = judge(state, mean, deviation, count, SINGLE)
        level, error = self._level[slot], self._error[slot]
        level.update(judged.level)
        error.update(judged.error)
        state = [level.get(), error.get(), *judged.state]
        self._state[slot] = state
        return _told(judged, state, SINGLE.sqrt(state[LEARNT_ERROR] / state[WEIGHT]))


def _mean(value: float) -> EWMean:
    """An EWMean that stands at `value`: its first update sets it exactly."""
    mean = EWMean(FADING)
    mean.update(value)
    return mean


def _learn(means: list[EWMean], values: NDArray[np.float64]) -> list[float]:
    """Update each mean with its value, and read it while it is in the processor's cache."""
    return [
        mean.get() for mean, value in zip(means, values.tolist(), strict=True) if mean.update(value) is None
    ]


def _told(judged: Judgement, state: Value, deviation: Value) -> tuple[Value, ...]:
    """What is said of a window: surprise, evidence, expected, forecast and the forecast's deviation."""
    forecast = state[LEARNT_LEVEL] / state[WEIGHT]
    return judged.surprise, judged.evidence, judged.expected, forecast, deviation


class _Rows:
    """The windows of one call, in rounds of at most one window a sensor, the sensors in the order of memory."""

    def __init__(
        self,
        slots: Sequence[int],
        mean: Sequence[float],
        deviation: Sequence[float],
        count: Sequence[int],
    ) -> None:
        self.slots = np.asarray(slots, dtype=np.intp)
        self.mean = np.asarray(mean, dtype=np.float64)
        self.deviation = np.asarray(deviation, dtype=np.float64)
        self.count = np.asarray(count, dtype=np.float64)
        self._by_slot = np.argsort(self.slots, kind="stable")
        ordered = self.slots[self._by_slot]
        first = (
            np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(ordered) else ordered
        )
        runs = np.diff(np.append(first, len(ordered)))
        self._turn = np.arange(len(ordered)) - np.repeat(first, runs)
        self.widths = np.bincount(self._turn) if len(ordered) else np.zeros(0, np.intp)
        self.whole = int(np.searchsorted(-self.widths, -FEW, side="right"))

    def rounds(self) -> list[NDArray[np.intp]]:
        """The rounds that are wide enough for columns: indices of rows."""
        by_turn = self._by_slot[np.argsort(self._turn, kind="stable")]
        ends = np.cumsum(self.widths[: self.whole])
        return np.split(by_turn[: int(ends[-1])], ends[:-1]) if len(ends) else []

    @property
    def rest(self) -> list[int]:
        """The other rows, sensor by sensor."""
        rest: list[int] = self._by_slot[self._turn >= self.whole].tolist()
        return rest
