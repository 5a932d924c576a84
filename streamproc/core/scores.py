"""The learners' verdict on windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Scores:
    """Windows judged, all of shape (k,) in the order given.

    `surprise` is about -log10 of a tail's probability, of the strongest evidence, whose index in EVIDENCE is
    `evidence`. `anomaly` is the surprise brought to 0..1 where it is worth telling, and 0 where it only
    repeats what was told. `expected` is what was expected of this window's mean (by season, of the last hour's), `forecast`
    of the next one's; nine in ten are within 1.645 times `deviation` of it.
    """

    anomaly: NDArray[np.float64]
    evidence: NDArray[np.int8]
    surprise: NDArray[np.float64]
    expected: NDArray[np.float64]
    forecast: NDArray[np.float64]
    deviation: NDArray[np.float64]
