"""An upper bound for fault detection: the best that a detector could do that knows the clean distribution and the fault.

A detector with one false alarm in N windows raises one within k windows of a clean series with a probability of k/N. At that
probability the most powerful test is that of Neyman and Pearson, on the likelihood ratio of just those windows, from the
fault's first to the last that counts as soon. It even knows when the fault begins, so no detector finds more. Noise is
Gaussian with deviation 1, and the season is known.
"""

from __future__ import annotations

from math import erf, exp, pi, sqrt
from statistics import NormalDist

import numpy as np

from streamproc.bench.fault_series import DAY_MS, LEVEL, Fault, Rows, Size
from streamproc.bench.faults import ALLOWED, SOON, USUAL_DAYS
from streamproc.core.windows import Floats

_NORMAL = NormalDist()
#: Halves of a search: as many as a double has digits, and some.
_HALVES = 60


def findable(fault: Fault, size: Size, every_ms: int) -> float | None:
    """The part of these faults that can be found within SOON windows of their size; None where values do not tell."""
    windows = size.evident(every_ms) + SOON
    chance = min(0.5, ALLOWED * windows * every_ms / (USUAL_DAYS * DAY_MS))
    moved = sqrt(float(np.square(_added(fault, size, every_ms, windows, 0.0)).sum()))
    if moved:
        return _NORMAL.cdf(moved + _NORMAL.inv_cdf(chance))
    scale = 1 + float(_added(fault, size, every_ms, windows, 1.0)[0])
    if scale <= 1:
        return None
    return 1 - chi_square(_exceeded(chance) / scale**2)


def chi_square(square: float) -> float:
    """The chance that the squares of SOON deviations, which are three, sum up to no more than this.

    >>> round(chi_square(7.8147), 4)
    0.95
    """
    return erf(sqrt(square / 2)) - sqrt(2 * square / pi) * exp(-square / 2)


def _exceeded(chance: float) -> float:
    """What such a sum exceeds with this chance."""
    low, high = 0.0, 200.0
    for _ in range(_HALVES):
        middle = (low + high) / 2
        low, high = (middle, high) if 1 - chi_square(middle) > chance else (low, middle)
    return high


def _added(fault: Fault, size: Size, every_ms: int, windows: int, noise: float) -> Floats:
    """What the fault adds to values that are `noise` off what is usual."""
    usual, since = np.full((windows, 1), LEVEL), np.arange(windows)[:, None]
    sent, shift = np.ones((windows, 1), dtype=bool), np.zeros((windows, 1), dtype=np.int64)
    rows = Rows(usual, usual + noise, since, usual[0], sent, shift)
    fault.put(rows, size, every_ms)
    added: Floats = rows.value[:, 0] - usual[:, 0] - noise
    return added
