"""The report of many seeds: a line each with what was measured, and a table of recoveries by kind of fault."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from tests.chaos.outcome import Outcome

_SEED = re.compile(r"seed (?P<seed>\d+) \| (?P<profile>\w+) \| (?P<seconds>\d+) s \|.*\| (?P<end>ok|WRONG)$")
_MEASURED = re.compile(r"  (?P<name>[^=]+) = (?P<values>[-\d., /]+)$")
#: In which order the table has them: the promise is for 10,000 sensors.
_PROFILES = ("recovery", "busy")
#: The next fault came before it went on.
_NONE = "-"

#: Seconds until it went on, and until it did in all partitions; None where the next fault came first.
Times = tuple[float | None, float | None]


@dataclass(slots=True)
class Told:
    """A seed as the report has it.

    `measured` has the times of its recoveries by name.
    """

    seed: int
    profile: str
    seconds: int
    wrong: bool
    line: str
    measured: dict[str, list[Times]] = field(default_factory=dict)

    @classmethod
    def of(cls, outcome: Outcome) -> Told:
        """What is told of an outcome."""
        measured = defaultdict(list)
        for found in outcome.recoveries:
            measured[found.moment.name].append((_tenths(found.seconds), _tenths(found.all_s)))
        made = outcome.plan
        wrong = bool(outcome.wrong())
        return cls(made.seed, made.profile, round(made.seconds), wrong, outcome.line(), dict(measured))

    def text(self) -> str:
        """Its lines: that of the seed, and an indented one for each name."""
        lines = [self.line]
        for name, values in sorted(self.measured.items()):
            told = ", ".join("/".join(map(_text, times)) for times in values)
            lines.append(f"  {name} = {told}")
        return "\n".join(lines) + "\n"


def _tenths(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def _text(seconds: float | None) -> str:
    return _NONE if seconds is None else f"{seconds:.1f}"


def _times(text: str) -> Times:
    first, every = (None if value == _NONE else float(value) for value in text.split("/"))
    return first, every


def read(path: Path) -> list[Told]:
    """The seeds that a report has; none where there is no such file."""
    found: list[Told] = []
    for line in path.read_text().splitlines() if path.exists() else ():
        if match := _SEED.match(line):
            found.append(
                Told(int(match["seed"]), match["profile"], int(match["seconds"]), match["end"] != "ok", line)
            )
        elif found and (match := _MEASURED.match(line)):
            found[-1].measured[match["name"]] = [_times(text) for text in match["values"].split(", ")]
    return found


def table(seeds: Iterable[Told]) -> list[str]:
    """How long recoveries took in seconds, by profile and kind: the first partition's, and the last one's."""
    found: dict[tuple[str, str], list[Times]] = defaultdict(list)
    count = 0
    for count, told in enumerate(seeds, 1):  # noqa: B007  # how many there are, at the end
        for name, times in told.measured.items():
            found[told.profile, name] += times
    seeds_told = f"{count} seed{'s' if count != 1 else ''}"
    lines = [
        f"recovery in seconds, {seeds_told} | measured | median | slowest | all partitions: median | slowest"
    ]
    for (profile, name), times in sorted(
        found.items(), key=lambda row: (_PROFILES.index(row[0][0]), row[0][1])
    ):
        first, every = (
            [value for value in column if value is not None] for column in zip(*times, strict=True)
        )
        lines.append(
            f"{profile}: {name} | {len(first)} of {len(times)} | {_middle_and_most(first)} | {_middle_and_most(every)}"
        )
    return lines


def _middle_and_most(values: list[float]) -> str:
    return f"{median(values):.1f} | {max(values):.1f}" if values else f"{_NONE} | {_NONE}"
