"""Policies, silences and the handling of alarms in files, checks and commands, without a broker."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from streamproc.core.attention.silences import covers
from streamproc.errors import RegistryError, UnknownEntry
from streamproc.records import NoData, SensorEntry, Severity
from streamproc.records.alerting import (
    DOCUMENTS,
    HandlingEntry,
    LearnersEntry,
    PolicyEntry,
    SilenceEntry,
    TrialEntry,
    Weekly,
)
from streamproc.registry import files
from streamproc.registry.alarms import alarms
from streamproc.registry.handling import handled
from streamproc.registry.mending import Mender
from streamproc.registry.past import KEPT_MS
from streamproc.registry.service import Service
from streamproc.registry.silences import silences, state
from streamproc.registry.spans import length_ms, moment_ms, moment_or_ago, weekly_of, weekly_text
from streamproc.store.documents import FORMS, DocumentEntry, PutDocument
from streamproc.store.edits import Author
from streamproc.store.protocol import Batch
from streamproc.store.sqlite.connection import connection
from tests.shell.test_mending import Limited, MemoryTopic
from tests.store.builders import GROUP, PLACE, START, event, events, save_entries

HOUR = 3_600_000
MADRID = Weekly((0, 1, 2, 3, 4), "22:00", 480, "Europe/Madrid")
words = st.text("abc-é /7", min_size=1, max_size=8).map(str.strip).filter(bool)
weekly = st.builds(
    lambda days, hour, minutes: Weekly(tuple(sorted(days)), f"{hour:02}:30", minutes, "Europe/Madrid"),
    st.sets(st.integers(0, 6), min_size=1),
    st.integers(0, 23),
    st.integers(1, 10_080),
)
entries = st.lists(
    st.builds(
        PolicyEntry, words, st.integers(1, 9), st.integers(1, 9), remind_seconds=st.just(60.0) | st.just(0.0)
    )
    | st.builds(
        SilenceEntry,
        st.text("ab1", min_size=1, max_size=3),
        sensor=words,
        end=st.none() | st.integers(0, 9),
        weekly=st.none() | weekly,
        up_to=st.sampled_from([Severity.WARN, Severity.CRITICAL]),
        reason=st.none() | words,
    )
    | st.builds(HandlingEntry, words, words, acknowledged=st.just(True))
    | st.builds(TrialEntry, st.text("ab", min_size=1), words, rules=st.just((NoData(5.0),)))
    | st.builds(LearnersEntry, words, st.just({"alarm_surprise": 4.0})),
    unique_by=lambda entry: entry.key,
    max_size=5,
)


def test_each_kind_of_document_is_known() -> None:
    """What the topic may carry beside sensors and devices is kept in the database, recommended actions in their table."""
    assert {f"{kind}/": form for kind, form in FORMS.items()} == {
        prefix: form for prefix, form in DOCUMENTS.items() if prefix != "action/"
    }


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
@given(made=entries)
def test_what_is_exported_is_imported(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, made: list[Any]
) -> None:
    """In each format that has them, and nothing is lost."""
    path = tmp_path_factory.mktemp("files") / f"documents{suffix}"
    path.write_text(files.export([], suffix, documents=made), "utf-8")
    found = files.read(path).documents
    assert sorted(found, key=lambda entry: entry.key) == sorted(made, key=lambda entry: entry.key)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("policies: [{kind: pump, up_windows: 0}]", "policy 1: policy pump: up_windows must be 1 to 1000"),
        (
            "policies: [{kind: pump, remind_seconds: .inf}]",
            "remind_seconds must be 1 to 2678400 .31 days., or 0",
        ),
        ("policies: [{kind: pump}, {kind: Pump}]", "policy pump is there 2 times"),
        ("silences: [{silence: 7}]", "silence 1: silence 7: say of which sensors"),
        ("silences: [{silence: a, site: x, all_sensors: true}]", "all_sensors and site exclude one another"),
        ("silences: [{silence: a/b, site: x}]", "its name must be 1 to 64 of a-z"),
        ("silences: [{silence: a, site: x, begin: 2, end: 2}]", "its end must come after its begin"),
        ("silences: [{silence: a, site: x, up_to: 0}]", "up_to must be 1"),
        ("silences: [{silence: a, site: x, up_to: 7}]", "Invalid enum value 7"),
        (
            "silences: [{silence: a, site: x, weekly: {days: [7], at: '22:00', minutes: 1}}]",
            "days must be some of 0",
        ),
        ("silences: [{silence: a, site: x, weekly: {days: [1, 1], at: '22:00', minutes: 1}}]", "each once"),
        (
            "silences: [{silence: a, site: x, weekly: {days: [0], at: '24:00', minutes: 1}}]",
            "at must be a time of day",
        ),
        (
            "silences: [{silence: a, site: x, weekly: {days: [0], at: '22:00', minutes: 10081}}]",
            "minutes must be 1 to",
        ),
        (
            "silences: [{silence: a, site: x, weekly: {days: [0], at: '22:00', minutes: 1, zone: Mars/Base}}]",
            "the zone 'Mars/Base' is not known here",
        ),
        (
            "silences: [{silence: a, site: x, weekly: {days: [0], at: '22:00', minutes: 1, zone: ../x}}]",
            "is not known here",
        ),
        ("handlings: [{sensor: a, event_id: e}]", "handling 1: handling a: neither acknowledged nor snoozed"),
        (
            "trials: [{trial: t, learners: {level_fading: .nan}}]",
            "trial t: level_fading must be from 0.001 to 0.5, not nan",
        ),
        ("trials: [{trial: t, learners: {fading: 0.1}}]", "fading is no number of the learners; these are:"),
        ("trials: [{trial: t, learners: {alarm_surprise: 6}}]", "must not fall in this order"),
        ("trials: [{trial: t, kind: pump, sensor: a}]", "sensor and kind exclude one another"),
        ("trials: [{trial: t, warning: {low: 9, high: 1}}]", "trial t: warning"),
        (
            "learners: [{kind: pump, learners: {warm_up: 1}}]",
            "learners pump: warm_up must be from 10 to 10000, not 1",
        ),
        (
            "trials: [{trial: t, rules: [{rule: no_data, seconds: 0}]}]",
            "trial t: rule 1: seconds must be above 0",
        ),
        ("sensors: [{sensor: silence/a}]", "may not begin with silence/: on the topic that is a silence"),
    ],
)
def test_a_wrong_document_is_told(tmp_path: Path, text: str, reason: str) -> None:
    """With its number and what is wrong."""
    path = tmp_path / "a.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(RegistryError, match=reason):
        files.read(path)


@given(weekly)
def test_weekly_times_are_read_as_they_are_written(made: Weekly) -> None:
    """The words that `silence list` shows are those that `silence add` takes."""
    *text, zone = weekly_text(made).split()
    assert weekly_of(" ".join(text), zone) == made


def since_ms(text: str) -> int:
    """A time before now, as commands take it."""
    return moment_or_ago(text, 1_700_000_000_000)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (length_ms, "2"),
        (length_ms, "h"),
        (length_ms, "0s"),
        (length_ms, "999999999w"),
        (moment_ms, "tomorrow"),
        (moment_ms, "2026-13-01"),
        (since_ms, "soon"),
        (since_ms, "0d"),
        (since_ms, "1700000000000"),
        (since_ms, "nan"),
        (weekly_of, "mon 22:00"),
        (weekly_of, "lun 22:00 8h"),
        (weekly_of, "mon 22:00 90s"),
    ],
)
def test_times_that_are_none_are_told(call: Any, text: str) -> None:
    """With how to write one."""
    with pytest.raises(RegistryError):
        call(text)


@pytest.mark.parametrize(
    ("at", "told"),
    [
        ("2026-11-23T20:59+00:00", "waiting"),  # a Monday; Madrid is an hour ahead in winter
        ("2026-11-23T21:00+00:00", "active"),
        ("2026-11-24T04:59+00:00", "active"),
        ("2026-11-24T05:00+00:00", "waiting"),
        ("2026-11-28T04:59+00:00", "active"),  # Saturday: still Friday's
        ("2026-11-28T21:00+00:00", "waiting"),
        ("2026-07-06T20:00+00:00", "active"),  # two hours ahead in summer
        ("2027-01-01T00:00+00:00", "ended"),
    ],
)
def test_a_weekly_silence_is_in_force_by_its_own_zones_clock(at: str, told: str) -> None:
    """In summer and winter, over midnight, and no more once it has ended."""
    silence = SilenceEntry("s", all_sensors=True, weekly=MADRID, end=moment_ms("2027-01-01"))
    assert state(silence, moment_ms(at)) == told


def test_a_silence_that_is_none_is_left_out() -> None:
    """Somebody has written it by SQL: it is not in force, and no list breaks of it."""
    good = SilenceEntry("a", site="x", weekly=MADRID)
    wrong = [replace(MADRID, days=(9,)), replace(MADRID, zone="Nowhere"), replace(MADRID, at="soon")]
    entries = [good, *(replace(good, silence=f"b{n}", weekly=weekly) for n, weekly in enumerate(wrong))]
    assert silences({entry.key: entry for entry in entries}) == [good]
    assert [state(entry, START) for entry in entries[1:]] == ["waiting"] * 3


def test_a_silence_is_of_the_sensors_that_have_all_that_it_names() -> None:
    """Kinds whatever their case; a name that is empty is none, and one that names nothing must say that it is for all."""
    sensor = SensorEntry("a", device="d", kind="Pump", site="north")
    assert covers(SilenceEntry("s", device="d", kind="pump"), sensor.sensor, sensor)
    assert not covers(SilenceEntry("s", device="d", kind="fan"), sensor.sensor, sensor)
    assert not covers(SilenceEntry("s", tenant="acme"), sensor.sensor, sensor)
    assert covers(SilenceEntry("s", all_sensors=True), sensor.sensor, sensor)
    assert covers(SilenceEntry("s", site="North", tenant=""), sensor.sensor, sensor)
    assert not covers(SilenceEntry("s", tenant=""), sensor.sensor, sensor)
    assert not covers(SilenceEntry("s", site="north"), "a", None)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Limited]:
    """An empty database."""
    opened = Limited(tmp_path / "s.db")
    yield opened
    await opened.close()


async def test_documents_follow_the_database(store: Limited) -> None:
    """Those of SQL are sent, wrong ones are not, and one that is gone leaves the topic."""
    topic = MemoryTopic()
    service, mender = Service(store, topic.send), Mender(store, topic.send, topic)
    kept = PolicyEntry("*", remind_seconds=60.0)
    await service.edit([PutDocument(kept), PutDocument(PolicyEntry("pump", 2))], "ann")
    with closing(connection(store._path)) as opened:
        opened.execute("UPDATE registry_documents SET body = '{' WHERE name = '*'")
        opened.execute("DELETE FROM registry_documents WHERE name = 'pump'")
        opened.executemany(
            "INSERT INTO registry_documents (kind, name, body) VALUES (?, ?, ?)",
            [("silence", "a", '{"site": "x"}'), ("silence", "b", "{}"), ("policy", "Fan", "{}")],
        )
    mended = await mender.mend()
    assert (mended.sent, mended.removed, mended.refused, mended.strays) == (2, 1, 3, 0)
    assert topic.documents == {"policy/*": kept, "silence/a": SilenceEntry("a", site="x")}
    assert (await mender.mend()).sent == 0


async def test_what_is_long_over_is_removed(store: Limited) -> None:
    """Silences a month after their end, the handling of alarms that are past; by streamproc, as its audit says."""
    now = time.time_ns() // 1_000_000
    old, new = now - KEPT_MS - HOUR, now - KEPT_MS + HOUR
    topic = MemoryTopic()
    told = event("a", Severity.WARN, Severity.NORMAL)
    await save_entries(store, [SensorEntry("a"), SensorEntry("b")])
    await store.write(Batch(GROUP, {PLACE: (None, 1)}, events=events(told)))
    documents: list[DocumentEntry] = [
        SilenceEntry("old", site="x", end=old),
        SilenceEntry("new", site="x", end=new),
        SilenceEntry("open", site="x"),
        HandlingEntry("a", told.event_id, acknowledged=True, at=old),  # its alarm still stands
        HandlingEntry("b", "past", acknowledged=True, at=old),
        HandlingEntry("c", "past", acknowledged=True, at=new),
    ]
    await Service(store, topic.send).edit([PutDocument(entry) for entry in documents], "ann")  # type: ignore[arg-type]
    await Mender(store, topic.send, topic).mend()
    assert set(topic.documents) == {"silence/new", "silence/open", "handling/a", "handling/c"}
    (line,) = await store.audit(("silence", "old"), limit=1)
    assert (line.action, line.actor) == ("remove", "streamproc")


async def test_an_alarm_is_acknowledged_and_snoozed(store: Limited) -> None:
    """One keeps the other, and the note; what silences the sensor is told beside it."""
    first = event("a", Severity.WARN, Severity.NORMAL)
    await save_entries(store, [SensorEntry("a", name="boiler", site="north"), SensorEntry("b")])
    await store.write(Batch(GROUP, {PLACE: (None, 1)}, events=events(first)))
    with pytest.raises(UnknownEntry, match="no sensor x is registered"):
        await handled(store, "x", "ann", START)
    with pytest.raises(RegistryError, match="sensor b is NORMAL: it has no alarm"):
        await handled(store, "b", "ann", START)
    ann = Author("ann", START)
    await store.edit_registry([await handled(store, "A", "ann", START, note="Mine.")], ann)
    snoozed = await handled(store, "a", "bob", START + 1, until=START + HOUR)
    assert snoozed.entry == HandlingEntry(
        "a",
        first.event_id,
        acknowledged=True,
        snoozed_until=START + HOUR,
        note="Mine.",
        by="bob",
        at=START + 1,
    )
    silent = [PutDocument(SilenceEntry("s", site="north")), PutDocument(SilenceEntry("t", site="south"))]
    await store.edit_registry([snoozed, *silent], ann)
    (alarm,) = await alarms(store, START)
    assert (alarm.sensor, alarm.name, alarm.severity, alarm.acknowledged) == ("a", "boiler", "WARN", True)
    assert (alarm.by, alarm.snoozed_until, alarm.silences) == ("bob", START + HOUR, ("s",))


async def test_what_is_said_of_an_alarm_holds_until_it_is_graver_or_over(store: Limited) -> None:
    """As the engine has it: a sensor that gets better is still somebody's, one that gets worse is nobody's."""
    ann, offset = Author("ann", START), iter(range(9))
    await save_entries(store, [SensorEntry("a")])

    async def becomes(severity: Severity, previous: Severity) -> str:
        at = next(offset)
        told = event("a", severity, previous, 1_000 * at)
        await store.write(Batch(GROUP, {PLACE: (at or None, at + 1)}, events=events(told)))
        return told.event_id

    await becomes(Severity.WARN, Severity.NORMAL)
    await store.edit_registry([await handled(store, "a", "ann", START, note="Mine.")], ann)
    worse = await becomes(Severity.CRITICAL, Severity.WARN)
    (alarm,) = await alarms(store, START)
    assert (alarm.event_id, alarm.acknowledged, alarm.by) == (worse, False, None)
    again = await handled(store, "a", "eve", START)
    assert again.entry == HandlingEntry("a", worse, acknowledged=True, by="eve", at=START)
    await store.edit_registry([again], ann)
    better = await becomes(Severity.WARN, Severity.CRITICAL)
    (alarm,) = await alarms(store, START)
    assert (alarm.event_id, alarm.acknowledged, alarm.by) == (better, True, "eve")
    later = await handled(store, "a", "bob", START, until=START + HOUR)
    assert later.entry == replace(again.entry, snoozed_until=START + HOUR, by="bob")
    await becomes(Severity.NORMAL, Severity.WARN)
    assert await alarms(store, START) == []
    with pytest.raises(RegistryError, match="sensor a is NORMAL since 2023-11-14 22:13:23Z"):
        await handled(store, "a", "ann", START)
    anew = await becomes(Severity.WARN, Severity.NORMAL)
    (alarm,) = await alarms(store, START)
    assert (alarm.event_id, alarm.acknowledged) == (anew, False)
