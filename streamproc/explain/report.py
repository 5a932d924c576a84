"""An explained event, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import numpy as np

from streamproc.core.alarms import AlarmLevels
from streamproc.core.counted import counted
from streamproc.core.judgement import Weighed
from streamproc.core.learners import LearnerBank
from streamproc.core.severity import ALARM_SURPRISE, CLEAR_SURPRISE, CRITICAL_SURPRISE
from streamproc.core.slot_severity import SlotSeverity
from streamproc.core.weighing import Weighing
from streamproc.explain.find import Found
from streamproc.explain.reasons import Finding, Verdict
from streamproc.explain.recompute import Read, Recomputed
from streamproc.explain.source import Source
from streamproc.records import Range, Severity, SeverityEvent
from streamproc.store.stamps import LAST_MS, iso

#: Readings that the text names; JSON has all that were kept.
SHOWN = 10
#: What people call each kind of evidence; the names are those of `SlotSeverity`.
_EVIDENCE = {
    "range_level": "ranges",
    "spike_level": "delta spikes",
    "learner_level": "learners",
    "held": "flapping",
}
_LEVEL = "_level"
#: Which of a lineage's numbers is a time, in ms: that of the last reading before a silence.
_SINCE = "since"
#: The kinds of evidence that are the user's rules, and the rules' tags.
_RULES = {"delta spikes": "delta_spike", "silence": "no_data"}
_DIGITS = 6


class Told(NamedTuple):
    """Everything known about an event; `made` is None if its records are gone."""

    found: Found
    source: Source
    made: Recomputed | None
    finding: Finding


def as_json(told: Told) -> str:
    """Everything as one object."""
    event, made, source = told.found.event, told.made, told.source
    answer: dict[str, Any] = {
        "event": event,
        "found_in": told.found.where,
        "verdict": told.finding.verdict.name.lower(),
        "same": told.finding.verdict is Verdict.SAME,
        "differs": [part._asdict() for part in told.finding.parts],
        "reasons": told.finding.reasons,
        "versions_here": {"learners": LearnerBank.VERSION},
        "source": {
            "first_kept": source.first,
            "end": source.end,
            "begun_at": source.start,
            "from_snapshot": source.snapshot is not None,
        },
    }
    if made is not None:
        answer["recomputed"] = {
            "event": made.event,
            "came_out_at": made.offset,
            "language": made.language,
            "registry_position": made.registry,
            "judged_by": made.entry,
            "evidence": {
                "before": evidence(made.before),
                "after": evidence(made.after),
            },
            "learners_weighed": made.weighing and _weighing(made.weighing),
            "learners_alarm_from": made.levels,
            "records": made.records,
            "readings": made.readings,
            "other_changes": made.others,
        }
    return msgspec.json.encode(answer).decode()


def as_text(told: Told) -> str:
    """The same as lines."""
    return "\n".join(_lines(told))


def evidence(held: SlotSeverity | None) -> dict[str, str]:
    """What each kind of evidence holds for a sensor, by its name; all NORMAL if it never changed."""
    held = held or SlotSeverity(0)
    names = [name for name in held.__struct_fields__ if name.endswith(_LEVEL) or name in _EVIDENCE]
    told = {
        _EVIDENCE.get(name, name.removesuffix(_LEVEL).replace("_", " ")): Severity(getattr(held, name)).name
        for name in names
    }
    rules = getattr(held, "rules", {})  # of those that say something, what each holds up
    return told | {f"rule {name}": Severity(state.level).name for name, state in rules.items()}


def _lines(told: Told) -> Iterator[str]:
    event, made = told.found.event, told.made
    yield f"{event.severity.name} (was {event.previous.name}), {event.cause}, sensor {event.sensor}, {_time(event.at)}"
    yield f"  {event.explanation}"
    yield f"  {event.recommended_action}"
    yield f"  id {event.event_id}, from {told.found.where}"
    yield ""
    yield from _read(event, told.source, made)
    yield ""
    yield from _said(event, made)
    yield ""
    yield from _verdict(told)


def _read(event: SeverityEvent, source: Source, made: Recomputed | None) -> Iterator[str]:
    """What was read."""
    lineage = event.lineage
    yield "What was read"
    first, last = lineage.first_offset, lineage.last_offset
    span = f"offset {first}" if first == last else f"offsets {first} to {last}"
    yield f"  {lineage.topic}, partition {lineage.partition}, {span}"
    if lineage.window:
        yield f"  window of {_window(lineage.window)}"
    if made is None:
        return
    for reading in made.readings[:SHOWN]:
        yield f"  {_reading(reading)}"
    if len(made.readings) > SHOWN:
        yield f"  and {len(made.readings) - SHOWN} more (--json has them)"
    if made.offset is not None and made.offset != last:
        moved = "past the window's end" if lineage.window else "on"
        yield f"  it came out with the record at offset {made.offset}, which moved the time {moved}"
    begun = f"offset {source.start}, the first kept" if source.start else "the partition's first record"
    if source.snapshot:
        begun = f"the snapshot at offset {source.start}"
    yield f"  the state before it was made from {begun}"


def _said(event: SeverityEvent, made: Recomputed | None) -> Iterator[str]:
    """What each kind of evidence said, the rule and the versions."""
    lineage = event.lineage
    if made is not None and made.event is not None:
        before, after = evidence(made.before), evidence(made.after)
        yield "What each kind of evidence said"
        width = max(map(len, after))
        for name, level in after.items():
            earlier = before.get(name, Severity.NORMAL.name)
            was = "" if earlier == level else f" (was {earlier})"
            yield f"  {name:{width}}  {level}{was}{_detail(name, event, made)}"
        if made.weighing is not None:
            yield from _weighed(made.weighing)
    yield f"Rule      {lineage.rule or 'none'}"
    for name, value in lineage.scores.items():
        yield f"          {name} {_time(int(value)) if name == _SINCE else _number(value)}"
    versions = ", ".join(f"{name} {version}" for name, version in sorted(lineage.versions.items()))
    yield f"Versions  {versions} (here: learners {LearnerBank.VERSION})"


def _weighing(of: Weighing) -> dict[str, Any]:
    """The learners' weighing, the kinds with their numbers' names."""
    plain: dict[str, Any] = msgspec.to_builtins(of)
    return plain | {"kinds": {name: kind._asdict() for name, kind in of.kinds.items()}}


def _weighed(of: Weighing) -> Iterator[str]:
    """All evidence that the learners weighed of the event's window, the most surprising first."""
    if of.windows < of.warm_up:
        seen = counted(of.windows, "window")
        yield f"What the learners weighed: nothing, they had seen {seen} of the {of.warm_up} that they need"
        return
    heard = "news" if of.surprise > of.bar else "no news"
    yield (
        f"What the learners weighed, who had seen {counted(of.windows, 'window')} before; the surprise of "
        f"{_number(of.surprise)} is {heard} where the bar is {_number(of.bar)}"
    )
    width = max(map(len, of.kinds))
    for name, kind in sorted(of.kinds.items(), key=lambda item: -item[1].surprise):
        yield f"  {name:{width}}  surprise {_number(kind.surprise)}: {_seen(name, kind)}"


