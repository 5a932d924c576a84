"""Whether an event came out the same and, if not, where it differs and what may be the cause."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Any, NamedTuple

import msgspec

from streamproc.core.learners import LearnerBank
from streamproc.explain.recompute import Recomputed
from streamproc.explain.source import Source
from streamproc.records import SeverityEvent

#: Parts of an event that are words, not numbers.
_WORDS = {"explanation", "recommended_action"}


class Verdict(IntEnum):
    """The result of the comparison; the number is the command's exit code (2 is an error's)."""

    SAME = 0
    DIFFERENT = 1
    GONE = 3


class Part(NamedTuple):
    """A part of the event that differs: as it was, and as recomputed."""

    name: str
    was: Any
    now: Any


class Finding(NamedTuple):
    """The verdict, the parts that differ, and possible causes, the most likely first."""

    verdict: Verdict
    parts: list[Part]
    reasons: list[str]


def judge(event: SeverityEvent, source: Source, told: Recomputed | None) -> Finding:
    """Compare the event with the recomputed one; `told` is None if its records are gone."""
    if told is None:
        return Finding(Verdict.GONE, [], [_gone(event, source)])
    if told.event is None:
        return Finding(Verdict.DIFFERENT, [], list(_reasons(event, source, told)))
    if msgspec.json.encode(event) == msgspec.json.encode(told.event):
        return Finding(Verdict.SAME, [], [])
    parts = list(_parts(msgspec.to_builtins(event), msgspec.to_builtins(told.event)))
    if {part.name for part in parts} <= _WORDS:
        return Finding(Verdict.DIFFERENT, parts, list(_words(parts)))
    return Finding(Verdict.DIFFERENT, parts, list(_reasons(event, source, told)))


def _gone(event: SeverityEvent, source: Source) -> str:
    lineage = event.lineage
    if source.begin >= source.end:
        return (
            f"the topic {lineage.topic} ends at offset {source.end}, before the event's records: it was made anew, or this "
            "is another Kafka than the one that they came by"
        )
    return (
        f"its records are gone: of {lineage.topic}, partition {lineage.partition}, Kafka keeps those from offset "
        f"{source.first} on, and the event came from {_span(event)}. What it said is above, as it was written then"
    )


def _span(event: SeverityEvent) -> str:
    first, last = event.lineage.first_offset, event.lineage.last_offset
    return f"offset {first}" if first == last else f"offsets {first} to {last}"


def _parts(was: dict[str, Any], now: dict[str, Any], path: str = "") -> Iterator[Part]:
    """The parts that differ, by their paths."""
    for name in [*was, *(name for name in now if name not in was)]:
        old, new = was.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _parts(old, new, f"{path}{name}.")
        elif old != new:
            yield Part(f"{path}{name}", old, new)


def _words(parts: list[Part]) -> Iterator[str]:
    who = "another version of streamproc has written them, or somebody has changed the row"
    if {part.name for part in parts} == {"recommended_action"}:
        yield f"only the words of the recommended action differ: {who}"
    else:
        yield f"all numbers are the same, and only the words differ: {who}"


def _reasons(event: SeverityEvent, source: Source, told: Recomputed) -> Iterator[str]:
    """What can be why, the surest first."""
    was = event.lineage.versions
    if was.get("learners") != LearnerBank.VERSION:
        yield (
            f"learners of version {was.get('learners', 'unknown')} made it, and this program has version "
            f"{LearnerBank.VERSION}: what they find unusual is not the same"
        )
    now = told.event.lineage.versions if told.event else {}
    if now and was.get("registry") != now.get("registry"):
        yield (
            f"it was judged by version {was.get('registry')} of the sensor's entry in the registry, and at that place the "
            f"topic `registry` now gives version {now.get('registry')}: edits that were superseded more than 8 days ago are "
            "not kept, and a topic that was made anew has none of before"
        )
    if source.cold:
        yield (
            f"Kafka keeps nothing before offset {source.first}, and no snapshot of the state lies before the event: "
            "learners and severities began there, knowing nothing"
        )
    yield (
        "settings may have been others then: STREAMPROC_ALLOWED_LATENESS_MS and STREAMPROC_ALLOWED_SKEW_MS decide which "
        "readings are in a window"
    )
    yield (
        "another version of streamproc may have made it, a `replay --apply --registry` with other ranges, or the topic was "
        "made anew and has other records at these offsets"
    )
