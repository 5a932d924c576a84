"""An event made once more of its records, and what is told where it does not come out the same."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import msgspec
import numpy as np
import pytest
from aiokafka import TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as with_

from streamproc.core.checkpoint import Snapshot, snapshot
from streamproc.core.engine import run
from streamproc.core.learners import EVIDENCE
from streamproc.core.registry import RegistryLog
from streamproc.core.slot_severity import SlotSeverity
from streamproc.explain import recompute, report
from streamproc.explain.find import Found
from streamproc.explain.reasons import Finding, Verdict, judge
from streamproc.explain.recompute import Recomputation, Recomputed, fresh
from streamproc.explain.source import Source
from streamproc.records import NoData, Range, SensorEntry, Severity, SeverityEvent
from streamproc.store.stamps import iso
from tests.core.attention import CALM, Site, at_ms
from tests.core.oracle import (
    HERE,
    NOW,
    OPTIONS,
    TOPIC,
    Reading,
    Record,
    chunk,
    edited,
    registry,
    story,
)
from tests.core.test_edits import edits

#: They take seconds.
pytestmark = pytest.mark.live

SEED = 5


@cache
def told() -> tuple[list[Record], RegistryLog, list[SeverityEvent]]:
    """A story with edits, and all that the engine tells of it."""
    records, log = edited(SEED, story(SEED, sensors=65, seconds=112))
    state = fresh(OPTIONS, None)
    events = [event for _, out in run(state, chunk(records, 0), log) for event in out.events]
    return records, log, events


def one_of_each() -> list[SeverityEvent]:
    """The last event of each cause and severity: the ranges', rules', learners' and recoveries."""
    return list({(event.cause, event.severity): event for event in told()[2]}.values())


def explained(
    event: SeverityEvent, *, language: str = "en", kept: Snapshot | None = None, cut: int = 97, begin: int = 0
) -> Recomputed:
    """What comes out of the records from a snapshot, or `begin`, on."""
    records, log, _ = told()
    options = replace(OPTIONS, language=language)  # type: ignore[arg-type]
    work = Recomputation(fresh(options, kept), log, event)
    start, first = kept.next_offset if kept else begin, event.lineage.first_offset
    if start < first:
        work.warm(chunk(records[start:first], start))
    for at in range(first, len(records), cut):
        if work.take(chunk(records[at : at + cut], at)):
            break
    return work.outcome()


def source(first: int = 0, kept: Snapshot | None = None, begin: int = 1_000) -> Source:
    """The topic, of which Kafka has the records from `first` on."""
    start = kept.next_offset if kept else first
    return Source(TopicPartition(TOPIC, 0), 2, first, len(told()[0]), begin, start, kept)


def test_each_kind_of_event_comes_out_the_same(subtests: pytest.Subtests) -> None:
    """Byte for byte, however its records come; the evidence around it has its severities."""
    for event in one_of_each():
        with subtests.test(f"{event.cause}-{event.severity.name}"):
            comes_out_the_same(event)


def comes_out_the_same(event: SeverityEvent) -> None:
    """Check one."""
    for cut in (97, 5_000):
        made = explained(event, cut=cut)
        assert msgspec.json.encode(made.event) == msgspec.json.encode(event)
        levels = [max(report.evidence(held).values(), key=_rank) for held in (made.before, made.after)]
        theirs = [each for each in told()[2] if each.sensor == event.sensor]
        at = theirs.index(event)
        # One record may bring two changes: the silence before it, say, and what its reading is.
        assert levels[0] in {each.previous.name for each in theirs[max(at - 1, 0) : at + 1]}
        assert levels[1] in {each.severity.name for each in theirs[at : at + 2]}
    assert made.offset is not None
    assert made.offset >= event.lineage.last_offset
    assert judge(event, source(), made).verdict is Verdict.SAME
    assert event.value in {reading.value for reading in made.readings} or event.lineage.window
    text = report.as_text(
        report.Told(Found(event, "the database"), source(), made, judge(event, source(), made))
    )
    assert "It comes out the same: yes, byte for byte" in text
    assert event.explanation in text


def _rank(name: str) -> int:
    return ["NORMAL", "WARN", "CRITICAL"].index(name)


def test_all_kinds_are_in_the_story() -> None:
    """So that the test above is one of range, spike, learner and recovery."""
    causes = {event.cause for event in told()[2]}
    assert {"warning_range", "delta_spike", "recovered"} <= causes
    assert causes & {"level", "difference", "trend", "spread", "stuck"}