def _seen(name: str, kind: Weighed) -> str:
    """What a kind of evidence saw, and what is usual."""
    usual = "nothing" if kind.usual is None else _number(kind.usual)
    if kind.saw is None:
        return f"the last {'hours' if name == 'drift' else 'hour'}, where {usual} was expected"
    saw, give = (
        _number(kind.saw),
        "" if kind.deviation is None else f", give or take {_number(kind.deviation)}",
    )
    if name == "stuck":
        return f"{saw} windows at rest, where {usual} are needed"
    if name == "trend":
        return f"a level of {saw} beside a slower one of {usual}{give}"
    if name == "spread":
        return f"a deviation of {saw} inside the window, where {usual} is usual{give}"
    return f"{saw} where {usual} was expected{give}"


def _detail(name: str, event: SeverityEvent, made: Recomputed) -> str:
    """What a kind of evidence was judging by."""
    entry = made.entry
    if name == "ranges":
        ranges = [
            f"{level} {_range(each)}"
            for level, each in (("warning", entry and entry.warning), ("critical", entry and entry.critical))
            if each
        ]
        return f": {', '.join(ranges)}" if ranges else ": none set"
    if name in _RULES:
        rules = [
            rule for rule in (entry.rules if entry else ()) if rule.__struct_config__.tag == _RULES[name]
        ]
        return f": {', '.join(map(_plain, rules))}" if rules else ": none set"
    scores = event.lineage.scores
    if name == "learners" and "surprise" in scores:
        levels = made.levels or AlarmLevels(ALARM_SURPRISE, CRITICAL_SURPRISE, CLEAR_SURPRISE)
        return (
            f": surprise {_number(scores['surprise'])} (WARN from {levels.warning:g}, CRITICAL from {levels.critical:g}); "
            f"{_number(event.value)} where {_number(scores['expected'])} was expected, "
            f"give or take {_number(scores['deviation'])}"
        )
    return ""


def _verdict(told: Told) -> Iterator[str]:
    finding, made = told.finding, told.made
    if finding.verdict is Verdict.SAME and made is not None:
        yield "It comes out the same: yes, byte for byte"
        return
    if finding.verdict is Verdict.GONE:
        yield "It comes out the same: this cannot be told any more"
    elif made is not None and made.event is None:
        yield "It comes out the same: NO, it does not come out at all"
        for other in made.others:
            yield f"  instead: {other.severity.name} (was {other.previous.name}), {other.cause}, {_time(other.at)}"
    else:
        yield "It comes out the same: NO"
    for part in finding.parts:
        yield f"  {part.name}: {_plain(part.was)} then, {_plain(part.now)} now"
    if len(finding.reasons) == 1:
        yield f"  Why: {finding.reasons[0]}."
    elif finding.reasons:
        yield "  Why it can be so, the likeliest first:"
        yield from (f"  - {reason}" for reason in finding.reasons)


def _window(window: dict[str, float]) -> str:
    start, size = int(window.get("start", 0)), window.get("size_ms", 0) / 1000
    names = ("count", "mean", "min", "max", "deviation", "first", "last", "trend")
    numbers = ", ".join(f"{name} {_number(window[name])}" for name in names if name in window)
    return f"{_number(size)} s from {_time(start)}: {numbers}"


def _reading(reading: Read) -> str:
    return f"offset {reading.offset}: {_number(reading.value)} at {_time(reading.ts)}"


def _range(acceptable: Range) -> str:
    """Both bounds, and both clear levels where there are any."""
    bounds = _span(acceptable.low, acceptable.high)
    clear = _span(acceptable.clear_low, acceptable.clear_high)
    return f"{bounds} (clear {clear})" if clear else bounds


def _span(low: float | None, high: float | None) -> str:
    if low is None:
        return "" if high is None else f"up to {high}"
    return f"from {low}" if high is None else f"{low} to {high}"


def _plain(value: object) -> str:
    return "nothing" if value is None else msgspec.json.encode(value).decode()


def _number(value: float) -> str:
    return f"{value:.{_DIGITS}g}"


def _time(ms: int) -> str:
    """A time in UTC; one that no calendar has stays a number."""
    return iso(np.array([ms], dtype=np.int64))[0] if 0 <= ms <= LAST_MS else f"{ms} ms"
