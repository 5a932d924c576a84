"""The commands of alarms, silences and policies, without a broker: what they show, and what they refuse."""

from __future__ import annotations

import asyncio
import time
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
import typer
from rich.console import Console
from rich.text import Text
from typer.testing import CliRunner

from streamproc.errors import RegistryError, StoreError, UnknownEntry
from streamproc.records import SensorEntry, Severity
from streamproc.records.alerting import HandlingEntry, PolicyEntry, SilenceEntry, Weekly
from streamproc.registry import (
    alarm_commands,
    commands,
    device_commands,
    files,
    policy_commands,
    silence_commands,
    tables,
)
from streamproc.store.documents import AlertingEntry, PutDocument
from streamproc.store.edits import Author
from streamproc.store.protocol import Batch
from streamproc.store.sqlite.store import SqliteStore
from tests.store.builders import GROUP, PLACE, event, events, save_entries

HOUR = 3_600_000
EARLIER = event("boiler-1", Severity.WARN, Severity.NORMAL, -9_000)
END = event("boiler-1", Severity.NORMAL, Severity.WARN, -8_000)
BEFORE = event("boiler-1", Severity.WARN, Severity.NORMAL, -7_000)
ALARM = event("boiler-1", Severity.CRITICAL, Severity.WARN)
OVER = event("calm", Severity.WARN, Severity.NORMAL, -9_000)
PAST = (EARLIER, END, BEFORE, OVER, event("calm", Severity.NORMAL, Severity.WARN, -8_000))
PUMP = PolicyEntry("pump", up_windows=3, remind_seconds=5400.0, flapping=False)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where there is a database with an alarm, who handles it, silences and a policy: no test changes it."""
    made_in = tmp_path_factory.mktemp("data")
    now = time.time_ns() // 1_000_000

    async def save() -> None:
        store = SqliteStore(made_in / "streamproc.db")
        sensors = [SensorEntry("boiler-1", name="Boiler [1]", site="north"), SensorEntry("calm")]
        await save_entries(store, sensors)
        await store.write(Batch(GROUP, {PLACE: (None, 1)}, events=events(*PAST, ALARM)))
        made: list[AlertingEntry] = [
            HandlingEntry("boiler-1", ALARM.event_id, acknowledged=True, note="Mine.", by="ann"),
            SilenceEntry("over", sensor="calm", begin=now - 2 * HOUR, end=now - HOUR),
            SilenceEntry(
                "power", site="north", end=now + HOUR, maintenance=True, reason="power cut", by="bob"
            ),
            SilenceEntry(
                "nights", all_sensors=True, weekly=Weekly((0, 1), "22:00", 90), begin=now + 9 * HOUR
            ),
            PUMP,
        ]
        await store.edit_registry([PutDocument(entry) for entry in made], Author("ann", 1))
        await store.close()

    asyncio.run(save())
    return made_in


@pytest.fixture(autouse=True)
def environment(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names that database, and no Kafka; a terminal would be narrow."""
    monkeypatch.setenv("STREAMPROC_DATA_DIR", str(directory))
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setenv("COLUMNS", "60")


def shown(of: typer.Typer, *words: str) -> str:
    """What a command prints; it succeeds."""
    result = CliRunner().invoke(of, words)
    assert result.exception is None, result.exception
    return result.stdout


def test_alarms_are_listed() -> None:
    """With who handles them, what silences them, and the event to explain."""
    (head, line) = shown(alarm_commands.commands, "list").splitlines()
    assert head.split() == ["sensor", "severity", "since", "cause", "handled", "event"]
    told = (
        "boiler-1 (Boiler [1])",
        "CRITICAL",
        "acknowledged by ann; Mine.; silenced by power",
        ALARM.event_id,
    )
    assert [text for text in told if text not in line] == []
    assert "boiler-1" in shown(alarm_commands.commands, "list", "--site", "North")
    assert shown(alarm_commands.commands, "list", "--site", "x") == "all of these sensors are NORMAL\n"
    one = msgspec.json.decode(shown(alarm_commands.commands, "list", "--json"))
    assert (one["sensor"], one["silences"], one["event_id"]) == ("boiler-1", ["power"], ALARM.event_id)


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (alarm_commands, ["list"]),
        (silence_commands, ["list"]),
        (commands, ["export"]),
        (device_commands, ["add", "pump"]),
        (device_commands, ["key", "revoke", "pump", "k"]),
        (policy_commands, ["remove", "pump"]),
    ],
)
def test_where_there_is_no_database_nothing_is_told_of_sensors(
    of: ModuleType, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere than in its directory `alarm list` made an empty one, and said that all sensors are NORMAL."""
    monkeypatch.setenv("STREAMPROC_DATA_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "127.0.0.1:1")
    result = CliRunner().invoke(of.commands, words)
    assert isinstance(result.exception, StoreError)
    assert f"there is no database at {tmp_path}/elsewhere/streamproc.db" in str(result.exception)
    assert not (tmp_path / "elsewhere").exists()


def test_a_database_that_cannot_be_looked_for_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where its folder is another user's, for which there is no test as root: by the system's words, with no traceback."""
    monkeypatch.setenv("STREAMPROC_DATABASE", f"/{'long' * 100}/s.db")
    result = CliRunner().invoke(alarm_commands.commands, ["list"])
    assert isinstance(result.exception, StoreError)
    assert str(result.exception).endswith("s.db: File name too long")


def test_a_narrow_terminal_cuts_nothing_off() -> None:
    """What is too long goes on in the next line; where there is no terminal, each row is a line."""
    made = tables.of("sensor", "event")
    made.add_row("00000000-0000-0000-0000-000000000101", ALARM.event_id)
    terminal = Console(width=30, file=StringIO(), force_terminal=True)
    with terminal.capture() as capture:
        terminal.print(made)
    lines = [line.split() for line in Text.from_ansi(capture.get()).plain.splitlines()[1:]]
    assert "".join(words[0] for words in lines) == "00000000-0000-0000-0000-000000000101"
    assert "".join(words[1] for words in lines if len(words) > 1) == ALARM.event_id


def test_silences_are_listed() -> None:
    """Those that have ended with --all alone."""
    lines = shown(silence_commands.commands, "list").splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["nights", "waiting"], ["power", "active"]]
    assert "all sensors" in lines[1]
    assert "mon-tue 22:00 1h30m UTC" in lines[1]
    assert "maintenance: power cut" in lines[2]
    assert "over" in shown(silence_commands.commands, "list", "--all")


