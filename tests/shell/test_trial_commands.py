"""Trials as people put them on, compare and promote them: what is shown, what is refused, and what becomes live."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from streamproc.errors import RegistryError, UnknownEntry
from streamproc.records import DeltaSpike, NoData, Range, SensorEntry, Severity
from streamproc.records.alerting import BEGUN, LearnersEntry, PolicyEntry, TrialEntry
from streamproc.store.documents import PutDocument, RemoveDocument
from streamproc.store.edits import Author, PutSensor, Registered
from streamproc.store.protocol import Batch
from streamproc.store.sqlite.store import SqliteStore
from streamproc.store.trial_history import SeverityChange, TrialHistory
from streamproc.trials import commands
from streamproc.trials.comparing import Compared, Span, compared, total
from streamproc.trials.promotion import edits_of
from tests.store.builders import GROUP, PLACE, START, event, events, save_entries, trial_events, tried

NORMAL, WARN, CRITICAL = Severity
MINUTE = 60_000
PUMP, FAN = SensorEntry("p1", kind="Pump", rules=(NoData(60.0), DeltaSpike(absolute=1.0))), SensorEntry("f1")
STRICT = TrialEntry(
    "strict", kind="pump", learners={"alarm_surprise": 4.0}, begun_at=START, reason="too loud"
)


def told(*changes: tuple[str, float, Severity, Severity]) -> list[SeverityChange]:
    """Changes of (sensor, minutes after START, severity, the one before)."""
    return [
        SeverityChange(name, START + round(MINUTE * at), to, was, "level") for name, at, to, was in changes
    ]


def begun(*sensors: str, severity: Severity = NORMAL) -> list[SeverityChange]:
    """Sensors that began a trial at START."""
    return [SeverityChange(name, START, severity, severity, BEGUN) for name in sensors]


def compare(trial: list[SeverityChange], live: list[SeverityChange], **other: int) -> Compared:
    """One sensor's comparison over an hour."""
    span = Span(START, START + 60 * MINUTE, **other)
    (found,) = compared(TrialHistory(1, START, trial), live, span)
    return found


def test_an_alarm_of_both_is_one_and_the_trial_leads() -> None:
    """It begins two minutes sooner and lasts longer, and is worse for some of it."""
    live = told(("a", 10, WARN, NORMAL), ("a", 20, NORMAL, WARN))
    trial = told(("a", 8, WARN, NORMAL), ("a", 12, CRITICAL, WARN), ("a", 30, NORMAL, CRITICAL))
    found = compare([*begun("a"), *trial], live)
    assert (found.live, found.trial, found.both, found.only_live, found.only_trial) == (1, 1, 1, 0, 0)
    assert found.leads == [2 * MINUTE]
    assert found.live_lasted == {WARN: 10 * MINUTE}
    assert found.trial_lasted == {WARN: 4 * MINUTE, CRITICAL: 18 * MINUTE}
    assert found.differs


def test_alarms_of_one_alone_are_counted() -> None:
    """Those that neither overlap nor begin near each other are two; with more patience they are one."""
    live = told(
        ("a", 10, WARN, NORMAL), ("a", 11, NORMAL, WARN), ("a", 40, WARN, NORMAL), ("a", 41, NORMAL, WARN)
    )
    trial = told(("a", 13, WARN, NORMAL), ("a", 14, NORMAL, WARN))
    found = compare([*begun("a"), *trial], live)
    assert (found.both, found.only_live, found.only_trial, found.lead) == (0, 2, 1, None)
    found = compare([*begun("a"), *trial], live, within_ms=5 * MINUTE)
    assert (found.both, found.only_live, found.only_trial, found.lead) == (1, 1, 0, -3 * MINUTE)


def test_each_alarm_is_paired_once() -> None:
    """A long alarm of one is one of the other's three."""
    live = told(("a", 10, WARN, NORMAL), ("a", 50, NORMAL, WARN))
    trial = told(
        *(
            ("a", at + up, *change)
            for at in (12, 20, 30)
            for up, change in ((0, (WARN, NORMAL)), (1, (NORMAL, WARN)))
        )
    )
    found = compare([*begun("a"), *trial], live)
    assert (found.both, found.only_live, found.only_trial) == (1, 0, 2)


def test_what_stood_at_the_begin_is_nobodys_find() -> None:
    """It counts in how long each severity lasted, and is no alarm of either; what was told before is not looked at."""
    live = told(("a", -5, WARN, NORMAL), ("a", 10, NORMAL, WARN))
    found = compare([*begun("a", severity=WARN), *told(("a", 5, NORMAL, WARN))], live)
    assert (found.live, found.trial, found.both) == (0, 0, 0)
    assert (found.live_lasted, found.trial_lasted) == ({WARN: 10 * MINUTE}, {WARN: 5 * MINUTE})


