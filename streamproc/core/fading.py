"""Fading means, which bound how much they learn from one deviation; the learners are made of them."""

from __future__ import annotations

from streamproc.core.tails import Arithmetic, Value

#: What is below this part of the value's size is no deviation: the last bit of an 11-bit converter.
RELATIVE_FLOOR = 0.0005
#: Deviations below 1e-50 vanish; this keeps 0/0 away, and 1e100 squared over it in a double's range.
ABSOLUTE_FLOOR = 1e-100
#: What is learnt of one deviation is cut at 20 sigma, so that a spike does not spoil the scale.
CLIP_SQUARE = 400.0


def still(value: Value) -> Value:
    """Return the square of what is no deviation for a value of this size."""
    least = RELATIVE_FLOOR * abs(value)
    return least * least + ABSOLUTE_FLOOR


def nearer(mean: Value, value: Value, fading: Value) -> Value:
    """Return an exponentially weighted mean after one more value."""
    return mean + fading * (value - mean)


def clip(square: Value, variance: Value, known: Value, a: Arithmetic) -> Value:
    """Return what is learnt of a squared deviation: not more than the clip, unless nothing ever deviated."""
    return a.where(known > 0, a.least(square, CLIP_SQUARE * variance), square)


def clipped(error: Value, square: Value, learnt: Value, a: Arithmetic) -> Value:
    """Return the deviation whose square is what is learnt of the square."""
    return error * a.sqrt(learnt / (square + ABSOLUTE_FLOOR))
