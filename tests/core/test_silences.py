"""When silences are in force, and which of them keeps a sensor back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from streamproc.core.attention.silences import Silences
from streamproc.core.attention.times import FAR, in_force_until
from streamproc.records import SensorEntry
from streamproc.records.alerting import SilenceEntry, Weekly
from tests.core.oracle import NOW


@pytest.mark.parametrize(
    ("wall", "until"),
    [
        ("2026-03-28 21:59", None),
        ("2026-03-28 22:00", "2026-03-29 06:00"),
        ("2026-03-29 05:59", "2026-03-29 06:00"),
        ("2026-03-29 06:00", None),
        ("2026-10-25 03:00", "2026-10-25 06:00"),
    ],
)
def test_weekly_times_are_by_the_clock_on_the_wall(wall: str, until: str | None) -> None:
    """Eight hours from 22:00 end at 06:00, in the nights in which clocks are changed as well."""
    entry = SilenceEntry("s", weekly=Weekly((5,), "22:00", 480, "Europe/Madrid"))
    found = in_force_until(entry, _madrid(wall))
    assert found == (None if until is None else _madrid(until))


@pytest.mark.parametrize(("minutes", "until"), [(30, "04:00"), (60, "04:30"), (120, "04:30")])
def test_a_time_that_is_left_out_is_later_and_not_lost(minutes: int, until: str) -> None:
    """02:30 is 03:30 where clocks go forward at two; what would be over by then lasts as long as it always does."""
    entry = SilenceEntry("s", weekly=Weekly((6,), "02:30", minutes, "Europe/Madrid"))
    assert in_force_until(entry, _madrid("2026-03-29 03:29")) is None
    assert in_force_until(entry, _madrid("2026-03-29 03:30")) == _madrid(f"2026-03-29 {until}")


def _madrid(wall: str) -> int:
    """Two in the morning is when clocks change; these are none of the hours that are lost or come twice."""
    at = datetime.fromisoformat(wall).replace(tzinfo=UTC)
    summer = datetime(2026, 3, 29, 2, tzinfo=UTC) <= at < datetime(2026, 10, 25, 3, tzinfo=UTC)
    return round(1_000 * (at - timedelta(hours=2 if summer else 1)).timestamp())


def test_a_silence_whose_zone_or_time_is_unknown_is_not_in_force() -> None:
    """People are told rather than not; the registry refuses such a silence."""
    for weekly in (Weekly((0,), "25:00", 10), Weekly(tuple(range(7)), "00:00", 1_440, "Mars/Base")):
        assert in_force_until(SilenceEntry("s", weekly=weekly), NOW) is None
    always = SilenceEntry("s", weekly=Weekly(tuple(range(7)), "00:00", 1_440))
    assert in_force_until(always, NOW) == NOW // 86_400_000 * 86_400_000 + 86_400_000
    assert in_force_until(SilenceEntry("s"), NOW) == FAR


def test_of_several_silences_the_one_that_lasts_longest_counts() -> None:
    """A sensor must have all that a silence names."""
    pump = SensorEntry("a", device="D", kind="Pump", site="north")
    made = Silences(
        [
            SilenceEntry("1", device="d", end=5),
            SilenceEntry("2", kind="pump", site="north", end=9, maintenance=True),
            SilenceEntry("3", kind="pump", site="south"),
            SilenceEntry("4", tenant="acme"),
        ]
    )
    hush = made.hush("a", pump, 2, 4)
    assert hush is not None
    assert (hush.silence.silence, hush.until) == ("2", 9)
    assert made.hush("a", None, 2, 4) is None


def test_one_that_names_nothing_silences_all_or_nobody() -> None:
    """All where it says so; nobody where somebody has left it out."""
    pump = SensorEntry("a", kind="pump")
    assert Silences([SilenceEntry("s")]).hush("a", pump, 1, 0) is None
    assert Silences([SilenceEntry("s", all_sensors=True)]).hush("a", pump, 1, 0) is not None


def test_of_silences_that_last_as_long_the_first_by_its_id_counts() -> None:
    """Whatever they name, and in whatever order they came."""
    pump = SensorEntry("a", kind="pump")
    first, second = SilenceEntry("a", kind="pump", maintenance=True), SilenceEntry("b", all_sensors=True)
    for order in ([first, second], [second, first]):
        hush = Silences(order).hush("a", pump, 1, 0)
        assert hush is not None
        assert hush.silence == first
