"""Everything that a sensor's learners weighed for one window: each kind of evidence, not only the strongest.

A bank keeps only the strongest, since nobody else needs the others. To explain an event, the state before it is taken and
its window weighed once more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from river._river_rust.stats import RsEWMean as EWMean

from streamproc.core import windows
from streamproc.core.course import go_along_one
from streamproc.core.creep import SPELL_MS
from streamproc.core.gap import begin_spell
from streamproc.core.judgement import (
    EVIDENCE,
    HABIT,
    LEARNT_LEVEL,
    TOLD,
    WIDTH,
    WINDOWS,
    Numbers,
    Weighed,
    judge,
    weigh,
)
from streamproc.core.learners import LearnerBank
from streamproc.core.season import ALONG
from streamproc.core.tails import SINGLE
from streamproc.core.windows import Floats, Moments


@dataclass(frozen=True, slots=True)
class Weighing:
    """What the learners, who had seen so many `windows` before, weighed of one, by the names in EVIDENCE.

    They are heard from `warm_up` windows on. `surprise` is the strongest's, `evidence` its name ("none" where nothing is
    surprising), and `bar` what it had to be greater than to be news.
    """

    windows: int
    warm_up: int
    surprise: float
    evidence: str
    bar: float
    kinds: dict[str, Weighed]


def weighed(learnt: Floats, numbers: Numbers, rows: Moments, start: int) -> Weighing | None:
    """Weigh the window that began at `start`, by what was `learnt` (1, DUMPED) before `rows`, a sensor's base windows.

    None where it is not among these.
    """
    at = int(rows.start.searchsorted(start))
    if at == len(rows.start) or rows.start[at] != start:
        return None
    bank = LearnerBank()
    bank.grow(1)
    bank.tune(0, numbers)
    bank.load(0, learnt)
    means, deviations = windows.mean(rows), windows.deviation(rows)
    bank.observe([0] * at, means[:at], deviations[:at], rows.count[:at], rows.start[:at])
    known, spell = bank.dump([0])[0], start // SPELL_MS
    state, profile = known[:WIDTH].tolist(), known[WIDTH:].copy().view(np.float32)
    level = EWMean(numbers.level_fading)
    level.update(state[LEARNT_LEVEL])
    turned = begin_spell(state, profile, [level], spell, numbers.level_fading)
    if state[ALONG]:
        go_along_one(state)
    mean, deviation, count = means.item(at), deviations.item(at), float(rows.count[at])
    judged = judge(state, mean, deviation, count, turned, SINGLE, numbers)
    return Weighing(
        windows=int(state[WINDOWS]),
        warm_up=int(numbers.warm_up),
        surprise=judged.surprise,
        evidence=EVIDENCE[int(judged.evidence)],
        bar=state[TOLD] * HABIT,
        kinds=weigh(state, mean, deviation, count, numbers),
    )
