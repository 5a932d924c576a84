"""One sensor at hand, where there are too few for columns of sensors: its windows one by one, or a run of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from river._river_rust.stats import RsEWMean as EWMean

from streamproc.core.compare_one import turn_one
from streamproc.core.creep import SPELL_WINDOWS
from streamproc.core.judge_run import Trace, Windows, judge_run
from streamproc.core.judgement import (
    LEARNT_ERROR,
    LEARNT_LEVEL,
    LEVEL_WEIGHT,
    SCALE_WEIGHT,
    WIDENED,
    WINDOWS,
    Numbers,
    judge,
)
from streamproc.core.season import (
    COUNT,
    DAY_WEIGHT,
    HELD,
    HELD_BY_DRIFT,
    HOUR,
    SPELL,
    SPELL_COUNT,
    SPELL_SUM,
    SPELLS_OF_HOUR,
    SUM,
    USUAL,
)
from streamproc.core.tails import SINGLE
from streamproc.core.windows import Floats, Ints

#: From so many windows on a run at once is faster than one by one (measured).
RUN = 24
#: What hours leave in a sensor's state for windows to be judged by.
_SEASON = DAY_WEIGHT, HELD, USUAL, HELD_BY_DRIFT


class OneSensor:
    """A sensor's state, its profile (a row, learnt where it stands) and River's means of its level and its error."""

    def __init__(
        self, state: list[float], profile: NDArray[np.float32], river: Sequence[EWMean], numbers: Numbers
    ) -> None:
        self.state = state
        self._profile, self._numbers = profile, numbers
        self._level, self._error = river

    def judge(self, mean: Floats, deviation: Floats, count: Floats, spell: Ints) -> Sequence[Floats]:
        """Judge windows in the order of time, and learn them; returns columns as `Scores` has them."""
        if len(mean) < RUN:
            rows = zip(mean.tolist(), deviation.tolist(), count.tolist(), spell.tolist(), strict=True)
            return list(np.array([self._one(*row) for row in rows]).T)
        if not self.state[WINDOWS]:  # a run goes by what was before
            first = self.judge(mean[:1], deviation[:1], count[:1], spell[:1])
            rest = self._run(mean[1:], deviation[1:], count[1:], spell[1:])
            return [np.append(*parts) for parts in zip(first, rest, strict=True)]
        return self._run(mean, deviation, count, spell)

    def _one(self, mean: float, deviation: float, count: float, spell: int) -> tuple[float, ...]:
        state = self.state
        turned = state[SPELL] != spell and turn_one(state, self._profile, spell)
        judged = judge(state, mean, deviation, count, turned, SINGLE, self._numbers)
        self._level.update(judged.level)
        self._error.update(judged.error)
        level, error = self._level.get(), self._error.get()
        state[LEARNT_LEVEL], state[LEARNT_ERROR] = level, error
        state[LEVEL_WEIGHT:HOUR] = judged.state
        state[SUM] += mean
        state[COUNT] += 1
        sigma = sqrt(error / state[SCALE_WEIGHT]) * (1 + state[WIDENED])
        return (
            judged.surprise, judged.told, judged.evidence, judged.expected, level / state[LEVEL_WEIGHT], sigma,
        )  # fmt: skip

    def _run(self, mean: Floats, deviation: Floats, count: Floats, spell: Ints) -> Sequence[Floats]:
        turned, season = self._turn(mean.tolist(), spell.tolist())
        windows = Windows(mean, deviation, count, turned, season)
        return judge_run(self.state, windows, (self._level, self._error), self._numbers)

    def _turn(self, means: list[float], spells: list[int]) -> tuple[NDArray[np.bool_], Trace]:
        """Add windows to the open hour, and begin spells: where one made news, and what hours had left at each window."""
        state = self.state
        now, hour, begun = state[SPELL], state[HOUR], state[SPELL_COUNT]
        total, count = state[SUM], state[COUNT]
        left, since, turned = (
            [[state[column] for column in _SEASON]],
            [0],
            np.zeros(len(means), dtype=np.bool_),
        )
        for row, (mean, spell) in enumerate(zip(means, spells, strict=True)):
            if spell != now:
                state[SUM], state[COUNT], now = total, count, spell
                if count - begun < SPELL_WINDOWS and spell // SPELLS_OF_HOUR == hour:
                    state[SPELL], state[SPELL_SUM], state[SPELL_COUNT] = float(spell), total, count
                elif turn_one(state, self._profile, spell):
                    turned[row] = True
                    left.append([state[column] for column in _SEASON])
                    since.append(row)
                total, count, begun, hour = state[SUM], state[COUNT], state[SPELL_COUNT], state[HOUR]
            total += mean
            count += 1
        state[SUM], state[COUNT] = total, count
        season = np.repeat(np.array(left), np.diff([*since, len(means)]), axis=0).T
        return turned, dict(zip(_SEASON, season, strict=True))