def test_policies_are_listed() -> None:
    """And what other kinds have."""
    lines = shown(policy_commands.commands, "list").splitlines()
    assert [line.split() for line in lines] == [
        ["kind", "up_windows", "down_windows", "flapping", "cooldown", "remind", "escalate"],
        ["pump", "3", "5", "no", "off", "1h30m", "off"],
        ["*", "1", "5", "yes", "off", "off", "off"],
    ]


def test_all_of_it_is_in_the_export(tmp_path: Path) -> None:
    """Which an import reads."""
    path = tmp_path / "out.yaml"
    path.write_text(shown(commands.commands, "export"), "utf-8")
    assert {entry.key for entry in files.read(path).documents} == {
        *("handling/boiler-1", "silence/over", "silence/power", "silence/nights", "policy/pump")
    }
    assert "create policy pump, version 1: up_windows none → 3" in shown(
        commands.commands, "history", "policy/PUMP"
    )


@pytest.mark.parametrize(
    ("of", "words", "kind", "reason"),
    [
        (
            alarm_commands,
            ["ack", "calm"],
            RegistryError,
            "sensor calm is NORMAL since 2023-11-14 22:13:12Z: it",
        ),
        (
            alarm_commands,
            ["ack", "none"],
            UnknownEntry,
            "no sensor none is registered, and no event has this id",
        ),
        (alarm_commands, ["ack", END.event_id], RegistryError, "is the end of an alarm"),
        (
            alarm_commands,
            ["ack", OVER.event_id],
            RegistryError,
            "is over: the sensor is NORMAL since 2023-11-14",
        ),
        (
            alarm_commands,
            ["ack", EARLIER.event_id],
            RegistryError,
            f"there is another one: event {ALARM.event_id}",
        ),
        (
            alarm_commands,
            ["snooze", BEFORE.event_id, "1h"],
            RegistryError,
            f"graver since: give event {ALARM.event_id}",
        ),
        (alarm_commands, ["ack", f" {ALARM.event_id.upper()}"], RegistryError, "nothing was changed"),
        (alarm_commands, ["ack", "boiler-1"], RegistryError, "nothing was changed"),
        (alarm_commands, ["snooze", "boiler-1", "2"], RegistryError, "'2' is no length of time: write it as"),
        (alarm_commands, ["snooze", "boiler-1", "2h"], RegistryError, "nothing was changed"),
        (silence_commands, ["add", "--site", "x", "--open"], RegistryError, "nothing was changed"),
        (
            silence_commands,
            ["add", "--all", "--weekly", "mon 22:00 8h", "--zone", "X"],
            RegistryError,
            "zone 'X'",
        ),
        (silence_commands, ["end", "none"], UnknownEntry, "see `streamproc silence list`"),
        (silence_commands, ["end", "over"], RegistryError, "has ended already"),
        (silence_commands, ["end", "POWER"], RegistryError, "nothing was changed"),
        (policy_commands, ["set", "pump", "--up-windows", "0"], RegistryError, "up_windows must be 1 to"),
        (policy_commands, ["set", "Pump", "--remind", "2h"], RegistryError, "nothing was changed"),
        (policy_commands, ["remove", "pump"], RegistryError, "nothing was changed"),
    ],
)
def test_what_cannot_be_done_is_told(of: Any, words: list[str], kind: type[Exception], reason: str) -> None:
    """With what to do; without Kafka nothing is changed."""
    result = CliRunner().invoke(of.commands, words)
    assert isinstance(result.exception, kind), result.output
    assert reason in str(result.exception)
    assert "acknowledged by ann; Mine." in shown(alarm_commands.commands, "list")


@pytest.mark.parametrize(
    ("of", "words", "reason"),
    [
        (silence_commands, ["add", "--all"], "say how long"),
        (
            silence_commands,
            ["add", "--all", "--for", "1h", "--open"],
            "give one of --for, --until and --open",
        ),
        (silence_commands, ["add", "--all", "--until", "2020-01-01"], "it would be over already"),
        (silence_commands, ["add", "--for", "2h"], "say of which sensors"),
        (silence_commands, ["add", "--all", "--site", "x", "--for", "2h"], "--site is some"),
        (silence_commands, ["add", "--all", "--for", "2h", "--zone", "Asia/Tokyo"], "--zone is of --from"),
        (
            silence_commands,
            ["add", "--all", "--from", "2099-01-02", "--until", "2099-01-01"],
            "--until is before --from",
        ),
        (policy_commands, ["set", "pump"], "say what to set"),
    ],
)
def test_options_that_make_no_sense_are_told(of: Any, words: list[str], reason: str) -> None:
    """As a shell's users know it, with exit code 2."""
    result = CliRunner().invoke(of.commands, words)
    assert result.exit_code == 2
    assert reason in result.output
