"""When a job is due: by the schedule, its zone, and its runs so far. No clock, no database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.jobs.schedule import MOST_TRIES, Due, Schedule, due, of_schedule, pause_ms
from streamproc.store.job_runs import Outcome, Run

DAILY = Schedule("0 4 * * *")
DAY = 86_400_000


def ms(text: str, zone: str = "UTC") -> int:
    """A time of a zone."""
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


SUNDAY = ms("2026-11-22T04:00")
BEFORE = SUNDAY - DAY


def run(outcome: Outcome, due_at: int = SUNDAY, attempt: int = 1, **other: Any) -> Run:
    """A run of the daily schedule that began when it was due and took a minute."""
    known: dict[str, Any] = {
        "started_by": "schedule",
        "schedule": str(DAILY),
        "lease_until": due_at + 60_000,
        "began_at": due_at,
        "ended_at": None if outcome == "running" else due_at + 60_000,
    } | other
    return Run(1, "job", due_at=due_at, attempt=attempt, outcome=outcome, counts={}, last_error=None, **known)


def test_the_references_cleanup_is_on_sunday_at_four() -> None:
    """In the zone that is set."""
    schedule = Schedule("0 4 * * 0", "America/Bogota")
    now = ms("2026-11-22T10:00", "America/Bogota")
    assert schedule.last(now) == ms("2026-11-22T04:00", "America/Bogota")
    assert schedule.next(now) == ms("2026-11-29T04:00", "America/Bogota")
    assert schedule.local(schedule.next(now)).isoformat() == "2026-11-29T04:00:00-05:00"


def test_a_time_is_due_from_its_first_millisecond_on() -> None:
    """And comes next until the one before it."""
    assert (DAILY.last(SUNDAY - 1), DAILY.next(SUNDAY - 1)) == (BEFORE, SUNDAY)
    assert (DAILY.last(SUNDAY), DAILY.next(SUNDAY)) == (SUNDAY, SUNDAY + DAY)


@pytest.mark.parametrize("expression", ["30 2 * * *", "0 3 * * *"])
@pytest.mark.parametrize(
    ("zone", "first"),
    [
        ("Europe/Madrid", "2026-03-28"),
        ("Europe/Madrid", "2026-10-24"),
        ("America/New_York", "2026-03-07"),
        ("America/New_York", "2026-10-31"),
        ("Australia/Lord_Howe", "2026-04-04"),
    ],
)
def test_each_day_has_one_run_where_clocks_change(expression: str, zone: str, first: str) -> None:
    """Looked at each quarter of an hour through the days around it: none twice, none left out."""
    schedule = Schedule(expression, zone)
    begin = datetime.fromisoformat(first).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    runs, newest = 0, schedule.last(round(begin.timestamp() * 1000))
    for minutes in range(0, 3 * 24 * 60, 15):
        at = schedule.last(round((begin + timedelta(minutes=minutes)).timestamp() * 1000))
        runs += at > newest
        newest = max(at, newest)
    assert runs == 3


@given(
    now=st.integers(ms("2024-01-01"), ms("2030-01-01")),
    expression=st.sampled_from(
        ["* * * * *", "*/15 2 * * *", "0 4 * * 0", "0 3 * * 1", "30 6 1 * *", "0 0 29 2 *"]
    ),
    zone=st.sampled_from(["UTC", "Asia/Kolkata", "America/Santiago", "Europe/Madrid"]),
)
def test_the_last_is_not_after_now_and_the_next_is(now: int, expression: str, zone: str) -> None:
    """Whatever the schedule."""
    schedule = Schedule(expression, zone)
    assert schedule.last(now) <= now < schedule.next(now)


def test_a_job_that_is_not_enrolled_is_not_due() -> None:
    """Nor one whose schedule is another by now: what was due before it was set is not made up."""
    assert due(DAILY, [], SUNDAY) is None
    assert due(DAILY, [run("done", schedule="0 5 * * * UTC"), run("done", BEFORE)], SUNDAY) is None
    assert of_schedule(DAILY, [run("failed", started_by="command", schedule="")]) == []


def test_what_was_missed_is_made_up_once() -> None:
    """However many times were: of a process that was down for weeks the newest alone."""
    for before in (run("enrolled", BEFORE - 30 * DAY, 0), run("done", BEFORE)):
        assert due(DAILY, [before], SUNDAY - 1) == (None if before.due_at == BEFORE else Due(BEFORE, 1))
        assert due(DAILY, [before], SUNDAY) == Due(SUNDAY, 1)
        assert due(DAILY, [run("done"), before], SUNDAY + 1) is None


def test_a_run_that_goes_on_is_left_alone_until_its_lease_is_over() -> None:
    """Then it is tried again, at once."""
    assert due(DAILY, [run("running")], SUNDAY + 59_999) is None
    assert due(DAILY, [run("running")], SUNDAY + 60_000) == Due(SUNDAY, 2)


def test_what_failed_is_tried_again_after_a_pause_and_then_given_up() -> None:
    """Until it is due again."""
    runs: list[Run] = []
    for attempt in range(1, MOST_TRIES + 1):
        runs.insert(0, run("failed", attempt=attempt))
        again = SUNDAY + 60_000 + pause_ms(attempt)
        assert due(DAILY, runs, again - 1) is None
        wanted = Due(SUNDAY, attempt + 1) if attempt < MOST_TRIES else None
        assert due(DAILY, runs, again) == wanted
    assert due(DAILY, runs, SUNDAY + DAY) == Due(SUNDAY + DAY, 1)


def test_what_its_process_took_with_it_counts_as_a_try_and_a_stop_does_not() -> None:
    """A job that ends its process each time is left alone at last; one that restarts have stopped is gone on with."""
    lost = [run("lost", attempt=attempt) for attempt in range(MOST_TRIES, 0, -1)]
    assert due(DAILY, lost, SUNDAY + 70_000) is None
    assert due(DAILY, lost[1:], SUNDAY + 70_000) == Due(SUNDAY, MOST_TRIES)
    hung = [run("running", attempt=MOST_TRIES), *lost[1:]]
    assert due(DAILY, hung, SUNDAY + 70_000) is None
    stopped = [run("stopped", attempt=attempt) for attempt in range(9, 0, -1)]
    assert due(DAILY, stopped, SUNDAY + 70_000) == Due(SUNDAY, 10)


def test_runs_by_command_say_nothing_of_the_schedule() -> None:
    """What somebody has run at noon, the night runs all the same."""
    by_hand = replace(run("done", SUNDAY + 3), started_by="command", schedule="")
    assert due(DAILY, [by_hand, run("done", BEFORE)], SUNDAY + 4) == Due(SUNDAY, 1)