def test_a_later_begin_of_the_comparison_keeps_what_stands() -> None:
    """From the middle of an alarm on, its rest counts as time alone."""
    trial = [*begun("a"), *told(("a", 10, WARN, NORMAL), ("a", 40, NORMAL, WARN))]
    (found,) = compared(TrialHistory(1, START, trial), [], Span(START + 30 * MINUTE, START + 60 * MINUTE))
    assert (found.trial, found.trial_lasted, found.watched) == (0, {WARN: 10 * MINUTE}, 30 * MINUTE)


def test_those_that_differ_most_come_first_and_all_are_summed() -> None:
    """A sensor of which nothing was told is there as well."""
    live = told(("b", 10, WARN, NORMAL), ("b", 11, NORMAL, WARN), ("c", 10, WARN, NORMAL))
    trial = told(("c", 10, WARN, NORMAL))
    found = compared(
        TrialHistory(1, START, [*begun("a", "b", "c"), *trial]), live, Span(START, START + 20 * MINUTE)
    )
    assert [one.sensor for one in found] == ["b", "c", "a"]
    assert [one.differs for one in found] == [True, False, False]
    every = total(found)
    assert (every.live, every.trial, every.both, every.watched) == (2, 1, 1, 60 * MINUTE)
    assert every.live_lasted == {WARN: 11 * MINUTE}


def registered(*entries: SensorEntry | LearnersEntry | PolicyEntry) -> Registered:
    """A registry of these."""
    return {entry.sensor if isinstance(entry, SensorEntry) else entry.key: entry for entry in entries}


def test_promotion_gives_sensors_the_rules_that_were_tried() -> None:
    """Beside their own or in their place; sensors that are not the trial's, or have them, are left alone."""
    rule = DeltaSpike(absolute=3.0)
    trial = TrialEntry("t", kind="pump", rules=(rule,), warning=Range(high=9.0), version=4)
    put, end = edits_of(trial, registered(PUMP, FAN))
    assert isinstance(put, PutSensor)
    assert put.entry == msgspec.structs.replace(PUMP, rules=(*PUMP.rules, rule), warning=Range(high=9.0))
    assert end == RemoveDocument("trial", "t", 4)
    (put, _) = edits_of(msgspec.structs.replace(trial, instead=True), registered(PUMP))
    assert isinstance(put, PutSensor)
    assert put.entry.rules == (NoData(60.0), rule)
    assert edits_of(msgspec.structs.replace(trial, instead=True), registered(put.entry)) == [end]


def test_promotion_gives_the_kind_the_numbers_that_were_tried() -> None:
    """Beside those that it went by while they were tried: its own, or else those of all kinds."""
    (put, _) = edits_of(STRICT, registered(PUMP))
    assert put == PutDocument(LearnersEntry("pump", {"alarm_surprise": 4.0}, "strict"), 0)
    every, own = (
        LearnersEntry("*", {"warm_up": 90.0}),
        LearnersEntry("pump", {"clear_surprise": 1.0}, version=7),
    )
    (put, _) = edits_of(STRICT, registered(PUMP, every))
    assert isinstance(put, PutDocument)
    assert put.entry.learners == {"warm_up": 90.0, "alarm_surprise": 4.0}  # type: ignore[union-attr]
    (put, _) = edits_of(STRICT, registered(PUMP, every, own))
    assert isinstance(put, PutDocument)
    assert (put.entry.learners, put.expected) == ({"clear_surprise": 1.0, "alarm_surprise": 4.0}, 7)  # type: ignore[union-attr]


def test_numbers_of_one_sensor_are_not_promoted() -> None:
    """The live learners have theirs by kind."""
    with pytest.raises(RegistryError, match="put the same numbers on trial for a kind"):
        edits_of(TrialEntry("t", sensor="p1", learners={"warm_up": 60.0}), registered(PUMP))


