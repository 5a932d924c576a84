"""The end of a silence in a season: the levels jump to where the season has moved meanwhile.

Between two consecutive windows the levels follow the season by a window (`core/course.py`). After hours without data they
would still stand where the season was then, and the end of each long silence would be a surprise. So the levels move by how
much the season differs between the two times, judged by the hours of other days.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import floor

import numpy as np
from numpy.typing import NDArray
from river._river_rust.stats import RsEWMean as EWMean

from streamproc.core.compare_one import turn_one
from streamproc.core.course import COURSE_WARM, DOUBT, YOUNG_DOUBT
from streamproc.core.fading import still
from streamproc.core.judgement import LEARNT_LEVEL, LEVEL_WEIGHT, SLOW_LEVEL, SLOW_WEIGHT
from streamproc.core.season import (
    ALONG,
    CREEP,
    DAY_SQUARE,
    DAY_WEIGHT,
    PACE,
    SPELL,
    SPELLS_OF_HOUR,
    TURNS,
    WEEK_SQUARE,
    WEEK_WARM,
    WEEK_WEIGHT,
    places,
)

#: A silence is one of an hour more than a sensor is silent between its windows anyway: in less a season hardly moves.
LEAST_SPELLS = float(SPELLS_OF_HOUR)


def begin_spell(
    state: list[float], profile: NDArray[np.float32], river: Sequence[EWMean], spell: int, fading: float
) -> bool:
    """Begin a spell of one sensor, over a silence where there was one; whether the hour that is over made news."""
    before = state[SPELL]
    if before == spell:
        return False
    turned = turn_one(state, profile, spell)
    if spell - before > LEAST_SPELLS:
        bridge(state, profile, river, before, fading)
    return turned


def bridge(
    state: list[float], profile: NDArray[np.float32], river: Sequence[EWMean], before: float, fading: float
) -> None:
    """Move a sensor's levels over the silence since the spell `before` the one that has begun; `river` are as in a bank."""
    spells = state[SPELL] - before
    if state[DAY_WEIGHT] < COURSE_WARM or spells <= LEAST_SPELLS + SPELLS_OF_HOUR / state[PACE]:
        return
    now = _season(state, profile, state[SPELL])
    by = now - _season(state, profile, before)
    if not by:
        return
    # What walks is elsewhere after a silence, and its other days say nothing of where.
    usual = state[TURNS] / state[DAY_WEIGHT] * (spells / SPELLS_OF_HOUR)
    square = by * by
    by *= square / (square + (DOUBT + YOUNG_DOUBT * (1 - state[DAY_WEIGHT])) * usual + still(now))
    by -= state[ALONG]  # the window itself goes along by that
    if by != by:  # noqa: PLR0124  # an hour of no other day is known
        return
    river[0].update(state[LEARNT_LEVEL] + by * state[LEVEL_WEIGHT] / fading)
    state[LEARNT_LEVEL] = river[0].get()
    state[SLOW_LEVEL] += by * state[SLOW_WEIGHT]
    state[CREEP] += by
    state[CREEP + 1] += by


def _season(state: list[float], profile: NDArray[np.float32], spell: float) -> float:
    """What is usual in the middle of a spell: between the means of two hours, which stand for their middles."""
    middle = (spell + 0.5) / SPELLS_OF_HOUR - 0.5
    hour = floor(middle)
    first, second = (_hour(state, profile, each) for each in (hour, hour + 1))
    return first + (middle - hour) * (second - first)


def _hour(state: list[float], profile: NDArray[np.float32], hour: int) -> float:
    """What is usual in an hour by the guide that is believed."""
    day, week, _ = places(hour)
    usual, more = float(profile[day]), float(profile[week])
    weekly = (
        state[WEEK_WEIGHT] >= WEEK_WARM
        and state[WEEK_SQUARE] * state[DAY_WEIGHT] < state[DAY_SQUARE] * state[WEEK_WEIGHT]
    )
    return usual + more if weekly and more == more else usual  # noqa: PLR0124  # not NaN
