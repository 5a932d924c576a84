"""What `streamproc bench faults` prints: the targets in words, or all figures as Markdown tables for docs/faults.md."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from streamproc.bench.fault_bound import findable
from streamproc.bench.fault_series import FAULTS
from streamproc.bench.faults import (
    ALLOWED,
    BASES,
    SAMPLINGS_MS,
    SIZES,
    SOON,
    USUAL_DAYS,
    Clean,
    Found,
    Trial,
    watch,
)

#: A part that is told as 100.0 %.
ALL_OF_THEM = 0.9995
LARGE = SIZES.index("large")


@dataclass(slots=True)
class Figures:
    """All that was measured so far."""

    samplings: Sequence[str]
    found: list[Found] = field(default_factory=list)
    clean: list[Clean] = field(default_factory=list)


def run(samplings: Sequence[str], seeds: int, days: int, *, only: Sequence[str] = (), markdown: bool) -> None:
    """Measure, and print the tables or what misses a target; what goes on meanwhile is on standard error.

    `only` names the faults that are tried, all of them where it is empty.
    """
    figures, began = Figures(samplings), time.process_time()
    faults = [fault for fault in FAULTS if fault.name in only or not only]
    for sampling in samplings:
        if days:
            _note(f"{sampling}: clean series")
            figures.clean += watch(sampling, -(-days // USUAL_DAYS))
        for base in BASES:
            _note(f"{sampling}: faults in {base} series")
            found, before = Trial(base, sampling, seeds, faults=faults).run()
            figures.found += found
            figures.clean += before
    _note(f"took {time.process_time() - began:.0f} s of CPU time")
    missed = list(summary(figures))
    print("\n".join(tables(figures) if markdown else missed or ["all targets are met"]))


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def summary(figures: Figures) -> Iterator[str]:
    """What misses a target, in words."""
    for clean in figures.clean:
        if clean.a_month > ALLOWED:
            series = f"{clean.kind} at {clean.sampling}"
            yield f"clean, {_who(clean.ruled)}: {series}: {_alarms(clean)} in {USUAL_DAYS} sensor-days"
    for found in figures.found:
        if found.size == LARGE and found.soon < 1:
            yield (
                f"large, {_who(found.ruled)}: {found.fault.name} in {found.base} at {found.sampling}: "
                f"{found.soon:.0%} within {SOON} windows, {found.part:.0%} in all"
            )


def tables(figures: Figures) -> Iterator[str]:
    """The tables, a line each."""
    yield from _clean_table(figures)
    for base in BASES:
        yield from ("", f"**{base}**: learners alone / with rules, where that is not the same", "")
        yield from _found_table(figures, base)
    yield from ("", f"**at most**: what can be found within {SOON} windows", "")
    yield from _bound_table(figures)


def _who(ruled: bool) -> str:
    return "with rules" if ruled else "learners alone"


def _head(names: Sequence[str], samplings: Sequence[str]) -> list[str]:
    head = [*names, *samplings]
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(names) + "--:|" * len(samplings)]


def _clean_table(figures: Figures) -> Iterator[str]:
    yield from _head(("clean series", "judged by"), figures.samplings)
    rows = {(one.kind, one.ruled): one.kind for one in figures.clean}
    for kind, ruled in rows:
        cells = [
            _clean_cell(
                [one for one in figures.clean if (one.kind, one.ruled, one.sampling) == (kind, ruled, at)]
            )
            for at in figures.samplings
        ]
        yield f"| {kind} | {_who(ruled)} | {' | '.join(cells)} |"


def _clean_cell(ones: Sequence[Clean]) -> str:
    if not ones:
        return "-"
    days, alarms = sum(one.sensor_days for one in ones), sum((one.alarms for one in ones), Counter[str]())
    return f"{alarms.total()} in {days:,.0f} d{_causes(alarms)}"


def _alarms(clean: Clean) -> str:
    return f"{clean.a_month:.1f} alarms{_causes(clean.alarms)}"


def _causes(counts: Counter[str]) -> str:
    told = ", ".join(f"{cause} {count}" for cause, count in counts.most_common())
    return f" ({told})" if told else ""


def _found_table(figures: Figures, base: str) -> Iterator[str]:
    yield from _head(("fault", "size"), figures.samplings)
    its = {
        (one.fault.name, one.size, one.sampling, one.ruled): one for one in figures.found if one.base == base
    }
    for fault in dict.fromkeys(one.fault for one in figures.found):
        for number, size in enumerate(fault.sizes):
            cells = []
            for at in figures.samplings:
                both = (_found_cell(its.get((fault.name, number, at, ruled))) for ruled in (False, True))
                cells.append(" / ".join(dict.fromkeys(both)))
            yield f"| {fault.name if not number else ''} | {SIZES[number]}, {size.words} | {' | '.join(cells)} |"


def _bound_table(figures: Figures) -> Iterator[str]:
    """Of faults that cannot all be found."""
    yield from _head(("fault", "size"), figures.samplings)
    for fault in dict.fromkeys(one.fault for one in figures.found):
        for number, size in enumerate(fault.sizes):
            parts = [findable(fault, size, SAMPLINGS_MS[at]) for at in figures.samplings]
            if any(part is not None and part < ALL_OF_THEM for part in parts):
                cells = " | ".join(f"{100 * (part or 0):.1f} %" for part in parts)
                yield f"| {fault.name} | {SIZES[number]}, {size.words} | {cells} |"


def _found_cell(found: Found | None) -> str:
    if found is None:
        return "-"
    if not found.delays:
        return "0 %"
    return f"{100 * found.part:.0f} %: {found.delay(0.5)}, {found.delay(0.9)}"