def test_all_that_the_learners_weighed_is_told() -> None:
    """Of an event that they made: each kind with what it saw, the one that won with what the event says; JSON has it too."""
    event = next(e for e in told()[2] if e.cause in EVIDENCE)
    made = explained(event)
    assert made.weighing is not None
    assert made.weighing.evidence == event.cause
    assert made.weighing.surprise == event.lineage.scores["surprise"]
    assert made.weighing.kinds[event.cause].usual == pytest.approx(event.lineage.scores["expected"])
    assert {"trend", event.cause} <= made.weighing.kinds.keys()
    every = report.Told(Found(event, "the database"), source(), made, judge(event, source(), made))
    text = report.as_text(every)
    assert f"  {event.cause}" in text.split("What the learners weighed")[1]
    known = json.loads(report.as_json(every))["recomputed"]
    assert known["learners_weighed"]["kinds"].keys() == made.weighing.kinds.keys()
    assert known["learners_alarm_from"]["warning"] == 3.0


def test_that_it_is_still_silent_is_no_begin_of_a_silence() -> None:
    """Both are of the sensor's last reading, and as grave; the text has times as people read them, and no window."""
    site = Site().speak(0, 10).rest(10, 40)
    site.story.records += [
        Record(at_ms(at), (Reading(site.names[2], CALM, at_ms(at)),), HERE[9]) for at in range(40, 90)
    ]
    records, log = site.story.records, site.story.log
    events = [
        event
        for _, out in run(fresh(OPTIONS, None), chunk(records, 0), log)
        for event in out.events
        if event.sensor == site.names[0]
    ]
    assert [event.previous for event in events] == [Severity.NORMAL, Severity.WARN]
    for event in events:
        work = Recomputation(fresh(OPTIONS, None), log, event)
        first = event.lineage.first_offset
        work.warm(chunk(records[:first], 0))
        work.take(chunk(records[first:], first))
        made = work.outcome()
        assert made.event == event
        text = report.as_text(
            report.Told(Found(event, "the database"), source(), made, judge(event, source(), made))
        )
        assert f"since {iso(np.array([at_ms(9)]))[0]}" in text
        assert "which moved the time on" in text
        assert "window" not in text


def test_clear_levels_are_shown_with_their_range() -> None:
    """They are why an alarm has not ended yet."""
    limits = Range(10.0, 80.0, clear_high=75.0)
    entry = SensorEntry("s", warning=limits, critical=Range(high=95.0))
    made = Recomputed(event=one_of_each()[0], entry=entry, after=SlotSeverity(0))
    told_ = report.Told(
        Found(one_of_each()[0], "the database"), source(), made, Finding(Verdict.SAME, [], [])
    )
    assert "warning 10.0 to 80.0 (clear up to 75.0), critical up to 95.0" in report.as_text(told_)


def test_what_no_window_made_was_not_weighed() -> None:
    """Of a reading out of its range, or a jump, learners were not asked."""
    event = next(e for e in told()[2] if e.cause == "delta_spike")
    assert explained(event).weighing is None


