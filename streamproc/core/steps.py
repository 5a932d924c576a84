"""How far values are from what was predicted some windows before: learnt for each sensor and each distance.

A forecast's margin is never derived from that of a shorter one, because how errors grow with distance depends on the signal
(not at all for noise about a level, with the square root for a random walk). So the errors at each distance are measured, in
the windows that predictions are made for. A margin widens with each miss and narrows with each hit, so that in the long run
one in ten is outside, however heavy the tails are.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from streamproc.core.fading import CLIP_SQUARE
from streamproc.core.judgement import HIT, MISSED, NARROWEST, NINE_TENTHS, SCALE_FADING
from streamproc.core.windows import Floats, Ints

#: The furthest step: ten minutes of windows of 10 s. A step takes 26 bytes of a sensor, and a row of each window.
MOST_STEPS = 60
#: As many errors as weigh in a mean that fades: from there on each has the same weight.
_ENOUGH = round(1 / SCALE_FADING)


class StepErrors:
    """What is known of the errors of each sensor's forecasts, 1 to `steps` windows ahead; columns of shape (sensors, steps).

    `made` holds the last forecasts, the newest first, `square` the mean squared error, `widened` by how much of it the margin
    is widened, `seen` how many errors made that, up to _ENOUGH.
    """

    COLUMNS = ("made", "square", "widened", "seen")

    def __init__(self, steps: int = 1) -> None:
        self.steps = steps
        self.made = self.square = self.widened = np.empty((0, steps))
        self.seen: NDArray[np.uint16] = np.empty((0, steps), dtype=np.uint16)

    def grow(self, more: int) -> None:
        """Make room for so many more sensors, of which nothing is known."""
        zeros = np.zeros((more, self.steps))
        self.made = np.concatenate([self.made, np.full_like(zeros, np.nan)])
        self.square = np.concatenate([self.square, zeros])
        self.widened = np.concatenate([self.widened, zeros])
        self.seen = np.concatenate([self.seen, zeros.astype(np.uint16)])

    def learn(self, slot: Ints, actual: Floats, forecast: Floats, usual: Floats) -> Floats:
        """Compare windows with what was expected of them; returns the deviations (n, steps) of the forecasts made after each.

        Windows (n,) are by slot and time: `actual` is a window's mean, `forecast` what is expected of the next ones, `usual`
        the deviation of a distance of which nothing is known.
        """
        deviation = np.empty((len(slot), self.steps))
        for at in _rounds(slot):
            deviation[at] = self._round(slot[at], actual[at], forecast[at], usual[at])
        return deviation

    def _round(self, slot: Ints, actual: Floats, forecast: Floats, usual: Floats) -> Floats:
        """One window of each of these sensors."""
        made, square, widened, seen = (getattr(self, name)[slot] for name in self.COLUMNS)
        error = actual[:, None] - made
        known = error == error  # noqa: PLR0124  # not NaN
        error *= error
        first = seen == 0
        square = np.where(first, (usual * usual)[:, None], square)
        margin = NINE_TENTHS * (1 + widened)
        missed = error > margin * margin * square
        stirred = np.where(missed, widened + MISSED, np.maximum(widened - HIT, NARROWEST))
        # What was usual counts as one error; of one deviation no more is learnt than elsewhere.
        part = np.maximum(1.0 / (seen + 2.0), SCALE_FADING)
        learnt = np.where(square > 0, np.minimum(error, CLIP_SQUARE * square), error)
        square = np.where(known, square + part * (learnt - square), square)
        widened = np.where(known, stirred, widened)
        self.square[slot], self.widened[slot] = square, widened
        self.seen[slot] = np.minimum(seen + known, _ENOUGH)
        made[:, 1:] = made[:, :-1]
        made[:, 0] = forecast
        self.made[slot] = made
        told: Floats = np.sqrt(square) * (1 + widened)
        return told

    def dump(self, first: int, end: int) -> list[bytes]:
        """What is known of the sensors from `first` to `end`."""
        return [getattr(self, name)[first:end].tobytes() for name in self.COLUMNS]

    def load(self, first: int, end: int, columns: list[bytes]) -> None:
        """Take over dumped columns; where they are of another number of steps, those that both have."""
        for name, data in zip(self.COLUMNS, columns, strict=True):
            held = getattr(self, name)
            known = np.frombuffer(data, dtype=held.dtype).reshape(end - first, -1)[:, : self.steps]
            held[first:end, : known.shape[1]] = known


def _rounds(slot: Ints) -> Iterator[Ints | slice]:
    """The rows, which are by slot, in rounds of at most one of each."""
    if not len(slot):
        return
    first = np.flatnonzero(np.append(True, slot[1:] != slot[:-1]))
    if len(first) == len(slot):
        yield slice(None)
        return
    turn = np.arange(len(slot)) - np.repeat(first, np.diff(np.append(first, len(slot))))
    yield from np.split(np.argsort(turn, kind="stable"), np.cumsum(np.bincount(turn))[:-1])
