"""Labelled series, and the score of a detector on them.

Layout and scoring are those of the Numenta Anomaly Benchmark: `windows.json` gives for each `data/GROUP/NAME.csv` the time
windows of its anomalies. The first alarm inside a window is worth more the earlier it comes, a window without an alarm
costs, and an alarm outside costs more the further it is behind a window. All series share one threshold.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamproc.errors import StreamprocError

#: Of each series so much is for learning, and no alarm counts there: 15 % of the rows, of so many rows at most.
PROBATION_PART, PROBATION_ROWS = 0.15, 750
#: An alarm so many window lengths behind a window costs as much as one far from any.
FAR = 3.0
#: A time as the labels have it, to the second.
_STAMP = 19


@dataclass(frozen=True, slots=True)
class Profile:
    """What an alarm in a window is worth, and what an alarm outside and a window without one cost."""

    name: str
    hit: float
    false: float
    miss: float


PROFILES = (
    Profile("standard", 1.0, 0.11, 1.0),
    Profile("low-FP", 1.0, 0.22, 1.0),
    Profile("low-FN", 1.0, 0.11, 2.0),
)


@dataclass(frozen=True, slots=True)
class Series:
    """One series: its lines as they stand in the file, the time stamps of its rows, and its windows' first and last."""

    name: str
    lines: list[str]
    stamps: list[str]
    windows: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Score:
    """100 for each anomaly found at once and no false alarm, 0 for silence; `threshold` is that of the best score."""

    points: float
    threshold: float


def read(directory: Path) -> list[Series]:
    """The series of a directory, in the order of their names; raises StreamprocError where it is none such."""
    labels = directory / "windows.json"
    try:
        windows = msgspec.convert(json.loads(labels.read_text()), dict[str, list[tuple[str, str]]])
        return [_series(directory, name, windows[name]) for name in sorted(windows)]
    except OSError as error:
        raise StreamprocError(
            f"{error.filename}: {error.strerror}; name a directory with windows.json and data/GROUP/NAME.csv"
        ) from error
    except ValueError as error:
        raise StreamprocError(f"{labels}: not the windows of the series' anomalies: {error}") from error


def _series(directory: Path, name: str, windows: list[tuple[str, str]]) -> Series:
    lines = (directory / "data" / name).read_text().splitlines(keepends=True)
    stamps = [row["timestamp"] for row in csv.DictReader(lines)]
    for window in windows:
        for edge in window:
            if edge[:_STAMP] not in stamps:
                raise StreamprocError(f"{name}: no row has the time {edge} of a window in windows.json")
    return Series(name, lines, stamps, windows)


def scores(series: Sequence[Series], anomalies: Mapping[str, Sequence[float]]) -> dict[str, Score]:
    """The score in each profile of these anomaly scores, a row's each, by the names of the series."""
    parts, count = [], 0
    for each in series:
        window, worth = weigh(each)
        counted = np.arange(len(worth)) >= min(int(PROBATION_PART * len(worth)), PROBATION_ROWS)
        window = np.where(window >= 0, window + count, -1)
        count += len(each.windows)
        parts.append(
            (np.asarray(anomalies[each.name], dtype=np.float64)[counted], window[counted], worth[counted])
        )
    score, window, worth = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(-score, kind="stable")
    alarms = _Alarms(score[order], window[order], worth[order], count)
    return {profile.name: _best(alarms, profile) for profile in PROFILES}


def weigh(series: Series) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each row the window that it lies in (-1: none), and what an alarm there is worth, or costs outside."""
    places = {stamp: row for row, stamp in reversed(list(enumerate(series.stamps)))}
    rows = np.arange(len(series.stamps))
    window, worth = np.full(len(rows), -1), np.full(len(rows), -1.0)
    for number, (first, last) in enumerate(series.windows):
        begin, end = places[first[:_STAMP]], places[last[:_STAMP]]
        inside = (rows >= begin) & (rows <= end)
        length = end - begin + 1
        window[inside] = number
        worth[inside] = _sigmoid(-(end - rows[inside] + 1) / length) / _sigmoid(np.array(-1.0))
        after = rows > end
        worth[after] = _sigmoid((rows[after] - end) / max(length - 1, 1))
    return window, worth


def _sigmoid(position: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the worth at a place, in window lengths behind the window's end: from 1 to -1, 0 at the end."""
    return np.where(position > FAR, -1.0, 2 / (1 + np.exp(5 * np.clip(position, -20, FAR))) - 1)


@dataclass(frozen=True, slots=True)
class _Alarms:
    """All rows that count, the highest score first, and the number of windows, those in the probation included."""

    score: NDArray[np.float64]
    window: NDArray[np.int64]
    worth: NDArray[np.float64]
    windows: int


def _best(alarms: _Alarms, profile: Profile) -> Score:
    """Lower the threshold score by score; of a window the best alarm so far counts."""
    gains = np.where(alarms.window < 0, profile.false * alarms.worth, 0.0)
    best: dict[int, float] = {}
    for row in np.flatnonzero(alarms.window >= 0).tolist():
        window, gain = int(alarms.window[row]), profile.hit * float(alarms.worth[row])
        before = best.get(window, -profile.miss)
        if gain > before:
            gains[row], best[window] = gain - before, gain
    totals = np.cumsum(gains)
    totals[:-1][alarms.score[1:] == alarms.score[:-1]] = -np.inf  # equal scores alarm together
    row = int(totals.argmax())
    total, threshold = (float(totals[row]), float(alarms.score[row])) if totals[row] > 0 else (0.0, np.inf)
    # A window in the probation can neither be found nor missed.
    lost = profile.miss * (alarms.windows - len(best))
    return Score(100 * (total + lost) / (alarms.windows * (profile.hit + profile.miss)), threshold)
