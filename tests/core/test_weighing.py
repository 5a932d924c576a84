"""All that the learners weigh of a window, held to what they say of it."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from streamproc.core import windows
from streamproc.core.judgement import WARM_UP
from streamproc.core.learners import EVIDENCE, LearnerBank
from streamproc.core.numbers import tuned
from streamproc.core.weighing import Weighing, weighed
from streamproc.core.windows import Moments
from tests.core.test_learners import bank

HOUR, MINUTE = 3_600_000, 60_000
USUAL: dict[str, float] = {}


@cache
def series(count: int, step: int) -> Moments:
    """Windows of four readings each `step` ms: a daily wave, a spike, wild windows, a step, a silence, a rest."""
    noise = np.random.default_rng(7)
    start = np.arange(count) * step
    start[-200:] += 9 * step
    mean = 20 + 5 * np.sin(2 * np.pi * start / (24 * HOUR)) + noise.normal(0, 0.3, count)
    deviation = np.abs(noise.normal(0.5, 0.1, count))
    mean[count // 2] += 12
    deviation[count // 2 + 40 : count // 2 + 43] *= 9
    mean[3 * count // 4 :] += 8
    mean[-count // 10 :], deviation[-count // 10 :] = 31.0, 0.0
    return moments(start, mean, deviation)


def moments(start: NDArray[np.int64], mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> Moments:
    """Windows of four readings with these means and deviations."""
    rows = Moments.empty(len(start))
    rows.start[:], rows.count[:], rows.shift[:], rows.value_square[:] = start, 4, mean, 4 * deviation**2
    return rows


def observe(learners: LearnerBank, rows: Moments) -> NDArray[np.float64]:
    """The surprises of a sensor's windows, and their evidence."""
    scores = learners.observe(
        [0] * len(rows), windows.mean(rows), windows.deviation(rows), rows.count, rows.start
    )
    return np.array([scores.surprise, scores.evidence])


@pytest.mark.parametrize("given", [USUAL, {"single_part": 1.0, "spread_part": 2.0, "warm_up": 200.0}])
@pytest.mark.parametrize("step", [1_000, 30 * MINUTE])
def test_the_strongest_is_what_the_learners_say(given: dict[str, float], step: int) -> None:
    """Of each window, at any step, by any numbers, for windows one by one and some at once."""
    numbers, rows = tuned(given).numbers, series(800, step)
    learners = bank(1)
    learners.tune(0, numbers)
    told = set()
    for at in range(0, len(rows), 3):
        some, before = rows.take(slice(at, at + 3)), learners.dump([0])
        for index, (surprise, evidence) in enumerate(observe(learners, some).T):
            found = weighed(before, numbers, some, int(some.start[index]))
            assert found is not None
            assert (found.surprise, found.evidence) == (surprise, EVIDENCE[int(evidence)])
            assert found.windows == at + index
            assert max(kind.surprise for kind in found.kinds.values()) == surprise
            told |= {found.evidence} if surprise else set()
    assert {"level", "difference", "spread", "season" if step > HOUR // 4 else "stuck"} <= told


def test_each_kind_says_what_it_saw() -> None:
    """A spike: its value beside the level, the levels that hardly part, a spread as ever, and no rest."""
    rows = series(800, 1_000)
    learners = bank(1)
    observe(learners, rows.take(slice(0, 400)))
    found = weighed(learners.dump([0]), learners.numbers(0), rows.take(slice(400, 401)), int(rows.start[400]))
    assert found is not None
    spike, spread = found.kinds["difference"], found.kinds["spread"]
    assert spike.saw == pytest.approx(32, abs=1)
    assert spike.usual == pytest.approx(20, abs=1)
    assert spike.deviation == pytest.approx(0.3, abs=0.1)
    assert spread.usual == pytest.approx(0.5, abs=0.05)
    assert spread.saw == pytest.approx(0.5, abs=0.3)
    assert found.surprise > 5 > spread.surprise
    assert "stuck" not in found.kinds
    assert found.bar < found.surprise


def test_what_is_not_heard_yet_weighs_nothing() -> None:
    """In the first windows nothing is surprising."""
    rows = series(800, 1_000)
    found = weighed(bank(1).dump([0]), bank(1).numbers(0), rows, int(rows.start[WARM_UP - 1]))
    assert found is not None
    assert {kind.surprise for kind in found.kinds.values()} == {0.0}
    assert (found.windows, found.warm_up) == (WARM_UP - 1, WARM_UP)


def test_a_window_that_is_not_there_is_not_weighed() -> None:
    """Neither one between others, nor one after them."""
    rows = series(800, 1_000)
    found: list[Weighing | None] = [
        weighed(bank(1).dump([0]), bank(1).numbers(0), rows, start) for start in (1, 10**9)
    ]
    assert found == [None, None]
