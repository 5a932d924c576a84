"""What is told of a recovery is what was there: each sign, what cuts it short, and the table of many."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from streamproc.records import WindowRows
from tests.chaos.moments import Moment, Moments, Sign, Span, in_the_way
from tests.chaos.outcome import Outcome
from tests.chaos.plan import plan
from tests.chaos.recovery import Evidence, recoveries
from tests.chaos.report import Told, read, table

END_MS = 60_000
#: A reading a second in two partitions, offset n at second n.
READINGS = {
    partition: [SimpleNamespace(timestamp=n * 1_000, offset=n) for n in range(60)] for partition in (0, 1)
}


def _window(at_ms: int, last_offset: int) -> Any:
    number, of = [0], [0.0]
    rows = WindowRows(1_000, "", 0, ["s"], number, number, of, of, of, of, of, of, of, number, [last_offset])
    return SimpleNamespace(timestamp=at_ms, value=msgspec.json.encode(rows))


def _evidence(windows: dict[int, list[Any]], **other: Any) -> Evidence:
    held = {"readings": READINGS, "windows": windows, "events": {0: [], 1: []}}
    given: dict[str, Any] = {"rows": [], "taken": [], "silence": (0, 0, 0)} | other
    return Evidence(held, prefix="", **given)


def _moments(sign: Sign, at_ms: int = 20_000, kind: str = "kill-worker") -> Moments:
    return Moments(noted=[Moment(kind, at_ms, sign, (0, 1))])


def test_a_result_counts_if_it_is_made_of_what_came_after() -> None:
    """A window of records before the kill, told after it, is none; the second partition's is the last."""
    windows = {0: [_window(20_500, 19), _window(23_000, 20)], 1: [_window(27_500, 26)]}
    (found,) = recoveries(_moments(Sign.RESULT), END_MS, _evidence(windows))
    assert (found.seconds, found.all_s) == (3.0, 7.5)


@pytest.mark.parametrize("sign", [Sign.RESULT, Sign.ROW, Sign.TAKEN])
def test_the_next_fault_cuts_it_short(sign: Sign) -> None:
    """What came after the next fault is not told of this one; slow it is only where the time up to there is too long."""
    evidence = _evidence(
        {0: [_window(33_000, 32)], 1: []}, rows=[(33_000, {("readings", 0): 33})], taken=[(32_000, 33_000)]
    )
    moments = _moments(sign)
    moments.begun.append((32_000, "kill-all"))
    (found,) = recoveries(moments, END_MS, evidence)
    assert (found.seconds, found.cut_s) == (None, 12.0)
    assert found.slow(10.0)
    assert not found.slow(12.5)


def test_what_is_not_in_the_way_cuts_nothing_short() -> None:
    """A worker needs no gateway or database, a sink no worker, a gateway neither."""
    begun = {
        Sign.RESULT: ["kill-sink", "kill-gateway", "database-full"],
        Sign.ROW: ["kill-worker", "bad-checkpoint", "kill-gateway"],
        Sign.TAKEN: ["kill-worker", "kill-sink", "database-moved"],
    }
    evidence = _evidence({0: [_window(33_000, 32)], 1: []}, rows=[(33_000, {("readings", 0): 33})])
    for sign, kinds in begun.items():
        moments = _moments(sign)
        moments.begun += [(25_000, kind) for kind in kinds]
        (found,) = recoveries(moments, END_MS, evidence)
        assert found.cut_s == 40.0
    assert all(in_the_way(kind, sign) for sign in Sign for kind in ("kill-all", "broker-kill"))