def test_promotion_gives_policies_the_windows_that_were_tried() -> None:
    """That of the kind, made of what its sensors went by; of all sensors those of all kinds. The rest of it stays."""
    trial = TrialEntry("t", kind="pump", up_windows=3, flapping=False)
    (put, _) = edits_of(trial, registered(PUMP))
    assert put == PutDocument(PolicyEntry("pump", up_windows=3, flapping=False), 0)
    every, own = PolicyEntry("*", remind_seconds=60.0, version=2), PolicyEntry("pump", 2, 9, version=7)
    (put, _) = edits_of(trial, registered(PUMP, every))
    assert put == PutDocument(PolicyEntry("pump", up_windows=3, flapping=False, remind_seconds=60.0), 0)
    (put, _) = edits_of(trial, registered(PUMP, every, own))
    assert put == PutDocument(PolicyEntry("pump", 3, 9, flapping=False, version=7), 7)
    one, other, _ = edits_of(msgspec.structs.replace(trial, kind="*"), registered(PUMP, every, own))
    assert [put.entry.key for put in (one, other) if isinstance(put, PutDocument)] == [every.key, own.key]
    (put, _) = edits_of(msgspec.structs.replace(trial, kind="*"), registered(PUMP))
    assert put == PutDocument(PolicyEntry("*", up_windows=3, flapping=False), 0)
    with pytest.raises(RegistryError, match="put the same on trial for a kind"):
        edits_of(TrialEntry("t", sensor="p1", up_windows=3), registered(PUMP))


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that the environment names, with a trial, what it recorded, and what was told; no Kafka."""
    monkeypatch.setenv("STREAMPROC_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setenv("COLUMNS", "250")

    async def save() -> None:
        store = SqliteStore(tmp_path / "streamproc.db")
        await save_entries(store, [PUMP, FAN])
        recorded = [
            tried("p1", NORMAL, NORMAL),
            tried("p1", WARN, NORMAL, 8_000),
            tried("p1", NORMAL, WARN, 90_000),
        ]
        recorded = [msgspec.structs.replace(one, trial="strict") for one in recorded]
        live = [
            event("p1", WARN, NORMAL, 10_000),
            event("p1", NORMAL, WARN, 20_000),
            event("f1", WARN, NORMAL, 5),
        ]
        rows = Batch(GROUP, {PLACE: (None, 1)}, events=events(*live), trial_events=trial_events(*recorded))
        await store.write(rows)
        numbers = LearnersEntry("fan", {"warm_up": 80.0})
        await store.edit_registry([PutDocument(STRICT), PutDocument(numbers)], Author("ann", 1))
        await store.close()

    asyncio.run(save())


def shown(*words: str) -> str:
    """What a command prints; it succeeds."""
    result = CliRunner().invoke(commands.commands, words)
    assert result.exception is None, result.exception
    return result.stdout


@pytest.mark.usefixtures("database")
def test_a_report_compares_what_was_told_with_the_trial() -> None:
    """In sentences and a table, or as JSON; of the trial's sensors alone."""
    until = "2023-11-14T22:15:20"
    first, second, third, *_ = shown("report", "Strict", "--until", until).splitlines()
    assert first == "trial strict, version 1: 1 sensor from 2023-11-14 22:13:20Z to 2023-11-14 22:15:20Z"
    assert second == "alarms told 1, by the trial 1: 1 of both, 0 only told, 0 only by the trial"
    assert third == "of both, the trial was 2 s sooner in the middle"
    (row,) = [
        line for line in shown("report", "strict", "--until", until).splitlines() if line.startswith("p1")
    ]
    assert row.split() == [
        "p1",
        "1",
        "1",
        "1",
        "0",
        "0",
        "2",
        "s",
        "sooner",
        "10s",
        "/",
        "1m22s",
        "-",
        "/",
        "-",
    ]
    made = msgspec.json.decode(shown("report", "strict", "--until", until, "--json"))
    assert made["sensors"]["p1"]["trial_ms"] == {"WARN": 82_000}
    assert made["all"]["lead_ms"] == 2_000
    since = shown("report", "strict", "--since", "2023-11-14T22:14:00", "--until", until)
    assert "alarms told 0, by the trial 0" in since


@pytest.mark.usefixtures("database")
def test_trials_and_numbers_are_listed() -> None:
    """With what they try, and what each number is."""
    (_, line) = shown("list").splitlines()
    for text in ("strict", "kind pump", "2023-11-14 22:13:20Z", "alarm_surprise=4", "too loud"):
        assert text in line
    lines = {line.split()[0]: line.split() for line in shown("numbers").splitlines()}
    assert lines["number"][:4] == ["number", "usual", "fan", "from"]
    assert lines["warm_up"][:5] == ["warm_up", "50", "80", "10", "10000"]


@pytest.mark.usefixtures("database")
def test_a_dry_promotion_shows_what_would_be_live() -> None:
    """And changes nothing."""
    told = shown("promote", "strict", "--dry-run")
    assert told == "the live learners of kind pump would go by alarm_surprise=4\n"
    assert "strict" in shown("list")


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("add", "t", "--learner", "warm_up=60"), "--kind KIND, --sensor SENSOR or --all"),
        (("add", "t", "--all", "--kind", "pump"), "--kind KIND, --sensor SENSOR or --all"),
        (("add", "t", "--all"), "say what to try"),
        (("add", "t", "--all", "--learner", "warm_up"), "write it as NAME=NUMBER"),
        (("add", "t", "--all", "--learner", "warm=3"), "warm is no number of the learners"),
        (("add", "t", "--all", "--rule", "{rule: leap}"), "Invalid value 'leap'"),
        (("add", "t", "--all", "--warning", "{low: 9, high: 1}"), "warning"),
        (("add", "t", "--all", "--instead", "--up-windows", "2"), "give the --rule that takes the place"),
        (("add", "t", "--all", "--up-windows", "0"), "up_windows must be 1 to 1000"),
        (("promote", "lost"), "no trial lost is on"),
        (("report", "lost"), "nothing is recorded of a trial lost"),
    ],
)
def test_what_cannot_be_is_told(words: tuple[str, ...], reason: str) -> None:
    """In a sentence that says what to do; nothing is changed, for Kafka is not even asked."""
    result = CliRunner().invoke(commands.commands, words)
    assert isinstance(result.exception, RegistryError | UnknownEntry)
    assert reason in str(result.exception)
