"""Predictions of each sensor's next windows, made for each closed window of the largest size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.learners import LearnerBank, Scores
from streamproc.core.severity import ALARM
from streamproc.core.steps import StepErrors
from streamproc.core.windows import NEVER, SIZES_MS, Bools, Floats, Ints

#: A step: predictions are made for each window of this size, and are of such windows.
HORIZON_MS = SIZES_MS[-1]
#: What predictions are made by, as `name@version`: a version for each way in which the same windows give other predictions.
MODEL_NAME = "river-online"
MODEL = f"{MODEL_NAME}@{LearnerBank.VERSION}"
#: What a model is, by its name: for those who look into `ml_models`.
MODELS = {
    MODEL_NAME: "Learns each sensor online, with River's exponentially weighted means: the level of its last windows is what"
    " is expected of the next ones. The interval of 90 % is learnt for each step from how far what came was from what was"
    " expected. anomaly_score tells how unusual the window just closed was, 0 to 1; from 0.5 it is an alarm."
}


@dataclass(frozen=True, slots=True)
class Predicted:
    """Expectations as columns of shape (n,): the mean of the window that ends at `target` (ms), and its deviation.

    Of each window that has closed there is a row for each step, the nearest first. `anomaly` is the highest, 0..1, of the
    base windows in the window just closed, `is_anomaly` whether it is an alarm: told with the first step, 0 with all others.
    """

    slot: Ints
    made_at: Ints
    target: Ints
    value: Floats
    deviation: Floats
    anomaly: Floats
    is_anomaly: Bools


class Forecasts:
    """Each sensor's latest forecast, and the highest anomaly in its open window; all of shape (sensors,)."""

    COLUMNS = ("value", "deviation", "peak", "peak_start")

    def __init__(self, steps: int = 1) -> None:
        self.errors = StepErrors(steps)
        self.value = self.deviation = self.peak = np.empty(0)
        self.peak_start = np.empty(0, dtype=np.int64)

    def grow(self, sensors: int) -> None:
        """Make room for so many sensors."""
        more = sensors - len(self.value)
        self.errors.grow(more)
        self.value = np.append(self.value, np.zeros(more))
        self.deviation = np.append(self.deviation, np.zeros(more))
        self.peak = np.append(self.peak, np.zeros(more))
        self.peak_start = np.append(self.peak_start, np.full(more, NEVER))

    def make(
        self,
        slot: Ints,
        start: Ints,
        scores: Scores,
        over: tuple[Ints, Ints, Floats],
        alarm: Floats | float = ALARM,
    ) -> Predicted:
        """Predictions after the windows that are over, of `(slot, start, mean)` columns (m,), by slot and start.

        An anomaly is an alarm from `alarm` on, of each window that is over or of all.

        `slot`, `start` and `scores` (n,) are of the base windows that closed with them, by slot and start.
        """
        due_slot, due_start, mean = over
        value, deviation, peak = self.value[due_slot], self.deviation[due_slot], self.peak[due_slot].copy()
        peak[self.peak_start[due_slot] != due_start] = 0.0
        if len(slot):
            held = start // HORIZON_MS * HORIZON_MS
            new = np.append(True, (slot[1:] != slot[:-1]) | (held[1:] != held[:-1]))
            begin = np.flatnonzero(new)
            end = np.append(begin[1:], len(slot)) - 1
            highest = np.maximum.reduceat(scores.anomaly, begin)
            self._merge(slot[begin], held[begin], highest)
            known = _rows_of(slot[begin], held[begin], due_slot, due_start)
            hit = known >= 0
            at = end[known[hit]]
            value[hit], deviation[hit] = scores.forecast[at], scores.deviation[at]
            peak[hit] = np.maximum(peak[hit], highest[known[hit]])
            last = np.append(slot[1:] != slot[:-1], True)
            self.value[slot[last]], self.deviation[slot[last]] = scores.forecast[last], scores.deviation[last]
        deviation = self.errors.learn(due_slot, mean, value, deviation)
        return _in_steps(due_slot, due_start + HORIZON_MS, value, deviation, (peak, peak >= alarm))

    def _merge(self, slot: Ints, start: Ints, highest: Floats) -> None:
        """Keep the highest anomaly of each sensor's newest window."""
        last = np.append(slot[1:] != slot[:-1], True)
        slot, start, highest = slot[last], start[last], highest[last]
        same = self.peak_start[slot] == start
        self.peak[slot] = np.where(same, np.maximum(self.peak[slot], highest), highest)
        self.peak_start[slot] = start


def _in_steps(
    slot: Ints, made_at: Ints, value: Floats, deviation: Floats, told: tuple[Floats, Bools]
) -> Predicted:
    """A row for each step, by `deviation` (m, steps); the anomaly is that of one window, and told once."""
    steps = deviation.shape[1]
    each = np.repeat(np.arange(len(slot)), steps)
    step = np.tile(np.arange(1, steps + 1), len(slot))
    peak, alarm = told
    first = step == 1
    anomaly, is_alarm = np.where(first, peak[each], 0.0), first & alarm[each]
    target = made_at[each] + step * HORIZON_MS
    return Predicted(slot[each], made_at[each], target, value[each], deviation.reshape(-1), anomaly, is_alarm)


def _rows_of(slot: Ints, start: Ints, wanted_slot: Ints, wanted_start: Ints) -> Ints:
    """For each wanted (slot, start) its row among the rows, which are in that order, or -1."""
    if not len(wanted_slot):
        return np.empty(0, dtype=np.int64)
    low = min(int(start.min()), int(wanted_start.min()))
    span = max(int(start.max()), int(wanted_start.max())) - low + 1
    keys, wanted = slot * span + (start - low), wanted_slot * span + (wanted_start - low)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, at, -1)
