"""Predictions: one for each step after each closed window of the largest size, from what was learnt by its end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.core.learners import Scores
from streamproc.core.predict import HORIZON_MS, Forecasts, Predicted
from streamproc.core.severity import ALARM

SENSORS = 3


@dataclass(frozen=True)
class Base:
    """One closed base window: what the learners said of it."""

    slot: int
    start: int
    anomaly: float
    forecast: float


def scores(rows: list[Base]) -> Scores:
    """Columns of what the learners said."""
    forecast = np.array([row.forecast for row in rows])
    return Scores(
        anomaly=np.array([row.anomaly for row in rows]),
        evidence=np.zeros(len(rows), dtype=np.int8),
        surprise=np.zeros(len(rows)),
        expected=np.zeros(len(rows)),
        forecast=forecast,
        deviation=forecast / 2,
    )


def told(made: Predicted) -> list[tuple[float, ...]]:
    """Predictions as rows."""
    return list(zip(*(getattr(made, name).tolist() for name in made.__slots__), strict=True))


def step(forecasts: Forecasts, rows: list[Base], over: list[tuple[int, int]]) -> list[tuple[float, ...]]:
    """Make predictions for the largest windows that are over, with these base windows new."""
    rows, over = sorted(rows, key=lambda row: (row.slot, row.start)), sorted(over)
    slot = np.array([row.slot for row in rows], dtype=np.int64)
    start = np.array([row.start for row in rows], dtype=np.int64)
    due = np.array(over, dtype=np.int64).reshape(-1, 2)
    return told(forecasts.make(slot, start, scores(rows), (due[:, 0], due[:, 1], np.zeros(len(due)))))


bases = st.lists(
    st.tuples(st.integers(0, 29), st.sampled_from([0.0, 0.2, ALARM, 0.9]), st.floats(-9, 9)),
    min_size=1,
    max_size=20,
    unique_by=lambda row: row[0],
).map(sorted)


waits = st.lists(st.tuples(*[st.sampled_from([0, 1_000, 7_000, 23_000])] * SENSORS), max_size=8)
END = 3 * HORIZON_MS


def floor(ms: int) -> int:
    """The start of the largest window."""
    return ms // HORIZON_MS * HORIZON_MS


def by_definition(each: list[Base]) -> list[tuple[float, ...]]:
    """A sensor's predictions: highest anomaly and last forecast of the base windows in each window."""
    wanted: list[tuple[float, ...]] = []
    for begin in sorted({floor(row.start) for row in each}):
        inside = [row for row in each if floor(row.start) == begin]
        peak, last, end = max(row.anomaly for row in inside), inside[-1], begin + HORIZON_MS
        wanted += [
            (last.slot, end, end + HORIZON_MS, last.forecast, peak, peak >= ALARM),
            (last.slot, end, end + 2 * HORIZON_MS, last.forecast, 0.0, False),
        ]
    return wanted


@settings(deadline=None, max_examples=80)
@given(st.lists(bases, min_size=1, max_size=SENSORS), waits)
def test_predictions_are_the_windows_own(
    sensors: list[list[tuple[int, float, float]]], waiting: list[tuple[int, ...]]
) -> None:
    """Whichever windows close together."""
    rows = [
        [Base(slot, 1_000 * second, anomaly, forecast) for second, anomaly, forecast in each]
        for slot, each in enumerate(sensors)
    ]
    forecasts, made, closed = Forecasts(2), list[tuple[float, ...]](), [0] * SENSORS
    forecasts.grow(SENSORS)
    for wait in [*waiting, (END,) * SENSORS]:
        new, over = list[Base](), list[tuple[int, int]]()
        for slot, each in enumerate(rows):
            begin, end = closed[slot], min(closed[slot] + wait[slot], END)
            new += [row for row in each if begin <= row.start < end]
            over += {
                (slot, at) for at in (floor(row.start) for row in each) if begin < at + HORIZON_MS <= end
            }
            closed[slot] = end
        made += step(forecasts, new, over)
    # How far they may be out is for tests/core/test_steps.py.
    told = sorted((*row[:4], *row[5:]) for row in made)
    assert told == sorted(row for each in rows for row in by_definition(each))


def test_nothing_closed_makes_nothing() -> None:
    """No rows at all."""
    forecasts = Forecasts()
    forecasts.grow(SENSORS)
    assert step(forecasts, [], []) == []
    assert step(forecasts, [Base(1, 0, 0.9, 1.0)], []) == []
