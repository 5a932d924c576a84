"""`streamproc bench anomalies`: the benchmark's rule on hand-made cases, and what is printed of labelled series."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from streamproc.bench.anomalies import columns_us, run, sensor_bytes
from streamproc.bench.forecasts import STEPS, coverage, learnt
from streamproc.bench.labelled import PROFILES, Series, read, scores, weigh
from streamproc.cli import app
from streamproc.core.learners import DUMPED
from streamproc.errors import StreamprocError

#: They take seconds.
pytestmark = pytest.mark.live

ROWS, FIRST, LAST = 1_000, 500, 599


def stamp(row: int) -> str:
    """The time of a row, a minute each."""
    return f"2024-05-{1 + row // 1_440:02} {row // 60 % 24:02}:{row % 60:02}:00"


def labelled(*windows: tuple[int, int], name: str = "made/one.csv") -> Series:
    """A series with these windows of anomalies."""
    stamps = [stamp(row) for row in range(ROWS)]
    lines = ["timestamp,value\n", *(f"{at},{row % 7}\n" for row, at in enumerate(stamps))]
    edges = [(f"{stamp(first)}.000000", f"{stamp(last)}.000000") for first, last in windows]
    return Series(name, lines, stamps, edges)


def points(series: list[Series], alarms: dict[str, dict[int, float]]) -> dict[str, float]:
    """The points of each profile where these rows have these scores, and all others 0."""
    anomalies = {
        each.name: [alarms.get(each.name, {}).get(row, 0.0) for row in range(ROWS)] for each in series
    }
    return {name: score.points for name, score in scores(series, anomalies).items()}


def sigmoid(position: float) -> float:
    """The benchmark's own formula."""
    return 2 / (1 + math.exp(5 * position)) - 1


def test_the_first_row_of_the_window_is_worth_all() -> None:
    """100 points in each profile, and none for silence."""
    one = labelled((FIRST, LAST))
    assert points([one], {one.name: {FIRST: 0.9}}) == pytest.approx(
        {profile.name: 100 for profile in PROFILES}
    )
    assert points([one], {}) == {profile.name: 0 for profile in PROFILES}


def test_later_in_the_window_is_worth_less_and_counts_once() -> None:
    """A row's worth falls with the sigmoid of its place; of several the best counts, at no cost of the others."""
    one = labelled((FIRST, LAST))
    middle = sigmoid(-0.5) / sigmoid(-1)
    told = points([one], {one.name: {FIRST + 50: 0.9, FIRST + 70: 0.9}})
    assert told["standard"] == pytest.approx(100 * (middle + 1) / 2)
    assert told["low-FN"] == pytest.approx(100 * (middle + 2) / 3)


def test_false_alarms_cost_by_their_distance() -> None:
    """One far behind the window costs its full weight, one just behind less, and twice as much at low-FP."""
    one = labelled((FIRST, LAST))
    far = points([one], {one.name: {FIRST: 0.9, 990: 0.9}})
    assert far["standard"] == pytest.approx(100 * (2 - 0.11) / 2)
    assert far["low-FP"] == pytest.approx(100 * (2 - 0.22) / 2)
    near = points([one], {one.name: {FIRST: 0.9, LAST + 10: 0.9}})
    assert near["standard"] == pytest.approx(100 * (2 + 0.11 * sigmoid(10 / 99)) / 2)
    before = points([one], {one.name: {FIRST: 0.9, 300: 0.9}})
    assert before["standard"] == pytest.approx(far["standard"])


def test_one_threshold_holds_for_all_series() -> None:
    """It is the one that is best in all: a false alarm that scores above what is found in another series has to be paid."""
    one, two = labelled((FIRST, LAST)), labelled((FIRST, LAST), name="made/two.csv")
    told = points([one, two], {one.name: {FIRST: 0.5}, two.name: {300: 0.7}})
    assert told["standard"] == pytest.approx(100 * (2 - 0.11) / 4)
    lower = points([one, two], {one.name: {FIRST: 0.5}, two.name: {300: 0.4}})
    assert lower["standard"] == pytest.approx(100 * 2 / 4)


