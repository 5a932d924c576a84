"""What is usual at this hour of the day and of the week.

When an hour is over, the mean of its windows is compared with the same hour of the days before, and with that hour corrected
by the same two-hour stretch of the weeks before; whichever has been the better guide is believed. Hours are of event time in
UTC. The comparison costs time once an hour; a window costs a sum.
"""

from __future__ import annotations

from typing import NamedTuple

from streamproc.core.creep import SPELL_MS, Creep
from streamproc.core.drift import Drift, follow
from streamproc.core.fading import clip, clipped, nearer, still
from streamproc.core.tails import Arithmetic, Value

HOUR_MS = 3_600_000
SPELLS_OF_HOUR = HOUR_MS // SPELL_MS
DAY_HOURS = 24
#: Weeks are known by stretches of two hours: half the memory of hours, for a point of the labelled series' score.
STRETCH_HOURS = 2
WEEK_HOURS = 7 * DAY_HOURS
STRETCHES = WEEK_HOURS // STRETCH_HOURS
#: What is known of a sensor's season: the mean of each hour of the day, then how far each stretch of the week is from it.
PROFILE = DAY_HOURS + STRETCHES
#: Fading of an hour of the day: the last 5 days weigh 67 %.
DAY_FADING = 0.2
#: Fading of a stretch of the week, which learns twice a week.
WEEK_FADING = 0.2
#: Fading of the squares that deviations are measured by: 50 hours.
SQUARE_FADING = 0.02
#: Hours that were compared before a guide is believed, as the weight of its squares. Days are after a week, which had all its
#: days off; weeks, which begin a week later, after two days.
DAY_WARM = 1 - (1 - SQUARE_FADING) ** (6 * DAY_HOURS)
WEEK_WARM = 1 - (1 - SQUARE_FADING) ** (2 * DAY_HOURS)
#: The greatest number kept of a season, which is stored in single precision; 1e100 is beyond it.
GREATEST = 3e38

#: The state of a sensor's season, as columns of its row: the open spell of `core/creep.py` (its number, and what of the hour
#: was before it), how far the season moves in a window (`core/course.py`), and the open hour …
SPELL, SPELL_SUM, SPELL_COUNT, ALONG, HOUR, SUM, COUNT = range(21, 28)
#: … then what the hours that are over left, and whether what is held is a drift's, as 1 or 0.
DAY_SQUARE, DAY_WEIGHT, WEEK_SQUARE, WEEK_WEIGHT, HELD, USUAL, HELD_BY_DRIFT = range(28, 35)
#: From here on no window asks for it, hours and spells that are over do: the columns of `core/drift.py` and `core/creep.py` …
COLD = DRIFT = 35
CREEP = DRIFT + len(Drift._fields)
#: … and of `core/course.py`: how far the season moves in a spell, the windows of an hour, how far the last one was from what
#: was expected, and the usual square of by how much that changes from hour to hour.
ALONG_SPELL, PACE, STRAYED, TURNS = range(CREEP + len(Creep._fields), CREEP + len(Creep._fields) + 4)
END = TURNS + 1


class Compared(NamedTuple):
    """An hour that is over: `state` holds the columns from DAY_SQUARE up to CREEP, `day` and `week` the profile anew."""

    state: tuple[Value, ...]
    day: Value
    week: Value


def places(hour: Value) -> tuple[Value, Value, Value]:
    """Return where in a profile an hour of the day stands, and a stretch of the week, and whether that ends with it."""
    ends = hour % STRETCH_HOURS == STRETCH_HOURS - 1
    return hour % DAY_HOURS, DAY_HOURS + hour // STRETCH_HOURS % STRETCHES, ends


def around(hour: Value) -> list[Value]:
    """Return where in a profile the hour before, this hour and the next stand, by day and then by week."""
    days, weeks, _ = zip(*(places(near) for near in (hour - 1, hour, hour + 1)), strict=True)
    return [*days, *weeks]


class _Guide(NamedTuple):
    """One comparison: the squared deviation by the usual, 0 where that is not known well, and what is learnt."""

    ratio: Value
    variance: Value
    error: Value
    square: Value
    weight: Value
    warm: Value


def compare(state: Value, day: Value, week: Value, ends: Value, a: Arithmetic) -> Compared:
    """Compare the open hour, which has windows, with what its profile says; NaN stands for never seen.

    `ends` says whether a stretch is over with it: only then a stretch is first known, so that no hour is compared with
    the one just before it.
    """
    mean = state[SUM] / state[COUNT]
    known = day == day  # noqa: PLR0124  # not NaN
    told = known & (week == week)  # noqa: PLR0124  # not NaN
    usual = a.where(known, day, mean)
    of_week = usual + a.where(told, week, 0.0)
    by_day = _guide(mean, usual, (state[DAY_SQUARE], state[DAY_WEIGHT], DAY_WARM), known, a)
    by_week = _guide(mean, of_week, (state[WEEK_SQUARE], state[WEEK_WEIGHT], WEEK_WARM), told, a)
    first = _held(mean - usual, a)
    weekly = by_week.warm & (by_week.variance < by_day.variance)
    ratio, expected = a.where(weekly, by_week.ratio, by_day.ratio), a.where(weekly, of_week, usual)
    drift, drift_state = follow(Drift(*state[DRIFT:CREEP]), mean - expected, still(mean), by_day.warm, a)
    return Compared(
        state=(
            by_day.square,
            by_day.weight,
            by_week.square,
            by_week.weight,
            a.greatest(ratio, drift),
            expected,
            a.where(drift > ratio, 1.0, 0.0),
            *drift_state,
        ),
        day=_held(usual + DAY_FADING * by_day.error, a),
        week=a.where(told, _held(week + WEEK_FADING * by_week.error, a), a.where(known & ends, first, week)),
    )


def _guide(
    mean: Value, usual: Value, learnt: tuple[Value, Value, float], known: Value, a: Arithmetic
) -> _Guide:
    """Compare an hour's mean with what one guide calls usual; `learnt` is its squares, their weight, and how much is warm."""
    known_square, weight, enough = learnt
    error = mean - usual
    square = error * error
    variance = known_square / a.where(weight > 0, weight, 1.0) + still(mean)
    cut = clip(square, variance, known_square, a)
    warm = known & (weight >= enough)
    fading = a.where(known, SQUARE_FADING, 0.0)
    return _Guide(
        ratio=a.where(warm, square / variance, 0.0),
        variance=variance,
        error=clipped(error, square, cut, a),
        square=nearer(known_square, cut, fading),
        weight=nearer(weight, 1, fading),
        warm=warm,
    )


def _held(value: Value, a: Arithmetic) -> Value:
    return a.greatest(a.least(value, GREATEST), -GREATEST)
