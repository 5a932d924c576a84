"""Recommended actions in files and commands, without a broker."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from streamproc.core.registry import RegistryLog
from streamproc.errors import RegistryError, UnknownEntry
from streamproc.records import ActionEntry, Cause, SensorEntry
from streamproc.registry import files
from streamproc.registry.commands import commands
from streamproc.registry.history import told
from streamproc.registry.view import take_in
from streamproc.replay.ranges import Overlaid
from streamproc.store.edits import Audited, Author, Kind, PutAction
from streamproc.store.sqlite.store import SqliteStore

texts = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=30)
actions = st.lists(
    st.builds(
        lambda kind, cause, en, es: ActionEntry(kind.lower(), cause, en if en or es else "Look.", es),
        st.text("a#/ñ-é0", min_size=1, max_size=10) | st.just("*"),
        st.sampled_from(get_args(Cause)),
        st.none() | texts,
        st.none() | texts,
    ),
    unique_by=lambda entry: entry.name,
    max_size=5,
)


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
@given(given_actions=actions)
def test_what_is_exported_is_imported(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, given_actions: list[ActionEntry]
) -> None:
    """In each format that has them, and nothing is lost."""
    path = tmp_path_factory.mktemp("files") / f"actions{suffix}"
    path.write_text(files.export([], suffix, actions=given_actions), "utf-8")
    assert files.read(path).actions == given_actions


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "actions: [{kind: '*', cause: weather, en: Look.}]",
            "action 1: .*cause must be one of critical_range, ",
        ),
        ("actions: [{kind: '*', cause: stuck}]", "has no text"),
        ("actions: [{kind: ' ', cause: stuck, en: Look.}]", "kind must have 1 to 100"),
        ("actions: [{kind: '*', cause: stuck, en: '  '}]", "en must be a line"),
        ("actions: [{cause: stuck, en: Look.}]", "missing required field `kind`"),
        (
            "actions: [{kind: Pump, cause: stuck, en: A.}, {kind: pump, cause: stuck, es: B.}]",
            "pump/stuck is there 2",
        ),
        ("actions: nothing", "`actions:` is not a list"),
        (
            "sensors: [{sensor: action/a}]",
            "may not begin with action/: on the topic that is a recommended action",
        ),
    ],
)
def test_a_wrong_action_is_told(tmp_path: Path, text: str, reason: str) -> None:
    """With its number and what is wrong."""
    path = tmp_path / "a.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(RegistryError, match=reason):
        files.read(path)


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ActionEntry:
    """An action in the database that the environment names."""
    monkeypatch.setenv("STREAMPROC_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "127.0.0.1:1")
    entry = ActionEntry("*", "stuck", en="Look at it.")

    async def save() -> None:
        store = SqliteStore(tmp_path / "streamproc.db")
        await store.edit_registry([PutAction(entry)], Author("ann", 1))
        await store.close()

    asyncio.run(save())
    return entry


def test_actions_are_listed_and_exported(known: ActionEntry, tmp_path: Path) -> None:
    """The users' own; with --all also what streamproc says where they have set nothing."""
    shown = CliRunner().invoke(commands, ["action", "list"]).stdout
    assert "Look at it." in shown
    assert len(shown.splitlines()) == 2
    every = CliRunner().invoke(commands, ["action", "list", "--all"]).stdout
    assert [line.split()[1:3] for line in every.splitlines() if "Look at it." in line] == [["stuck", "en"]]
    assert not [line for line in every.splitlines() if line.split()[:2] == ["stuck", "en"]]
    assert "Compruebe que el sensor funciona" in every
    exported = tmp_path / "out.yaml"
    exported.write_text(CliRunner().invoke(commands, ["export"]).stdout, "utf-8")
    assert files.read(exported).actions == [known]
    history = CliRunner().invoke(commands, ["history", "action/*/STUCK"]).stdout
    assert 'ann  create action */stuck, version 1: en none → "Look at it."' in history


@pytest.mark.parametrize(
    ("words", "kind", "reason"),
    [
        (["set", "*", "weather", "Look."], RegistryError, "cause must be one of"),
        (["set", "*", "stuck", "Look again."], RegistryError, "nothing was changed"),
        (["remove", "*", "stuck"], RegistryError, "nothing was changed"),
    ],
)
def test_what_cannot_be_set_is_told(
    known: ActionEntry, words: list[str], kind: type[Exception], reason: str
) -> None:
    """A wrong cause with those that there are; without Kafka nothing is changed."""
    result = CliRunner().invoke(commands, ["action", *words])
    assert isinstance(result.exception, kind)
    assert not isinstance(result.exception, UnknownEntry)
    assert reason in str(result.exception)
    assert known.en is not None
    assert known.en in CliRunner().invoke(commands, ["action", "list"]).stdout


def test_actions_are_read_from_the_topic() -> None:
    """In their places among the sensors; what is none changes nothing but the position."""
    good = ActionEntry("pump", "stuck", es="Mire.")
    values = [
        (b"action/pump/stuck", msgspec.json.encode(good)),
        (b"a", msgspec.json.encode(SensorEntry("a"))),
        (b"action/pump/level", b'{"kind": 7}'),
        (b"action/none/stuck", None),
    ]
    log = RegistryLog()
    take_in(
        log,
        [
            SimpleNamespace(key=key, value=value, offset=at, timestamp=at)
            for at, (key, value) in enumerate(values)
        ],
    )
    assert log.position == 4
    assert log.documents_as_of(1) == log.documents_as_of(4) == {good.key: good}
    assert [entry.sensor for entry in log.as_of(4).values()] == ["a"]


def test_a_replay_with_other_ranges_has_the_same_actions() -> None:
    """What is told to do is no question of ranges."""
    log, entry = RegistryLog(), ActionEntry("*", "stuck", en="Look.")
    log.append(0, 0, "a", SensorEntry("a"))
    log.append_document(1, 0, entry.key, entry)
    over = Overlaid(log, [SensorEntry("a", name="other")])
    assert over.documents_as_of(2) == {entry.key: entry}
    assert over.as_of(2)["a"].name == "other"


def test_a_line_of_the_audit_says_what_changed() -> None:
    """The sentence, without what its name tells."""
    after = {"kind": "pump", "cause": "stuck", "en": "Look."}
    line = Audited(1, 0, "ann", "create", "action", "pump/stuck", 1, None, after)
    assert told(line).endswith('ann  create action pump/stuck, version 1: en none → "Look."')


@pytest.mark.parametrize(
    ("kind", "name", "before", "after", "differing"),
    [
        ("sensor", "s", {"device": "a"}, {"device": "b"}, 'device "a" → "b"'),
        ("sensor", "s", None, {"sensor": "s", "device": "a"}, 'device none → "a"'),
        (
            "silence",
            "n",
            {"sensor": "s", "site": "x"},
            {"device": "d"},
            'device none → "d"; sensor "s" → none; site "x" → none',
        ),
        ("device", "d", None, {"device": "d", "enabled": False}, "enabled none → false"),
        ("handling", "s", {"sensor": "s"}, {"sensor": "s", "by": "ann"}, 'by none → "ann"'),
    ],
)
def test_the_history_leaves_out_the_entrys_own_name_alone(
    kind: Kind, name: str, before: dict[str, Any] | None, after: dict[str, Any], differing: str
) -> None:
    """Whose a sensor is, and what a silence is of, is what differs; an entry's own name is said before."""
    line = Audited(1, 0, "ann", "change", kind, name, 2, before, after)
    assert told(line).endswith(f"ann  change {kind} {name}, version 2: {differing}")
