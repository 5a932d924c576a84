"""`streamproc bench faults`: the made series, what counts as found, and a tiny run of it."""

from __future__ import annotations

import numpy as np
import pytest

from streamproc.bench.fault_bound import findable
from streamproc.bench.fault_report import Figures, summary, tables
from streamproc.bench.fault_series import FAULTS, KINDS, Rows, Size, Source
from streamproc.bench.fault_site import Site
from streamproc.bench.faults import Clean, Found, Trial

SPIKE = FAULTS[0]


def found(*delays: int, tried: int = 4, size: int = 2) -> Found:
    """What was found of a spike, so many windows after it was there."""
    return Found("white", "1min", SPIKE, size, ruled=False, tried=tried, delays=list(delays))


@pytest.mark.parametrize("kind", KINDS)
def test_series_are_the_same_however_they_are_cut(kind: str) -> None:
    """Ten rows at once or in two parts."""
    whole, cut = Source(kind, 3, 60_000, 5), Source(kind, 3, 60_000, 5)
    usual, value = whole.rows(10)
    parts = [cut.rows(4), cut.rows(6)]
    assert (np.concatenate([part[0] for part in parts]) == usual).all()
    assert (np.concatenate([part[1] for part in parts]) == value).all()


@pytest.mark.parametrize("kind", ["white", "autoregressive", "daily"])
def test_a_deviation_is_one(kind: str) -> None:
    """All sizes are told in it."""
    usual, value = Source(kind, 200, 60_000, 5).rows(300)
    assert np.std(value - usual) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_changes_nothing_before_it_and_something_after(fault: object) -> None:
    """In values, in what is sent, or in clocks; in each of its sizes."""
    assert fault in FAULTS
    for put in (one for one in FAULTS if one is fault):
        for size in put.sizes:
            rows = made_rows()
            put.put(rows, size, 60_000)
            was = made_rows()
            changed = (rows.value != was.value) | (rows.sent != was.sent) | (rows.shift_ms != was.shift_ms)
            assert not changed[:5].any()
            assert changed[5].all()
            if size.over < 10:
                assert not changed[5 + int(size.over) :].any()


def made_rows() -> Rows:
    """Twenty rows of two sensors, the fault in the sixth."""
    usual, value = Source("white", 2, 60_000, 5).rows(20)
    since = np.tile(np.arange(20)[:, None] - 5, 2)
    return Rows(usual, value, since, value[4], np.ones_like(since, dtype=bool), np.zeros_like(since))


def test_a_fault_that_grows_is_of_its_size_when_it_has() -> None:
    """Ten deviations at five an hour take two hours."""
    assert Size(10, "", hourly=5).evident(60_000) == 120
    assert Size(3, "", 30).evident(60_000) == 30
    assert Size(3, "").evident(60_000) == 0


def test_no_detector_finds_all_bursts_of_noise() -> None:
    """Some begin with three readings that are small by chance: one who knows all there is finds as many as in a trial."""
    burst = next(fault for fault in FAULTS if fault.name == "noise burst")
    random = np.random.default_rng(3)
    clean, loud = np.square(random.standard_normal((2, 300_000, 3))).sum(axis=2)
    day = 86_400_000  # so that clean windows enough can be drawn: three of 30 in a month, one alarm
    allowed = np.quantile(clean, 0.9)
    for size in burst.sizes:
        tried = float((loud * size.number**2 > allowed).mean())
        assert findable(burst, size, day) == pytest.approx(tried, abs=0.004)
    part = findable(burst, burst.sizes[2], 1_000)
    assert part is not None
    assert 0.994 < part < 0.995


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_what_can_be_found_grows_with_the_size(fault: object) -> None:
    """Or is not told: of what is no matter of values."""
    for one in (one for one in FAULTS if one is fault):
        parts = [findable(one, size, 60_000) for size in one.sizes]
        known = [part for part in parts if part is not None]
        assert known == sorted(known)
        assert bool(known) == (one.name not in {"stuck", "drop-out", "clock ahead", "clock behind"})


def test_a_leak_when_known_begins_after_days() -> None:
    """Its sensors have spoken for two days; those of other faults for as many readings as ever."""
    names = {"slow leak": 0, "leak when known": 2}
    for fault in (one for one in FAULTS if one.name in names):
        trial = Trial("white", "1min", 1, faults=[fault])
        assert trial.onset.min() >= max(1_000, names[fault.name] * 1_440)


def test_delays_and_parts() -> None:
    """The middle and the ninth tenth of those found; what is soon is so within three windows, of all that were tried."""
    told = found(1, 2, 9)
    assert (told.part, told.soon) == (0.75, 0.5)
    assert (told.delay(0.5), told.delay(0.9)) == (2, 9)


def test_what_misses_its_target_is_told() -> None:
    """Large faults that are not all found soon, and clean series with more than an alarm in 30 sensor-days."""
    figures = Figures(["1min"], [found(1, 1, 1, 9), found(1, 9, size=0)], [])
    figures.clean.append(Clean("white", "1min", ruled=False, sensor_days=60))
    figures.clean[0].alarms["level"] = 3
    told = list(summary(figures))
    assert told == [
        "clean, learners alone: white at 1min: 1.5 alarms (level 3) in 30 sensor-days",
        "large, learners alone: spike in white at 1min: 75% within 3 windows, 100% in all",
    ]
    assert "|  | large, 20 sigma | 100 %: 1, 9 / - |" in list(tables(figures))


def test_what_the_engine_tells_has_its_row() -> None:
    """A jump, a silence, a reading from the future and a late one: each of the sensor and the row that it came of."""
    from streamproc.bench.faults import entry  # noqa: PLC0415

    names = ["a", "b"]
    site = Site(names, 1_000, {name: entry(name, 1_000, 0.0) for name in names}, chunk=7)
    value = 50 + np.random.default_rng(1).normal(size=(40, 2)) / 10
    value[5, 0] = 80
    sent, shift = np.ones((40, 2), dtype=bool), np.zeros((40, 2), dtype=np.int64)
    sent[10:20, 1] = False
    shift[30, 0], shift[35, 0] = 100_000, -20_000
    told = {
        (signal.sensor, signal.row, signal.what, signal.cause) for signal in site.send(0, value, sent, shift)
    }
    assert {
        (0, 5, "severity", "critical_range"),
        (1, 12, "severity", "silence"),
        (0, 30, "early", ""),
        (0, 35, "late", ""),
    } <= told


@pytest.mark.live
def test_a_tiny_run_is_the_same_in_other_chunks() -> None:
    """What is found does not hang on how records are cut, and large spikes are."""
    whole, before = Trial("white", "1min", 1).run()
    cut, again = Trial("white", "1min", 1, chunk=777).run()
    assert (whole, before) == (cut, again)
    spikes = [one for one in whole if one.fault is SPIKE and one.size == 2]
    assert [one.delays for one in spikes] == [[1], [1]]
