"""Limits in `alert_thresholds` as the registry's ranges, so that the engine judges by what other programs set there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice

from msgspec.structs import replace

from streamproc.core.counted import counted
from streamproc.records import Range, SensorEntry
from streamproc.store.thresholds import Threshold

#: What a range can say, and of which severities an entry has one.
_CONDITIONS = ("out_of_range", "greater_than", "less_than")
_SEVERITIES = ("warning", "critical")
#: Sensors that a line names: more is a list that nobody reads.
_NAMED = 10
#: Nothing is acceptable to limits that contradict each other.
_CONTRADICTION = "{}: its {} limits contradict each other ({} to {}), so its range stays as it is"


def taken_over(
    entries: Iterable[SensorEntry], thresholds: Iterable[Threshold]
) -> tuple[list[SensorEntry], list[str]]:
    """The entries of the sensors that have limits, with these as ranges; and notes on what could not be taken over.

    Of several limits of one condition the first counts, as for those programs. One that was switched off takes its range
    away, unless that has been set otherwise since; what there is no limit of stays.

    >>> limits = [Threshold("a", "greater_than", 90.0, None, "critical")]
    >>> (entry,), notes = taken_over([SensorEntry("a", unit="C"), SensorEntry("b")], limits)
    >>> entry.sensor, entry.unit, entry.critical == Range(high=90.0), notes
    ('a', 'C', True, [])
    """
    limits: dict[str, list[Threshold]] = {}
    others: Counter[str] = Counter()
    for threshold in thresholds:
        if threshold.condition in _CONDITIONS and threshold.severity in _SEVERITIES:
            limits.setdefault(threshold.sensor, []).append(threshold)
        elif threshold.is_active:
            others[f"{threshold.condition}, {threshold.severity}"] += 1
    notes = [
        f"{counted(count, 'limit')} left out ({kind}): the engine judges by WARNING and CRITICAL ranges"
        for kind, count in sorted(others.items())
    ]
    taken = []
    for entry in entries:
        if entry.sensor in limits:
            rows = limits[entry.sensor]
            warning, critical = (_range(entry, rows, severity, notes) for severity in _SEVERITIES)
            taken.append(replace(entry, warning=warning, critical=critical))
    return taken, notes


def overruled(entries: Iterable[SensorEntry], thresholds: Iterable[Threshold]) -> dict[str, list[str]]:
    """The ranges of these entries, by sensor, that limits will soon overwrite.

    >>> limits = [Threshold("a", "greater_than", 90.0, None, "critical")]
    >>> overruled([SensorEntry("a", critical=Range(high=95.0)), SensorEntry("b")], limits)
    {'a': ['critical']}
    """
    wanted = {entry.sensor: entry for entry in entries}
    found = {
        each.sensor: [
            name for name in _SEVERITIES if getattr(each, name) != getattr(wanted[each.sensor], name)
        ]
        for each in taken_over(wanted.values(), thresholds)[0]
    }
    return {sensor: names for sensor, names in found.items() if names}


def told_of(ranges: dict[str, list[str]]) -> str:
    """The same in a line for who has set these ranges.

    >>> told_of({"a": ["critical"], "b": ["warning", "critical"]})
    'alert_thresholds overrules the ranges of 2 sensors within minutes: a (critical), b (warning, critical)'
    """
    some = [f"{sensor} ({', '.join(names)})" for sensor, names in islice(ranges.items(), _NAMED)]
    some += [f"and {len(ranges) - _NAMED} more"] if len(ranges) > _NAMED else []
    whose = counted(len(ranges), "sensor")
    return f"alert_thresholds overrules the ranges of {whose} within minutes: {', '.join(some)}"


def _range(entry: SensorEntry, limits: Sequence[Threshold], severity: str, notes: list[str]) -> Range | None:
    """The range of one severity as the limits would have it; one of the same bounds stays as it is."""
    standing: Range | None = getattr(entry, severity)
    ours = [limit for limit in limits if limit.severity == severity]
    active = [limit for limit in ours if limit.is_active]
    if not active:
        return None if _bounds(standing) == _bounds(_combined(ours)) else standing
    found = _combined(active)
    if _bounds(found) == _bounds(standing):
        return standing
    if found and found.low is not None and found.high is not None and found.low > found.high:
        notes.append(_CONTRADICTION.format(entry.sensor, severity, found.low, found.high))
        return standing
    return found


def _bounds(span: Range | None) -> tuple[float | None, float | None]:
    return (None, None) if span is None else (span.low, span.high)


def _combined(limits: Sequence[Threshold]) -> Range | None:
    """The values that break none of the limits, the first of each condition."""
    first = {limit.condition: limit for limit in reversed(limits)}
    lows, highs = [], []
    for condition, limit in first.items():
        lows.append(None if condition == "greater_than" else limit.low)
        highs.append({"greater_than": limit.low, "less_than": None}.get(condition, limit.high))
    low = max((value for value in lows if value is not None), default=None)
    high = min((value for value in highs if value is not None), default=None)
    return None if low is None and high is None else Range(low, high)
