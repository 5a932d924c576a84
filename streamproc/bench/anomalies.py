"""`streamproc bench anomalies DIRECTORY`: what the learners find in labelled series, and what they cost."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamproc import detect
from streamproc.bench.forecasts import coverage, learnt, told_lines
from streamproc.bench.labelled import Series, read, scores
from streamproc.core.counted import counted
from streamproc.core.learners import LearnerBank
from streamproc.core.severity import SeverityBank
from streamproc.detect.series import read as blocks_of

#: Sensors and windows of each where the cost in columns is measured: as `bench engine` has them, a second or two.
SENSORS, WINDOWS = 1_000, 1_000
#: Sensors whose memory is measured: so many that what does not grow with them does not show.
MEASURED = 10_000


def run(directory: Path) -> None:
    """Print the score in each profile, how much the forecasts' intervals cover, and the cost."""
    series = read(directory)
    rows = sum(len(each.stamps) for each in series)
    windows = sum(len(each.windows) for each in series)
    print(f"{len(series)} series, {rows:,} rows, {counted(windows, 'anomaly', 'anomalies')}")
    began = time.process_time()
    anomalies = {each.name: detected(each) for each in series}
    row_us = 1e6 * (time.process_time() - began) / rows
    for name, score in scores(series, anomalies).items():
        print(f"{name:9s} {score.points:6.2f}  at threshold {score.threshold:.6g}")
    known = [values(each) for each in series]
    began = time.process_time()
    told = [learnt(*columns) for columns in known]
    single_us = 1e6 * (time.process_time() - began) / rows
    print(*told_lines(coverage([value for value, _ in known], told)), sep="\n")
    print(f"detect {row_us:.1f} µs a row, of them learning {single_us:.1f}")
    print(f"learners in columns {columns_us():.2f} µs a window at {SENSORS:,} sensors")
    memory, checkpoint = sensor_bytes()
    print(f"a sensor: {memory:,} bytes of memory, {checkpoint:,} of a checkpoint")


def detected(series: Series) -> list[float]:
    """The anomaly scores as `streamproc detect` writes them."""
    return [float(row.fields()[2]) for row in detect.run(series.lines)]


def values(series: Series) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The values of a series, those missing left out, and their times in ms."""
    blocks = list(blocks_of(series.lines, detect.BLOCK_ROWS))
    value, at_ms = (np.concatenate([getattr(block, name) for block in blocks]) for name in ("value", "at_ms"))
    known = ~np.isnan(value)
    return value[known], at_ms[known]


def columns_us() -> float:
    """CPU time for a window where many sensors' windows are judged at once."""
    learners, rng = LearnerBank(), np.random.default_rng(1)
    learners.grow(SENSORS)
    slots, ones = np.arange(SENSORS), np.ones(SENSORS, dtype=np.int64)
    series = rng.normal(20, 1, (WINDOWS, SENSORS))
    began = time.process_time()
    for second, mean in enumerate(series):
        learners.observe(slots, mean, np.abs(mean - 20), 2 * ones, 1_000 * second * ones)
    return 1e6 * (time.process_time() - began) / series.size


def sensor_bytes() -> tuple[int, int]:
    """What learners and severity take for a sensor in memory, and what the learners take in a checkpoint."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    learners, severity = LearnerBank(), SeverityBank()
    learners.grow(MEASURED)
    severity.grow(MEASURED)
    memory = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return round(memory / MEASURED), learners.dump([0]).nbytes
