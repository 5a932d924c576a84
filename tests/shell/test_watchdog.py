"""When a worker is stuck."""

from __future__ import annotations

from streamproc.engine.watchdog import Watchdog


def test_a_backlog_of_which_nothing_is_taken_in_counts() -> None:
    """From when something was taken in last, for each partition by itself."""
    watchdog = Watchdog()
    watchdog.idle_s(0, 10, progressed=0.0, now=1.0)
    assert watchdog.idle_s(0, 10, progressed=5.0, now=65.5) == 60.5
    assert watchdog.idle_s(1, 10, progressed=5.0, now=65.5) == 0.0


def test_time_without_a_backlog_does_not_count() -> None:
    """A broker that was away for longer than the watchdog waits brings records: the worker is not stuck for it."""
    watchdog = Watchdog()
    assert watchdog.idle_s(0, 0, progressed=0.0, now=100.0) == 0.0
    assert watchdog.idle_s(0, 467, progressed=0.0, now=100.2) == 0.0
    assert watchdog.idle_s(0, 467, progressed=0.0, now=110.2) == 10.0
    assert watchdog.idle_s(0, None, progressed=0.0, now=120.0) == 0.0
    assert watchdog.idle_s(0, 1, progressed=0.0, now=130.0) == 0.0