def test_a_snapshot_before_it_gives_the_same() -> None:
    """Of whatever offset up to the event's first record."""
    records, log, events = told()
    event = events[-1]
    for at in (1, event.lineage.first_offset // 2, event.lineage.first_offset):
        state = fresh(OPTIONS, None)
        for _ in run(state, chunk(records[:at], 0), log):
            pass
        kept = snapshot(state)
        assert explained(event, kept=kept).event == event


def test_few_records_are_kept_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where many lie between an event's records and its coming out, a later state is gone on from."""
    monkeypatch.setattr(recompute, "KEPT", 3)
    monkeypatch.setattr(recompute, "STEP", 2)
    for event in one_of_each()[:2]:
        assert explained(event).event == event


def test_an_event_in_the_other_language_is_the_same() -> None:
    """It is compared in the language that it was written in, whatever STREAMPROC_LANGUAGE says now."""
    event = told()[2][-1]
    made = explained(event, language="es")
    assert (made.event, made.language) == (event, "en")


def test_what_was_changed_is_told() -> None:
    """Each part that differs, as it was and as it is; other words alone are told as that."""
    event = told()[2][-1]
    changed = with_(event, value=event.value + 1, explanation="Nothing.")
    finding = judge(changed, source(), explained(changed))
    assert finding.verdict is Verdict.DIFFERENT
    assert {part.name: part.now for part in finding.parts} == {
        "value": event.value,
        "explanation": event.explanation,
    }
    worded = with_(event, explanation="Nothing.")
    finding = judge(worded, source(), explained(worded))
    assert [part.name for part in finding.parts] == ["explanation"]
    assert "only the words differ" in finding.reasons[0]


def test_why_it_differs_is_told() -> None:
    """Learners, the registry's entry, and a state that began knowing nothing."""
    event = next(event for event in told()[2] if event.cause == "warning_range" and event.previous == 0)
    older = with_(event, lineage=with_(event.lineage, versions={"learners": "0", "registry": "999"}))
    finding = judge(older, source(), explained(older))
    assert "learners of version 0" in finding.reasons[0]
    assert "version 999 of the sensor's entry" in finding.reasons[1]
    late = with_(event, event_id="0" * 32)
    finding = judge(late, source(first=3), explained(late, begin=3))
    assert any("nothing before offset 3" in reason for reason in finding.reasons)


def test_an_event_that_does_not_come_out_is_told_with_what_does() -> None:
    """It is waited for until the partition's clock is far past it, and no longer."""
    events = told()[2]
    event = events[0]
    never = with_(event, event_id="0" * 32, at=event.at - 1, severity=event.previous, lineage=event.lineage)
    made = explained(never)
    finding = judge(never, source(), made)
    assert (made.event, finding.verdict) == (None, Verdict.DIFFERENT)
    assert event in made.others
    text = report.as_text(report.Told(Found(never, "the database"), source(), made, finding))
    assert "it does not come out at all" in text
    assert f"instead: {event.severity.name}" in text


def test_the_second_silence_after_a_reading_is_not_taken_for_the_first() -> None:
    """A late reading has ended the first: both are of one cause, severity and record."""
    late = Record(NOW + 6_000, (Reading(HERE[0], 1.0, NOW - 60_000),))
    records = [Record(NOW, (Reading(HERE[0], 5.0, NOW),)), Record(NOW + 5_000, tick=True), late]
    records += [Record(NOW + at, tick=True) for at in (20_000, 300_000)]
    log = registry(SensorEntry(HERE[0], rules=(NoData(2.0),)))
    events = [event for _, out in run(fresh(OPTIONS, None), chunk(records), log) for event in out.events]
    silences = [event for event in events if event.cause == "silence"]
    assert [event.lineage.first_offset for event in silences] == [0, 0]
    for event in silences:
        work = Recomputation(fresh(OPTIONS, None), log, event)
        assert work.take(chunk(records))
        assert work.outcome().event == event
    # One that comes out otherwise still does so in its place.
    other = with_(silences[1], event_id="0" * 32, at=silences[1].at + 1)
    work = Recomputation(fresh(OPTIONS, None), log, other)
    work.take(chunk(records))
    made = work.outcome()
    assert made.event == silences[0]
    assert made.others == events[1:]


def test_records_that_are_gone_are_told() -> None:
    """With what Kafka still has, or that it is another topic; nothing is recomputed."""
    event = told()[2][-1]
    gone = source(first=event.lineage.first_offset + 1, begin=event.lineage.first_offset)
    assert not gone.has(event)
    finding = judge(event, gone, None)
    assert finding.verdict is Verdict.GONE
    assert f"those from offset {gone.first} on" in finding.reasons[0]
    anew = replace(source(), end=0)
    assert "made anew" in judge(event, anew, None).reasons[0]
    answer = json.loads(report.as_json(report.Told(Found(event, "x"), gone, None, finding)))
    assert (answer["verdict"], answer["same"], "recomputed" in answer) == ("gone", False, False)


def test_json_has_all_there_is() -> None:
    """The event, what came out, the evidence before and after, the readings and the versions."""
    event = told()[2][-1]
    made = explained(event)
    answer = json.loads(
        report.as_json(report.Told(Found(event, "x"), source(), made, judge(event, source(), made)))
    )
    assert answer["event"] == answer["recomputed"]["event"] == msgspec.to_builtins(event)
    assert answer["same"] is True
    assert set(answer["recomputed"]["evidence"]["after"]) >= {"ranges", "delta spikes", "learners"}
    assert len(answer["recomputed"]["readings"]) == len(made.readings) > 0


@settings(deadline=None, max_examples=30)
@given(edits(), st.integers(1, 9), st.integers(0, 30))
def test_any_event_comes_out_the_same(
    stream: tuple[list[Record], RegistryLog], cut: int, kept_at: int
) -> None:
    """Of any records and edits, in any cut, from the beginning or any state before its first record."""
    records, log = stream
    state = fresh(OPTIONS, None)
    events = [event for _, out in run(state, chunk(records, 0), log) for event in out.events]
    for event in events[-3:]:
        first = event.lineage.first_offset
        for start in {0, min(kept_at, first)}:
            before = fresh(OPTIONS, None)
            if start:
                assert list(run(before, chunk(records[:start], 0), log))
            work = Recomputation(before, log, event)
            if start < first:
                work.warm(chunk(records[start:first], start))
            for at in range(first, len(records), cut):
                if work.take(chunk(records[at : at + cut], at)):
                    break
            assert work.outcome().event == event