def test_a_flow_stops_for_its_longest_pause() -> None:
    """From the moment, between two results, or up to the next fault; a partition that got nothing has no pause."""
    steady = [_window(at, at // 1_000) for at in range(20_500, 40_000, 1_000)]
    halting = [result for result in steady if not 25_000 < result.timestamp < 31_000]
    moments = _moments(Sign.FLOW)
    moments.begun.append((40_000, "kill-worker"))
    (found,) = recoveries(moments, END_MS, _evidence({0: steady, 1: halting}))
    assert found.seconds == 7.0
    (found,) = recoveries(moments, END_MS, _evidence({0: steady, 1: halting}, silence=(1, 24_000, 30_000)))
    assert found.seconds == 1.0


def test_a_row_counts_once_the_database_is_beyond_it() -> None:
    """The offset that the database tells is the next one."""
    rows = [(21_000, {("readings", 0): 20}), (22_000, {("readings", 0): 21}), (25_000, {("readings", 1): 21})]
    (found,) = recoveries(_moments(Sign.ROW), END_MS, _evidence({0: [], 1: []}, rows=rows))
    assert (found.seconds, found.all_s) == (2.0, 5.0)


def test_a_row_is_not_waited_for_while_the_database_is_away() -> None:
    """A sink that is killed in an outage, or an outage that ends while a sink stands still, tells nothing of recovery."""
    rows = [(30_000, {("readings", 0): 30, ("readings", 1): 30})]
    killed, ended = _moments(Sign.ROW, kind="kill-sink"), _moments(Sign.ROW, kind="database-locked")
    killed.spans.append(Span("database-locked", 15_000, 25_000))
    ended.spans += [Span("database-locked", 15_000, 20_000), Span("pause-sink", 19_000, 31_000)]
    for moments in (killed, ended):
        (found,) = recoveries(moments, END_MS, _evidence({0: [], 1: []}, rows=rows))
        assert (found.seconds, found.cut_s) == (None, 0.0)


def test_a_gateway_is_back_with_a_request_begun_after_its_kill() -> None:
    """An answer to an earlier request may still be under way."""
    evidence = _evidence({0: [], 1: []}, taken=[(19_990, 20_010), (23_000, 23_100)])
    (found,) = recoveries(_moments(Sign.TAKEN), END_MS, evidence)
    assert found.seconds == 3.1


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    """What is told of a seed, whether it was measured or wrong, is what a resumed run reads."""
    outcome = Outcome(plan(3, 120.0), tmp_path)
    windows = {0: [_window(23_000, 20)], 1: []}
    moments = _moments(Sign.RESULT)
    moments.noted.append(Moment("kill-gateway", 20_000, Sign.TAKEN, (0,)))
    outcome.recoveries = recoveries(moments, END_MS, _evidence(windows))
    right = Told.of(outcome)
    outcome.verdict.fault("lost", "readings", "one")
    wrong = Told.of(outcome)
    path = tmp_path / "report"
    assert read(path) == []
    path.write_text(right.text() + "\n".join(["", *table([right]), "", ""]) + wrong.text())
    assert read(path) == [right, wrong]
    assert (right.wrong, wrong.wrong) == (False, True)
    assert right.measured == {
        "kill-worker, first result": [(3.0, None)],
        "kill-gateway, first taken": [(None, None)],
    }


def test_the_table_has_a_line_for_each_kind() -> None:
    """How many were measured of how many, the median and the slowest; one profile beside the other."""
    seeds = [
        Told(
            1, "recovery", 180, False, "", {"a": [(1.0, 2.0), (None, None), (2.5, None)], "b": [(None, None)]}
        ),
        Told(2, "recovery", 180, False, "", {"a": [(9.0, 9.5)]}),
        Told(3, "busy", 180, False, "", {"a": [(0.5, 0.6)]}),
    ]
    assert table(seeds) == [
        "recovery in seconds, 3 seeds | measured | median | slowest | all partitions: median | slowest",
        "recovery: a | 3 of 4 | 2.5 | 9.0 | 5.8 | 9.5",
        "recovery: b | 0 of 1 | - | - | - | -",
        "busy: a | 1 of 1 | 0.5 | 0.5 | 0.6 | 0.6",
    ]
