"""What trials would have told, in each database: each once, and beside what was told."""

from __future__ import annotations

from streamproc.records import Severity
from streamproc.records.alerting import BEGUN
from streamproc.store.protocol import Batch, Store, Written
from streamproc.store.trial_history import SeverityChange, TrialHistory
from tests.store.builders import GROUP, START, event, events, trial_events, tried

NORMAL, WARN, CRITICAL = Severity


async def test_what_a_trial_would_have_told_is_a_row_once(store: Store) -> None:
    """With its sensor's begin; and it is no event, which has a state."""
    rows = trial_events(
        tried("a", NORMAL, NORMAL), tried("a", WARN, NORMAL, 5_000), tried("b", CRITICAL, WARN, 9)
    )
    assert await store.write(Batch(GROUP, trial_events=rows)) == Written(trial_events=3)
    assert await store.write(Batch(GROUP, trial_events=rows)) == Written()
    assert await store.trial_recorded("t") == TrialHistory(
        1,
        START,
        [
            SeverityChange("a", START, NORMAL, NORMAL, BEGUN),
            SeverityChange("b", START + 9, CRITICAL, WARN, "level"),
            SeverityChange("a", START + 5_000, WARN, NORMAL, "level"),
        ],
    )
    found = await store.status("a")
    assert found is not None
    assert found.event is None


async def test_the_newest_version_of_a_trial_counts(store: Store) -> None:
    """Each edit is a trial anew, and so is one of the same name after the first has ended."""
    first, second = tried("a", WARN, NORMAL, 1), tried("a", WARN, NORMAL, 1, trial_version=2)
    again = tried("a", CRITICAL, NORMAL, 1, begun_at=START + 70_000)
    await store.write(Batch(GROUP, trial_events=trial_events(first, second)))
    found = await store.trial_recorded("t")
    assert found is not None
    assert (found.version, len(found.changes)) == (2, 1)
    await store.write(Batch(GROUP, trial_events=trial_events(again)))
    found = await store.trial_recorded("t")
    assert found is not None
    assert (found.version, found.begun_at) == (1, START + 70_000)
    assert [change.severity for change in found.changes] == [CRITICAL]
    assert await store.trial_recorded("T?") is None


async def test_what_was_told_meanwhile_is_that_of_the_trials_sensors(store: Store) -> None:
    """In the order of time, from the first millisecond to the last that are asked for."""
    told = [event("a", WARN, NORMAL, 5), event("b", WARN, NORMAL, 6), event("a", NORMAL, WARN, 7)]
    late = event("a", CRITICAL, NORMAL, 8)
    await store.write(Batch(GROUP, events=events(*told, late)))
    await store.write(Batch(GROUP, trial_events=trial_events(tried("a", NORMAL, NORMAL))))
    assert await store.trial_told("t", START + 5, START + 7) == [
        SeverityChange("a", START + 5, WARN, NORMAL, "critical_range"),
        SeverityChange("a", START + 7, NORMAL, WARN, "recovered"),
    ]
    assert await store.trial_told("other", START, START + 9) == []
