"""The command's words, the journal of a replay and its report, without a broker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamproc.core.checkpoint import Snapshot
from streamproc.errors import ReplayError
from streamproc.records import Range, SensorEntry
from streamproc.replay import report
from streamproc.replay.differences import Difference
from streamproc.replay.journal import Journal
from streamproc.replay.request import Request, moment
from streamproc.settings import Settings
from tests.shell.test_cli import run

DIFFERENCE = Difference(
    "readings",
    "different",
    "s",
    {"value": 1.5},
    {"value": (2.5, 1.5)},
    {"partition": 1, "first_offset": 7, "last_offset": 7},
)


@pytest.mark.parametrize("text", ["yesterday", "1700000000000", "-1", "nan", "1969-12-31", "2023-02-30"])
def test_a_time_that_is_none_is_told(text: str) -> None:
    """The error shows what a time looks like."""
    with pytest.raises(ReplayError, match="ISO 8601"):
        moment(text)


@pytest.mark.live
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--from", "soon"), "is no time"),
        (("--from", "2024-01-02", "--to", "2024-01-01"), "is not after"),
        (("--from", "2024-01-01", "--verify", "--apply"), "exclude each other"),
        (("--from", "2024-01-01", "--apply"), "--yes"),
        (("--from", "2024-01-01", "--sensors", ","), "names no sensor"),
        (("--from", "2024-01-01"), "there is no database"),
        ((), "--from"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    """Exit code 2, and what to do instead."""
    result = run("replay", *arguments, STREAMPROC_DATA_DIR=str(tmp_path))
    assert result.returncode == 2
    assert told in result.stderr


def test_the_same_command_is_the_same_replay() -> None:
    """Range, sensors, mode, ranges and rules make its identity; anything else leaves it."""
    settings = Settings()
    first = Request(1, 2, ("a",))
    assert first.identity(settings) == Request(1, 2, ("a",)).identity(settings)
    others = [
        Request(0, 2, ("a",)),
        Request(1, None, ("a",)),
        Request(1, 2),
        Request(1, 2, ("a",), apply=True),
        Request(1, 2, ("a",), ranges=(SensorEntry("a", critical=Range(high=1)),)),
    ]
    assert len({request.identity(settings) for request in [first, *others]}) == 6
    late = Settings.model_validate({"allowed_lateness_ms": 5_000})
    assert first.identity(late) != first.identity(settings)
    further = Settings.model_validate({"ML_BATCH_HORIZON": 2})
    assert first.identity(further) != first.identity(settings)
    slow = Settings.model_validate({"log_level": "debug"})
    assert first.identity(slow) == first.identity(settings)


def test_a_journal_is_as_of_its_last_commit(tmp_path: Path) -> None:
    """What was put after it is gone with the process; state, counts and differences belong together."""
    journal = Journal(tmp_path / "a")
    journal.save(2, Snapshot(5, b"head", {0: b"one", 1: b"two"}))
    journal.add(DIFFERENCE)
    journal.count("readings", "compared", 3)
    journal.begin(2, {"s": (1_000, 1_500)})
    journal.commit()
    journal.add(DIFFERENCE)
    journal.save(3, Snapshot(9, b"other", {}))
    journal.close()
    again = Journal(tmp_path / "a")
    assert again.state(2) == Snapshot(5, b"head", {0: b"one", 1: b"two"})
    assert again.state(3) is None
    assert again.counts() == {"readings": {"different": 1, "compared": 3}}
    assert len(list(again.differences())) == 1
    again.end(2, {"s": (2_000, 2_500), "new": (3_000, 3_500)}, cold=False)
    assert again.closed(2) == {"s": (1_000, 2_000, 2_500), "new": (0, 3_000, 3_500)}
    again.restart("apply")
    assert (again.state(2), again.counts(), again.closed(2)) == (None, {}, {})
    assert again.fact("phase") == "apply"
    again.remove()
    assert not (tmp_path / "a").exists()


def test_sensors_that_are_new_to_a_cold_state_are_not_searched(tmp_path: Path) -> None:
    """They may have had rows before the first record that is left."""
    journal = Journal(tmp_path)
    journal.begin(0, {"s": (1_000, 1_500)})
    journal.end(0, {"s": (2_000, 2_500), "new": (3_000, 3_500)}, cold=True)
    assert list(journal.closed(0)) == ["s"]
    journal.close()


def test_the_same_replay_runs_once(tmp_path: Path) -> None:
    """A second one is told; after the first has ended it may."""
    first = Journal(tmp_path)
    with pytest.raises(ReplayError, match="running already"):
        Journal(tmp_path)
    first.close()
    Journal(tmp_path).close()


def test_a_report_names_both_values_and_the_record(tmp_path: Path) -> None:
    """For people in a line, for programs as JSON."""
    journal = Journal(tmp_path / "a")
    journal.add(DIFFERENCE)
    (line,) = report.shown(journal.differences(), 1)
    assert line == "different readings      s  value is 2.5, replay 1.5  (records 1/7)"
    report.write(tmp_path / "out.jsonl", journal.differences())
    (told,) = (tmp_path / "out.jsonl").read_text().splitlines()
    assert json.loads(told)["columns"] == {"value": [2.5, 1.5]}
    assert report.differ(journal.counts()) == report.left(journal.counts()) == 1
    journal.count("readings", "written", 1)
    assert report.left(journal.counts()) == 0
    with pytest.raises(ReplayError, match="nowhere"):
        report.write(tmp_path / "nowhere" / "out", journal.differences())
    journal.close()
