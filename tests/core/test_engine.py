"""The step as a whole: against a plain oracle, and the same however the records are cut into chunks."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.oracle import (
    NOW,
    Oracle,
    Record,
    cuttings,
    feed,
    new_state,
    numbers,
    opened,
    story,
    streams,
    view,
    whole,
)

EXACT = ("count", "min", "max", "first", "last", "first_offset", "last_offset")


@pytest.mark.live
@settings(deadline=None, max_examples=70)
@given(streams(), cuttings)
def test_the_oracle_counts_the_same(records: list[Record], cuts: list[int]) -> None:
    """Each reading is late, a retry, moved on, or in a window of each size, whose numbers are by definition."""
    oracle, state = Oracle(), new_state()
    oracle.run(records)
    told = feed(state, records, cuts)
    assert sum(map(len, told.late.values())) == len(oracle.late)
    assert told.duplicates == oracle.duplicates
    assert told.readings + told.duplicates == oracle.accepted
    assert told.moved == oracle.moved
    wanted = oracle.windows()
    assert told.windows.keys() == wanted.keys()
    for key, rows in told.windows.items():
        found = {int(row.start[0]): view(row) for row in map(opened, rows)}
        assert len(found) == len(rows)
        check({start: numbers(each) for start, each in wanted[key].items()}, found)


def check(wanted: dict[int, dict[str, float]], found: dict[int, dict[str, float]]) -> None:
    """Compare windows by start: bit for bit what is no sum, and nearly what is."""
    assert found.keys() == wanted.keys()
    for start, window in found.items():
        assert {name: window[name] for name in EXACT} == {name: wanted[start][name] for name in EXACT}
        assert window == pytest.approx(wanted[start], rel=1e-6, abs=1e-6)


@pytest.mark.live
@settings(deadline=None, max_examples=70)
@given(streams(60), cuttings, cuttings)
def test_cuts_change_nothing(records: list[Record], cuts: list[int], others: list[int]) -> None:
    """Two ways of cutting the same records into chunks give the same bits."""
    one, other = new_state(), new_state()
    assert feed(one, records, cuts) == feed(other, records, others)
    assert whole(one) == whole(other)


@pytest.mark.live
@settings(deadline=None, max_examples=8)
@given(
    st.integers(0, 50), st.lists(st.integers(0, 600), max_size=40), st.lists(st.integers(0, 600), max_size=3)
)
def test_cuts_change_no_learner(seed: int, cuts: list[int], others: list[int]) -> None:
    """Nor what learners and ranges tell of a longer story, whether sensors are judged as columns or one by one."""
    records = story(seed, sensors=24, seconds=115)
    one, other = new_state(), new_state()
    told = feed(one, records, cuts)
    assert told == feed(other, records, others)
    assert whole(one) == whole(other)
    assert told.duplicates
    assert told.late
    assert told.moved
    assert told.rejected


def test_a_story_has_changes_of_each_kind() -> None:
    """Or the property above would say little."""
    records = [*story(1, sensors=24, seconds=150), Record(NOW + 300_000, tick=True)]
    told = feed(new_state(), records)
    causes = {msgspec.json.decode(event)[0]["cause"] for events in told.events.values() for event in events}
    assert {"warning_range", "recovered"} < causes
    assert causes & {"level", "difference", "spread", "trend"}
    assert told.predictions