def test_the_probation_neither_earns_nor_costs() -> None:
    """Rows in the first 15 % do not count; a window there can be neither found nor missed."""
    one = labelled((20, 40), (FIRST, LAST))
    assert points([one], {one.name: {20: 0.9, 100: 0.9, FIRST: 0.9}})["standard"] == pytest.approx(
        100 * 3 / 4
    )


def test_rows_behind_two_windows_cost_by_the_nearer() -> None:
    """A row between two windows is weighed by the one before it."""
    window, worth = weigh(labelled((200, 299), (FIRST, LAST)))
    assert (window[[199, 200, 299, 300, FIRST]] == [-1, 0, 0, -1, 1]).all()
    assert worth[199] == -1
    assert worth[310] == pytest.approx(sigmoid(11 / 99))
    assert worth[LAST + 11] == pytest.approx(sigmoid(11 / 99))


def write(directory: Path) -> None:
    """A directory of one labelled series: noise that jumps."""
    value = np.random.default_rng(1).normal(20, 1, ROWS)
    value[FIRST : FIRST + 20] += 30
    lines = [f"{stamp(row)},{each}\n" for row, each in enumerate(value.tolist())]
    (directory / "data" / "made").mkdir(parents=True)
    (directory / "data" / "made" / "one.csv").write_text("timestamp,value\n" + "".join(lines))
    (directory / "windows.json").write_text(json.dumps({"made/one.csv": [[stamp(480), stamp(560)]]}))


def test_it_prints_score_coverage_and_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For a directory of the benchmark's layout."""
    write(tmp_path)
    run(tmp_path)
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "1 series, 1,000 rows, 1 anomaly"
    assert [line.split()[0] for line in told[1:4]] == [profile.name for profile in PROFILES]
    assert all(float(line.split()[1]) > 90 for line in told[1:4])
    assert [line.split()[4] for line in told[4:8]] == [f"{step}:" for step in STEPS]
    assert all("covered, of a series from" in line for line in told[4:8])
    assert "µs a row" in told[8]
    assert "bytes of memory" in told[10]


@pytest.mark.parametrize("fault", ["absent", "no series", "no json", "no such time"])
def test_what_is_wrong_with_the_directory_is_told(tmp_path: Path, fault: str) -> None:
    """The file that is missing, or what is not as it should be, without a trace."""
    write(tmp_path)
    if fault == "absent":
        (tmp_path / "windows.json").unlink()
    elif fault == "no series":
        (tmp_path / "data" / "made" / "one.csv").unlink()
    elif fault == "no json":
        (tmp_path / "windows.json").write_text("{")
    else:
        (tmp_path / "windows.json").write_text(
            json.dumps({"made/one.csv": [[stamp(480), "2030-01-01 00:00:00"]]})
        )
    with pytest.raises(StreamprocError, match=r"windows\.json|one\.csv"):
        read(tmp_path)
    result = CliRunner().invoke(app, ["bench", "anomalies", str(tmp_path)])
    assert isinstance(result.exception, StreamprocError)


def test_a_sensor_takes_no_more_than_4_kb() -> None:
    """Memory and checkpoint together."""
    memory, checkpoint = sensor_bytes()
    assert checkpoint == DUMPED * 8
    assert memory + checkpoint <= 4_096


def test_the_intervals_of_noise_cover_nine_in_ten() -> None:
    """As they are counted for the labelled series, at each step, of series that are not of one length."""
    values = [np.random.default_rng(2).normal(size=rows) for rows in (5_000, 3_000)]
    told = [learnt(value, np.arange(len(value)) * 60_000) for value in values]
    found = coverage(values, told)
    assert tuple(found) == STEPS
    for step, (long, short) in found.items():
        assert (long.rows, short.rows) == (5_000 - 49 - step, 3_000 - 49 - step)
        assert 0.88 < long.part < 0.92
        assert 0.87 < short.part < 0.93


def test_the_cost_in_columns_is_a_time() -> None:
    """Some CPU time passes for each window."""
    assert columns_us() > 0
