"""The learners' numbers that users can change, by name: the meaning and the bounds of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite

from streamproc.core.alarms import AlarmLevels
from streamproc.core.fading import nearer
from streamproc.core.judgement import USUAL_NUMBERS, Numbers
from streamproc.core.severity import ALARM_SURPRISE, CLEAR_SURPRISE, CRITICAL_SURPRISE
from streamproc.records import ANY_KIND, SensorEntry
from streamproc.records.alerting import Document, LearnersEntry


@dataclass(frozen=True, slots=True)
class Tunable:
    """A number that can be tuned: the one that everybody has, and the least and the greatest that it may be."""

    usual: float
    least: float
    most: float
    meaning: str


#: By name. The bounds are those beyond which a learner says nothing or everything: fadings from an hour of 1 s windows to
#: two windows; surprises from one in 30 windows to one in 10^10; squares from a hundredth of today's weight to ten times it.
TUNABLE: dict[str, Tunable] = {
    "alarm_surprise": Tunable(ALARM_SURPRISE, 1.5, 10.0, "learners raise to WARN from this surprise on"),
    "critical_surprise": Tunable(CRITICAL_SURPRISE, 1.5, 12.0, "and to CRITICAL from this one on"),
    "clear_surprise": Tunable(CLEAR_SURPRISE, 0.5, 10.0, "windows below this surprise are calm"),
    "level_fading": Tunable(USUAL_NUMBERS.level_fading, 0.001, 0.5, "how fast the level follows the values"),
    "slow_fading": Tunable(USUAL_NUMBERS.slow_fading, 0.0003, 0.5, "the same of the slow level of `trend`"),
    "scale_fading": Tunable(
        USUAL_NUMBERS.scale_fading, 0.0001, 0.1, "how fast the usual deviation is learnt"
    ),
    "spread_fading": Tunable(
        USUAL_NUMBERS.spread_fading, 0.0003, 0.5, "how fast the usual spread inside a window is learnt"
    ),
    "single_part": Tunable(USUAL_NUMBERS.single_part, 0.05, 60.0, "the weight of `level` and `difference`"),
    "spread_part": Tunable(USUAL_NUMBERS.spread_part, 0.0, 3.0, "the weight of `spread`; 0: never heard"),
    "season_part": Tunable(USUAL_NUMBERS.season_part, 0.0, 10.0, "the weight of `season`; 0: never heard"),
    "stuck_windows": Tunable(
        USUAL_NUMBERS.stuck_windows, 3.0, 100_000.0, "windows of rest beyond the usual that are `stuck`"
    ),
    "warm_up": Tunable(USUAL_NUMBERS.warm_up, 10.0, 10_000.0, "windows before a sensor is judged"),
}
#: Those that change what learners learn or find; the others change what is made of it.
FORMULA = tuple(name for name in TUNABLE if hasattr(USUAL_NUMBERS, name))


@dataclass(frozen=True, slots=True)
class Tuned:
    """What a sensor's learners go by."""

    numbers: Numbers
    levels: AlarmLevels


def tuned(given: Mapping[str, float]) -> Tuned:
    """What learners with these numbers go by; names that are not tunable are ignored.

    >>> tuned({"alarm_surprise": 4.0}).numbers == USUAL_NUMBERS
    True
    """
    return _tuned(tuple(sorted(given.items())))


@lru_cache(64)  # a partition's sensors share a few sets
def _tuned(given: tuple[tuple[str, float], ...]) -> Tuned:
    known = {name: number.usual for name, number in TUNABLE.items()}
    known |= {name: number for name, number in given if name in TUNABLE}
    formula = {name: known[name] for name in FORMULA}
    levels = AlarmLevels(known["alarm_surprise"], known["critical_surprise"], known["clear_surprise"])
    warmth = {"warm_up", "spread_fading"}
    if all(known[name] == TUNABLE[name].usual for name in warmth):
        return Tuned(Numbers(**formula), levels)
    return Tuned(
        Numbers(**formula, spread_warm=_weight(known["spread_fading"], round(known["warm_up"]))), levels
    )


def _weight(fading: float, windows: int) -> float:
    """The weight of a learner that has seen so many windows: by sums alone, so that all machines have the same bits."""
    weight = 0.0
    for _ in range(windows):
        weight = nearer(weight, 1.0, fading)
    return weight


def faults(given: Mapping[str, float]) -> Iterator[str]:
    """What is wrong with these numbers, in words for who gave them."""
    for name, number in given.items():
        tunable = TUNABLE.get(name)
        if tunable is None:
            yield f"{name} is no number of the learners; these are: {', '.join(TUNABLE)}"
        elif not (isfinite(number) and tunable.least <= number <= tunable.most):
            yield f"{name} must be from {tunable.least:g} to {tunable.most:g}, not {number:g}"
    whole = {name: given.get(name, number.usual) for name, number in TUNABLE.items()}
    if not whole["clear_surprise"] <= whole["alarm_surprise"] <= whole["critical_surprise"]:
        yield (
            f"clear_surprise ({whole['clear_surprise']:g}), alarm_surprise ({whole['alarm_surprise']:g}) and"
            f" critical_surprise ({whole['critical_surprise']:g}) must not fall in this order"
        )
    if whole["slow_fading"] > whole["level_fading"]:
        yield f"slow_fading ({whole['slow_fading']:g}) must not be above level_fading ({whole['level_fading']:g})"


class Tuning:
    """The numbers that sensors go by, of the registry's documents: those of their kind, else those of all kinds."""

    def __init__(self) -> None:
        self._entries: dict[str, LearnersEntry] = {}

    def __bool__(self) -> bool:
        return bool(self._entries)

    def follow(self, documents: Mapping[str, Document]) -> bool:
        """Go on by these documents; whether that changes anything."""
        found = {entry.kind: entry for entry in documents.values() if isinstance(entry, LearnersEntry)}
        changed = found != self._entries
        self._entries = found
        return changed

    def of(self, entry: SensorEntry | None) -> Mapping[str, float]:
        """The numbers that a sensor of this entry goes by, where they are others than the usual ones."""
        kind = entry.kind.lower() if entry and entry.kind else ANY_KIND
        found = self._entries.get(kind) or self._entries.get(ANY_KIND)
        return found.learners if found else {}
