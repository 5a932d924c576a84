"""Judges one sensor at a time, where there are too few for columns: its windows one by one, or a run of them at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import sqrt
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from river._river_rust.stats import RsEWMean as EWMean

from streamproc.core.compare_one import turn_one
from streamproc.core.course import go_along_one, owed
from streamproc.core.creep import SPELL_WINDOWS
from streamproc.core.gap import LEAST_SPELLS, begin_spell
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
_SEASON_COLUMNS = DAY_WEIGHT, HELD, USUAL, HELD_BY_DRIFT, ALONG
_SEASON = itemgetter(*_SEASON_COLUMNS)


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
        silences = np.flatnonzero(np.diff(windows.spell, prepend=int(self.state[SPELL])) > LEAST_SPELLS)
        if len(silences):
            return self._judge_parts(windows, silences.tolist())
        turned, season = self._turn(windows.mean.tolist(), windows.spell)
        run = Run(windows.mean, windows.deviation, windows.readings, turned, season)
        return np.array(judge_run(self.state, run, (self._level, self._error), self._numbers))

    def _judge_parts(self, windows: Columns, silences: list[int]) -> Floats:
        """The same of windows of which some come after a silence: these one by one."""
        found = [self.judge_run(windows.of(slice(silences[0])))] if silences[0] else []
        for first, end in pairwise([*silences, len(windows.mean)]):
            found.append(np.array(self.judge(windows.of(slice(first, first + 1)).rows())).T)
            if first + 1 < end:
                found.append(self.judge_run(windows.of(slice(first + 1, end))))
        return np.concatenate(found, axis=1)

    def _one(self, mean: float, deviation: float, count: float, spell: int) -> tuple[float, ...]:
        state = self.state
        river, fading = (self._level, self._error), self._numbers.level_fading
        turned = begin_spell(state, self._profile, river, spell, fading)
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

    def _turn(self, means: list[float], spells: Ints) -> tuple[NDArray[np.bool_], Trace]:
        """Add windows to the open hour, and begin spells: where one made news, and what hours had left at each window.

        A spell of few windows that begins within an hour changes nothing but where it began.
        """
        state = self.state
        turned, left = np.zeros(len(means), dtype=np.bool_), [*_SEASON(state)]
        counted, begun, hour = 0, int(state[SPELL_COUNT] - state[COUNT]), state[HOUR]
        for row, spell in _begin(spells, state[SPELL]):
            if row - begun < SPELL_WINDOWS and spell // SPELLS_OF_HOUR == hour:
                state[SPELL] = float(spell)
            else:
                _count(state, means[counted:row], begun - counted)
                counted, hour = row, spell // SPELLS_OF_HOUR
                if turn_one(state, self._profile, spell):
                    turned[row] = True
                    left += _SEASON(state)
            begun = row
        _count(state, means[counted:], begun - counted)
        season = np.array(left).reshape(-1, len(_SEASON_COLUMNS)).T
        return turned, dict(zip(_SEASON_COLUMNS, season.take(np.cumsum(turned), axis=1), strict=True))


def _begin(spells: Ints, open_one: float) -> Iterator[tuple[int, int]]:
    """The windows that begin another spell, and which."""
    new = np.empty(len(spells), dtype=np.bool_)
    new[0] = spells[0] != open_one
    np.not_equal(spells[1:], spells[:-1], out=new[1:])
    at = np.flatnonzero(new)
    return zip(at.tolist(), spells[at].tolist(), strict=True)


def _count(state: list[float], means: list[float], begun: int) -> None:
    """Add windows to the open hour, and take note of a spell that has begun within them."""
    total, since = state[SUM], 0
    if begun >= 0:
        for mean in means[:begun]:
            total += mean
        state[SPELL_SUM], state[SPELL_COUNT] = total, state[COUNT] + begun
        since = begun
    for mean in means[since:]:
        total += mean
    state[SUM] = total
    state[COUNT] += len(means)


def groups(slots: list[int]) -> Iterator[tuple[int, int, int]]:
    """Sensors whose windows follow on, and where these begin and end."""
    begin, many = 0, len(slots)
    if many and slots.count(slots[0]) == many:
        yield slots[0], 0, many
        return
    for end in range(1, many + 1):
        if end == many or slots[end] != slots[begin]:
            yield slots[begin], begin, end
            begin = end
