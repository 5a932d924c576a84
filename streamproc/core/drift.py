"""A slow drift: hours that are all off to one side, each by too little to be an alarm.

A season's guides follow a leak or a small step some days late, so the hours stray from what is usual by little, but all to
one side. The mean of these differences over about a day is compared with its usual distance from zero: small where hours are
independent, large for a signal that wanders for days. What is usual is learnt over three weeks, so that a leak of some days
does not become usual. All of this runs once an hour; a window costs nothing.
"""

from __future__ import annotations

from typing import NamedTuple

from streamproc.core.fading import ABSOLUTE_FLOOR, nearer
from streamproc.core.tails import Arithmetic, Value

#: Fading of the mean of the hours: the last 20 weigh 63 %.
DRIFT_FADING = 0.05
#: Hours that a mean of squares is made of at most: three weeks.
DRIFT_HOURS = 500.0
#: Until then a signal is taken for one that wanders, as if for so many hours, which make one mean, it had.
WANDERED = 20.0
#: Hours that are seen before a drift is told: two days, besides the week that the season takes.
DRIFT_WARM = 48.0
#: One hour says no more than so many of its usual deviations (squared): what strays by itself is the season's to tell.
HOUR_CLIP = 9.0
#: Of one square no more is learnt than so many times the usual one: a leak is slow to become usual.
SQUARE_CLIP = 2.0
#: Nothing is told of less than this, which is an alarm: half a drift is no news, and it would be told for days.
LEAST_TOLD = 30.7


class Drift(NamedTuple):
    """What is known of a sensor's drift: the mean of its hours' errors, and the usual squares of that mean and of an error.

    `hours` counts those that made them, up to DRIFT_HOURS.
    """

    mean: Value
    far: Value
    square: Value
    hours: Value


def follow(known: Drift, error: Value, floor: Value, warm: Value, a: Arithmetic) -> tuple[Value, Drift]:
    """Return how far a sensor has drifted, squared and by the usual, and what is known after one more hour.

    `error` is how far the hour was from what is usual then, `warm` whether that is known; `floor` is the square of what is no
    deviation.
    """
    square, new = error * error, known.hours == 0
    usual = known.square + floor
    strayed = a.where(new, square, a.least(square, HOUR_CLIP * usual))
    step = error * a.sqrt(strayed / (square + ABSOLUTE_FLOOR))
    mean = nearer(known.mean, step, a.where(warm, DRIFT_FADING, 0.0))
    far = mean * mean
    wandering = known.far + usual * (WANDERED / (known.hours + WANDERED))
    part = a.where(warm, 1 / a.least(known.hours + 1, DRIFT_HOURS), 0.0)
    drifted = far / wandering
    return (
        a.where(warm & (known.hours >= DRIFT_WARM) & (drifted >= LEAST_TOLD), drifted, 0.0),
        Drift(
            mean,
            nearer(known.far, a.least(far, SQUARE_CLIP * wandering), part),
            nearer(known.square, a.where(new, square, a.least(square, SQUARE_CLIP * usual)), part),
            a.where(warm, a.least(known.hours + 1, DRIFT_HOURS), known.hours),
        ),
    )
