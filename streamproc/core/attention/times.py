"""When a silence is in force: from its begin to its end and, if it is weekly, only in its weekly times."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from streamproc.records.alerting import SilenceEntry, Weekly

#: Later than any time: an int64 holds it, and what is added to it.
FAR = 2**61
#: Times beyond these have no date.
_FIRST_MS, _LAST_MS = 86_400_000, 253_402_000_000_000
_DAY_MINUTES = 1_440


def in_force_until(entry: SilenceEntry, at_ms: int) -> int | None:
    """Until when a silence is in force that is so at this time (ms), FAR without an end; None where it is not.

    >>> in_force_until(SilenceEntry("s", begin=10, end=20), 10)
    20
    >>> in_force_until(SilenceEntry("s", begin=10, end=20), 20) is None
    True
    """
    begin = -FAR if entry.begin is None else entry.begin
    end = FAR if entry.end is None else entry.end
    if not begin <= at_ms < end:
        return None
    if entry.weekly is None:
        return end
    until = _weekly_until(entry.weekly, at_ms)
    return None if until is None else min(until, end)


def _weekly_until(weekly: Weekly, at_ms: int) -> int | None:
    """The end of the occurrence that this time lies in, of several the latest."""
    zone, clock = zone_of(weekly.zone), clock_of(weekly.at)
    if zone is None or clock is None or not _FIRST_MS <= at_ms <= _LAST_MS:
        return None
    today = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(zone).date()
    found = None
    # One that began so many days ago may still last; the day's own begins today.
    for back in range(weekly.minutes // _DAY_MINUTES + 2):
        day = today - timedelta(days=back)
        if day.weekday() not in weekly.days:
            continue
        # By the clock on the wall: 22:00 and eight hours is 06:00, also where an hour is lost or comes twice in between.
        begins = datetime.combine(day, clock)
        begin, end = (_ms(wall, zone) for wall in (begins, begins + timedelta(minutes=weekly.minutes)))
        if end <= begin:  # it begins in an hour that is left out, and so later than it would end
            end = begin + 60_000 * weekly.minutes
        if begin <= at_ms < end:
            found = end if found is None else max(found, end)
    return found


def zone_of(name: str) -> ZoneInfo | None:
    """The zone of this IANA name; None where this machine does not know it.

    >>> zone_of("Nowhere/Land") is None
    True
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def clock_of(text: str) -> time | None:
    """A time of day as "22:00"; None where it is none.

    >>> clock_of("22:05"), clock_of("24:00")
    (datetime.time(22, 5), None)
    """
    hours, _, minutes = text.partition(":")
    try:
        return time(int(hours), int(minutes))
    except ValueError:
        return None


def _ms(wall: datetime, zone: ZoneInfo) -> int:
    return round(wall.replace(tzinfo=zone).timestamp() * 1000)
