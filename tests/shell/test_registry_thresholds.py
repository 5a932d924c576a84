"""Limits of the reference system's programs as ranges of the registry: pure, and the command's own errors."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from streamproc.errors import RegistryError
from streamproc.records import Range, SensorEntry
from streamproc.registry.commands import commands
from streamproc.registry.thresholds import taken_over
from streamproc.store.thresholds import Threshold

A = SensorEntry("a", device="d", sensor_id=7, unit="bar", warning=Range(1.0, 2.0), version=3)


def limit(
    condition: str = "out_of_range",
    low: float | None = None,
    high: float | None = None,
    severity: str = "critical",
    *,
    is_active: bool = True,
) -> Threshold:
    """A limit of the sensor `a`."""
    return Threshold("a", condition, low, high, severity, is_active)


def ranges(*limits: Threshold, entry: SensorEntry = A) -> tuple[Range | None, Range | None]:
    """The entry's ranges with these limits."""
    (taken,), _ = taken_over([entry], limits)
    return taken.warning, taken.critical


def test_a_limit_becomes_a_range_and_the_rest_stays() -> None:
    """Of the severity that it has; device, number, unit and version are as they were, and no other sensor is named."""
    (taken,), notes = taken_over([A, SensorEntry("b")], [limit(low=0.0, high=30.5)])
    assert taken == SensorEntry(
        "a", "d", 7, unit="bar", warning=Range(1.0, 2.0), critical=Range(0.0, 30.5), version=3
    )
    assert notes == []


def test_each_condition_has_its_side() -> None:
    """Greater is above, less is below; together with others the narrower counts, and the first of a condition."""
    assert ranges(limit("greater_than", 90.0))[1] == Range(high=90.0)
    assert ranges(limit("less_than", 5.0))[1] == Range(low=5.0)
    both = limit("greater_than", 90.0), limit("less_than", 5.0)
    assert ranges(*both)[1] == Range(5.0, 90.0)
    assert ranges(*both, limit(low=0.0, high=80.0), limit(low=50.0, high=60.0))[1] == Range(5.0, 80.0)
    assert ranges(limit(severity="warning", low=3.0)) == (Range(low=3.0), None)


value = st.floats(-100, 100)
limits = st.one_of(
    st.builds(limit, st.sampled_from(["greater_than", "less_than"]), value),
    st.builds(lambda low, high: limit("out_of_range", low, high), st.none() | value, st.none() | value),
)


def breaks(row: Threshold, number: float) -> bool:
    """Whether a value breaks a limit, as the database's own judge has it."""
    low, high = row.low, row.high
    if row.condition == "greater_than":
        return low is not None and number > low
    below = low is not None and number < low
    return below if row.condition == "less_than" else below or (high is not None and number > high)


@given(st.lists(limits, min_size=1, max_size=3, unique_by=lambda row: row.condition), value)
def test_a_value_is_outside_the_range_where_it_breaks_a_limit(rows: list[Threshold], number: float) -> None:
    """As the database's own judge has it, unless no value is right."""
    (taken,), notes = taken_over([SensorEntry("a")], rows)
    if notes:
        return
    span = taken.critical or Range()
    outside = (span.low is not None and number < span.low) or (span.high is not None and number > span.high)
    assert outside == any(breaks(row, number) for row in rows)


def test_a_limit_that_was_switched_off_takes_its_range_away() -> None:
    """But not one that has been set otherwise since, nor where another limit holds."""
    off = limit(low=0.0, high=30.5, is_active=False)
    entry = SensorEntry("a", critical=Range(0.0, 30.5))
    assert ranges(off, entry=entry) == (None, None)
    assert ranges(off, entry=SensorEntry("a", critical=Range(0.0, 40.0)))[1] == Range(0.0, 40.0)
    assert ranges(off, limit("greater_than", 9.0), entry=entry)[1] == Range(high=9.0)


def test_what_no_range_can_say_is_told() -> None:
    """Kinds of limits that the engine does not know, and limits that contradict each other; a range stays then."""
    rows = [limit("equal_to", 5.0), limit(severity="info", high=3.0), limit("equal_to", 6.0)]
    taken, notes = taken_over([A], rows)
    assert taken == []
    assert [note.partition(":")[0] for note in notes] == [
        "2 limits left out (equal_to, critical)",
        "1 limit left out (out_of_range, info)",
    ]
    entry = SensorEntry("a", critical=Range(0.0, 1.0))
    (taken_entry,), notes = taken_over([entry], [limit("greater_than", 5.0), limit("less_than", 9.0)])
    assert taken_entry == entry
    assert "contradict each other (9.0 to 5.0)" in notes[0]


def test_limits_are_taken_over_from_sql_server_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With SQLite, and without or beside a file, the command says what to do."""
    monkeypatch.delenv("DB_HOST", raising=False)
    monkeypatch.setenv("STREAMPROC_DATABASE", str(tmp_path / "s.db"))
    told = CliRunner().invoke(commands, ["import", "--from-thresholds"])
    assert isinstance(told.exception, RegistryError)
    assert "set DB_HOST" in str(told.exception)
    for arguments in (["import"], ["import", "--from-thresholds", "sensors.json"]):
        told = CliRunner().invoke(commands, arguments)
        assert (told.exit_code, "either a file or" in told.output) == (2, True)
