"""One sensor at hand, where there are too few for columns of sensors: its windows one by one, or a run of them at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from river._river_rust.stats import RsEWMean as EWMean

from streamproc.core.compare_one import turn_one
from streamproc.core.course import go_along_one, owed
from streamproc.core.creep import SPELL_WINDOWS
from streamproc.core.judge_run import Run, Trace, judge_run
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
    ALONG,
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
RUN = 40
#: What hours leave in a sensor's state for windows to be judged by.
_SEASON = DAY_WEIGHT, HELD, USUAL, HELD_BY_DRIFT, ALONG


#: Windows as `Columns` have them, one by one.
Rows = list[tuple[float, float, float, int]]


class Columns(NamedTuple):
    """Windows in columns of shape (k,): the number of readings, and of the spell that a window begins in."""

    mean: Floats
    deviation: Floats
    readings: Floats
    spell: Ints

    def of(self, at: slice | NDArray[np.intp]) -> Columns:
        """Some of the windows."""
        return Columns(self.mean[at], self.deviation[at], self.readings[at], self.spell[at])

    def rows(self) -> Rows:
        """The windows one by one, in plain numbers."""
        return list(zip(*(column.tolist() for column in self), strict=True))


class OneSensor:
    """A sensor's state, its profile (a row, learnt where it stands) and River's means of its level and its error."""

    def __init__(
        self, state: list[float], profile: NDArray[np.float32], river: Sequence[EWMean], numbers: Numbers
    ) -> None:
        self.state = state
        self._profile, self._numbers = profile, numbers
        self._level, self._error = river

    def judge(self, rows: Rows) -> list[tuple[float, ...]]:
        """Judge windows, rows of Columns, in the order of time, and learn them; returns rows as `Scores` has columns."""
        return [self._one(*row) for row in rows]

    def judge_run(self, windows: Columns) -> Floats:
        """The same of RUN windows or more, in columns (6, k)."""
        if not self.state[WINDOWS]:  # a run goes by what was before
            first = np.array(self.judge(windows.of(slice(1)).rows())).T
            return np.concatenate([first, self.judge_run(windows.of(slice(1, None)))], axis=1)
        turned, season = self._turn(windows.mean.tolist(), windows.spell.tolist())
        run = Run(windows.mean, windows.deviation, windows.readings, turned, season)
        return np.array(judge_run(self.state, run, (self._level, self._error), self._numbers))

    def _one(self, mean: float, deviation: float, count: float, spell: int) -> tuple[float, ...]:
        state = self.state
        turned = state[SPELL] != spell and turn_one(state, self._profile, spell)
        along, moved = state[ALONG], 0.0
        if along:
            moved = go_along_one(state)
        judged = judge(state, mean, deviation, count, turned, SINGLE, self._numbers)
        self._level.update(judged.level + owed(moved, self._numbers.level_fading) if along else judged.level)
        self._error.update(judged.error)
        level, error = self._level.get(), self._error.get()
        state[LEARNT_LEVEL], state[LEARNT_ERROR] = level, error
        state[LEVEL_WEIGHT:SPELL] = judged.state
        state[SUM] += mean
        state[COUNT] += 1
        sigma = sqrt(error / state[SCALE_WEIGHT]) * (1 + state[WIDENED])
        forecast = level / state[LEVEL_WEIGHT] + along if along else level / state[LEVEL_WEIGHT]
        return judged.surprise, judged.told, judged.evidence, judged.expected, forecast, sigma

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


def groups(slots: list[int]) -> Iterator[tuple[int, int, int]]:
    """Sensors whose windows follow on, and where these begin and end."""
    begin, many = 0, len(slots)
    for end in range(1, many + 1):
        if end == many or slots[end] != slots[begin]:
            yield slots[begin], begin, end
            begin = end
