"""How surprising a squared deviation is, in arithmetic that gives the same bits on every machine.

Only `+ - * / sqrt`, comparisons and `frexp` are used: IEEE 754 fixes their results, while `log` and `exp`
differ between libraries, and between numpy's code for one processor and another. A replay elsewhere must
score the same. A formula runs on columns of shape (k,) or on one number, by the arithmetic that it is given; only
what a run of windows learns one by one is written out again (`judge_run`).
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np

#: A float, or a column of them.
Value = Any


class Arithmetic(Protocol):
    """The operations that formulas are written in, exact and the same for columns and for single numbers."""

    def where(self, condition: Value, yes: Value, no: Value) -> Value:
        """`yes` where the condition holds, else `no`."""

    def least(self, a: Value, b: Value) -> Value:
        """The smaller one."""

    def greatest(self, a: Value, b: Value) -> Value:
        """The greater one."""

    def some(self, condition: Value) -> bool:
        """Whether the condition holds anywhere."""

    def sqrt(self, a: Value) -> Value:
        """The square root."""

    def frexp(self, a: Value) -> tuple[Value, Value]:
        """Mantissa in [0.5, 1) and exponent of two."""


class Columns:
    """Arithmetic on float64 columns."""

    where = staticmethod(np.where)
    least = staticmethod(np.minimum)
    greatest = staticmethod(np.maximum)
    sqrt = staticmethod(np.sqrt)
    frexp = staticmethod(np.frexp)

    @staticmethod
    def some(condition: Value) -> bool:
        """Return whether it holds anywhere."""
        return bool(np.any(condition))


class Single:
    """Arithmetic on one float; its methods are no static ones, for those take twice as long to call."""

    some = staticmethod(bool)
    sqrt = staticmethod(math.sqrt)
    frexp = staticmethod(math.frexp)

    def where(self, condition: bool, yes: float, no: float) -> float:
        """Return `yes` or `no`."""
        return yes if condition else no

    def least(self, a: float, b: float) -> float:
        """Return the smaller one."""
        return a if a < b else b  # noqa: FURB136  # twice as fast as the builtin

    def greatest(self, a: float, b: float) -> float:
        """Return the greater one."""
        return a if a > b else b  # noqa: FURB136


COLUMNS: Arithmetic = Columns()
SINGLE: Arithmetic = Single()

_ROOT_HALF = math.sqrt(0.5)
# Written out, since a library's log may differ in the last bit.
_TWO_OVER_LN2 = 2.8853900817779268
_LOG10_2 = 0.3010299956639812
#: The surprise at which the anomaly is one half: one in a thousand.
HALF_SURPRISE = 3.0


def log10(value: Value, arithmetic: Arithmetic = SINGLE) -> Value:
    """Return the decimal logarithm of a positive normal number, to 1e-8.

    The series of atanh (Abramowitz and Stegun 4.1.27) on the mantissa, which is brought within sqrt(2) of 1.

    >>> round(log10(1000.0), 7)
    3.0
    """
    mantissa, exponent = arithmetic.frexp(value)
    low = mantissa < _ROOT_HALF
    mantissa = arithmetic.where(low, 2 * mantissa, mantissa)
    exponent = arithmetic.where(low, exponent - 1, exponent)
    ratio = (mantissa - 1) / (mantissa + 1)
    square = ratio * ratio
    series = ratio * (1 + square * (1 / 3 + square * (1 / 5 + square * (1 / 7 + square * (1 / 9)))))
    return (exponent + _TWO_OVER_LN2 * series) * _LOG10_2


def surprise_of(square: Value, arithmetic: Arithmetic = SINGLE) -> Value:
    """Return about -log10 of the chance of so great a square, in units of the usual square.

    `2 log10(1 + square)`: a tail as heavy as Student's t with 4 degrees of freedom. On the rows of the
    labelled series that are not anomalous it is within 0.2 of the observed -log10 up to 2.5, and within 0.4
    up to 3.

    >>> surprise_of(0.0), round(surprise_of(99.0), 6)
    (0.0, 4.0)
    """
    return 2 * log10(1 + square, arithmetic)


def anomaly_of(surprise: Value) -> Value:
    """Return a surprise (0 and up) as a score from 0 to 1 that keeps the order, for ever.

    >>> anomaly_of(0.0), anomaly_of(3.0), anomaly_of(27.0)
    (0.0, 0.5, 0.9)
    """
    return surprise / (surprise + HALF_SURPRISE)
