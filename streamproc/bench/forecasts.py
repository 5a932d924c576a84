"""How often the values of labelled series fell within a forecast's interval, by how many steps ahead it was made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamproc.core.judgement import NINE_TENTHS, WARM_UP
from streamproc.core.learners import LearnerBank, Scores
from streamproc.core.steps import StepErrors

#: The steps that are told of: the next row, and up to an hour of rows of five minutes.
STEPS = (1, 3, 6, 12)
#: An interval is to cover so much of what comes.
NOMINAL = 0.9


@dataclass(frozen=True, slots=True)
class Coverage:
    """How often what came was inside, of one series and step, and the rows looked at."""

    covered: int
    rows: int

    @property
    def part(self) -> float:
        """The part of the rows that was inside."""
        return self.covered / self.rows


def learnt(value: NDArray[np.float64], at_ms: NDArray[np.int64]) -> Scores:
    """What the learners say of a series, each row a window of its own."""
    learners, rows = LearnerBank(), len(value)
    learners.grow(1)
    return learners.observe([0] * rows, value, [0.0] * rows, [1] * rows, at_ms)


def coverage(values: Sequence[NDArray[np.float64]], told: Sequence[Scores]) -> dict[int, list[Coverage]]:
    """For each of STEPS each series' coverage, from the end of the warm-up on; `told` is what the learners say of them."""
    deviations = _deviations(values, told)
    found: dict[int, list[Coverage]] = {}
    for step in STEPS:
        rows = slice(WARM_UP - 1, -step)
        found[step] = []
        for value, scores, deviation in zip(values, told, deviations, strict=True):
            margin = NINE_TENTHS * deviation[rows, step - 1]
            inside = np.abs(value[WARM_UP - 1 + step :] - scores.forecast[rows]) <= margin
            found[step].append(Coverage(int(np.count_nonzero(inside)), len(inside)))
    return found


def _deviations(values: Sequence[NDArray[np.float64]], told: Sequence[Scores]) -> list[NDArray[np.float64]]:
    """Of each series the deviations (rows, steps) that were told after each row; all series row by row together."""
    errors = StepErrors(max(STEPS))
    errors.grow(len(values))
    lengths = np.array([len(value) for value in values])
    rows = int(lengths.max())
    actual, forecast, usual = (np.zeros((rows, len(values))) for _ in range(3))
    deviation = np.zeros((rows, len(values), max(STEPS)))
    for number, (value, scores) in enumerate(zip(values, told, strict=True)):
        actual[: len(value), number] = value
        forecast[: len(value), number], usual[: len(value), number] = scores.forecast, scores.deviation
    for row in range(rows):
        at = np.flatnonzero(lengths > row)
        deviation[row, at] = errors.learn(at, actual[row, at], forecast[row, at], usual[row, at])
    return [deviation[:length, number] for number, length in enumerate(lengths.tolist())]


def told_lines(found: dict[int, list[Coverage]]) -> list[str]:
    """A line for each step: the part of all rows, and the least and the most of one series."""
    lines = []
    for step, each in found.items():
        parts = sorted(one.part for one in each)
        whole = Coverage(sum(one.covered for one in each), sum(one.rows for one in each))
        lines.append(
            f"intervals of {NOMINAL:.0%}, step {step:2d}: {whole.part:.1%} covered,"
            f" of a series from {parts[0]:.1%} to {parts[-1]:.1%}"
        )
    return lines
