"""What a run has shown, and how it is told."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.compare import Verdict
from tests.chaos.plan import Plan
from tests.chaos.recovery import Recovery
from tests.chaos.site import Ended

#: What SIGTERM may take, by the promise.
STOP_S = 5.0


@dataclass(slots=True)
class Outcome:
    """What a run has shown."""

    plan: Plan
    directory: Path
    verdict: Verdict = field(default_factory=Verdict)
    recoveries: list[Recovery] = field(default_factory=list)
    ends: list[Ended] = field(default_factory=list)
    stops: list[tuple[str, int, float]] = field(default_factory=list)
    unsure: dict[str, int] = field(default_factory=dict)
    #: Why it did not come to its end: then nothing is proven.
    unsettled: str = ""
    settled_s: float = 0.0
    #: Processes that wanted a CPU on average, in the last five minutes: beyond the number of CPUs, recoveries take longer.
    load: float = 0.0

    def wrong(self) -> list[str]:
        """What is wrong, a line each: what is lost, doubled or different, or that it did not come to its end."""
        found = [
            f"{name}: {dict(counter)}"
            for name in ("lost", "doubled", "different")
            if (counter := getattr(self.verdict, name))
        ]
        return [*found, *([self.unsettled] if self.unsettled else [])]

    def slow(self, bound_s: float) -> list[Recovery]:
        """The recoveries that took longer than that."""
        return [found for found in self.recoveries if found.slow(bound_s)]

    def lines(self, bound_s: float) -> list[str]:
        """The report."""
        ends = Counter(f"{end.name} with {end.code}: {end.reason}" for end in self.ends)
        stops = [
            f"{name} {seconds:.1f} s (exit {code})"
            for name, code, seconds in self.stops
            if seconds > STOP_S or code
        ]
        busy = " (more processes wanted a CPU than there are)" if self.load > (os.cpu_count() or 1) else ""
        return [
            *self.verdict.lines,
            *(f"ended by itself {count} times: {end}" for end, count in ends.items()),
            *(f"recovery: {found}" for found in self.recoveries),
            *([f"stopped slowly or with an error: {', '.join(stops)}"] if stops else []),
            f"compared: {dict(self.verdict.compared)}",
            f"not acknowledged: {self.unsure}",
            self.line(),
            *(f"SLOW{busy}: {found}" for found in self.slow(bound_s)),
            *(f"WRONG: {fault}" for fault in self.wrong()),
        ]

    def line(self) -> str:
        """One line of the table of seeds."""
        lost, doubled, different = (
            sum(counter.values())
            for counter in (self.verdict.lost, self.verdict.doubled, self.verdict.different)
        )
        return (
            f"seed {self.plan.seed} | {self.plan.profile} | {self.plan.seconds:.0f} s | {len(self.plan.faults)} faults | "
            f"{self.verdict.compared['readings']} readings | {lost} lost | {doubled} doubled | {different} different | "
            f"{self._slowest()} | settled in {self.settled_s:.0f} s | load {self.load:.1f} of {os.cpu_count()} | "
            f"{'WRONG' if self.wrong() else 'ok'}"
        )

    def _slowest(self) -> str:
        told = [(found.seconds, found.moment.name) for found in self.recoveries if found.seconds is not None]
        seconds, name = max(told, default=(0.0, "none measured"))
        return f"slowest recovery {seconds:.1f} s ({name})"

    def remove(self) -> None:
        """Remove what the run has written."""
        shutil.rmtree(self.directory, ignore_errors=True)
