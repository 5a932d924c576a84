"""Which pipeline a reading is for, and how many each one gets."""

from __future__ import annotations

import numpy as np
import pytest

from streamproc.core.classify import Classified, Pipeline
from streamproc.core.engine import run
from streamproc.core.spikes import Spike
from streamproc.records import DeltaSpike, Range, SensorEntry, Severity
from tests.core.oracle import HERE, NOW, Reading, Record, chunk, new_state, registry

ENTRY = SensorEntry(
    HERE[1],
    warning=Range(0, 50),
    critical=Range(-10, 90),
    rules=(DeltaSpike(absolute=25, severity=Severity.CRITICAL),),
)
ALERTS, WARNINGS, PREDICTIONS = Pipeline.ALERTS, Pipeline.WARNINGS, Pipeline.PREDICTIONS


def spike(severity: int) -> Spike:
    """A jump, or with 0 what comes near to one."""
    return Spike(NOW, 1.0, 1, 0.0, 10, 0, 0.9, severity, DeltaSpike())


@pytest.mark.parametrize(
    ("breach", "jump", "pipeline"),
    [
        (0, None, PREDICTIONS),
        (0, 0, PREDICTIONS),
        (0, 1, WARNINGS),
        (0, 2, WARNINGS),
        (1, None, WARNINGS),
        (1, 2, WARNINGS),
        (2, None, ALERTS),
        (2, 1, ALERTS),
    ],
)
def test_a_reading_has_one_pipeline(breach: int, jump: int | None, pipeline: Pipeline) -> None:
    """By its range, or as a warning by its jump, whatever a jump raises to."""
    one = Classified(np.array([0, breach], dtype=np.int8), {} if jump is None else {1: spike(jump)})
    assert one.pipelines(np.array([0, 1])).tolist() == [PREDICTIONS, pipeline]
    assert one.notable().tolist() == ([1] if breach or jump is not None else [])


@pytest.mark.parametrize("cuts", [range(0), range(9)])
def test_the_engine_routes_each_reading_once(cuts: range) -> None:
    """All that count and are not late, however they are cut."""
    values = (20.0, 40.0, 60.0, 20.0, 95.0, 94.0, 49.0)
    records = [
        Record(NOW + 1_000 * i, (Reading(HERE[1], value, NOW + 1_000 * i),)) for i, value in enumerate(values)
    ]
    records += [Record(NOW + 9_000, (Reading(HERE[1], 99.0, NOW),)), records[-1]]
    state, routed = new_state(), dict.fromkeys(Pipeline, 0)
    ends = sorted({cut for cut in cuts if cut} | {len(records)})
    for begin, end in zip([0, *ends], ends, strict=False):
        for _, out in run(state, chunk(records[begin:end], begin), registry(ENTRY)):
            for pipeline, number in out.routed.items():
                routed[pipeline] += number
    # Warnings are 60 by its range, and 20 and 49 by their jumps.
    assert routed == {ALERTS: 2, WARNINGS: 3, PREDICTIONS: 2}
