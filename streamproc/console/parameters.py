"""The parameters of a URL; an unknown or wrong one raises a Problem that names it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

from streamproc.console.problems import Problem
from streamproc.core.codec import to_ms
from streamproc.records import WINDOW_SIZES_MS
from streamproc.store.sensor_status import SeverityName
from streamproc.store.views import EventPlace

#: The worst first: the order of the list of sensors.
SEVERITIES: tuple[SeverityName, ...] = ("CRITICAL", "WARN", "NORMAL")
SIZES = {f"{size // 1000}s": size for size in WINDOW_SIZES_MS}
#: Rows of a page: what a screen shows, and at most what is made and sent within some 50 ms.
PAGE, LARGEST_PAGE = 100, 500
#: Longest text of a parameter: a sensor's name may have 128 characters, and no more of it is ever looked for.
LONGEST = 256
#: Sensors whose windows one client may follow: those that it shows.
MOST_FOLLOWED = 100

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: A number that a database can have, and milliseconds to the year 9999.
_event_place = re.compile(r"(\d{1,18})(?::(\d{1,14}))?")
_places = re.compile(r"\d{1,9}:\d{1,18}(,\d{1,9}:\d{1,18})*")
_SENSORS_CURSOR = re.compile(rf"({'|'.join(SEVERITIES)}):(.*)", re.DOTALL)

Query = Mapping[str, str]


def only(query: Query, *names: str) -> None:
    """Raise a Problem for any parameter other than these: a misspelt one would have no effect."""
    for name, value in query.items():
        if name not in names:
            known = ", ".join(f"`{each}`" for each in names) or "none"
            raise Problem(
                "parameter", f"there is no parameter `{name[:LONGEST]}` here; there are {known}", field=name
            )
        if len(value) > LONGEST:
            raise Problem("parameter", f"`{name}` is longer than {LONGEST} characters", field=name)


def limit(query: Query) -> int:
    """How many rows at most."""
    text = query.get("limit", str(PAGE))
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(LARGEST_PAGE))):
        raise _wrong("limit", f"a number from 1 to {LARGEST_PAGE}")
    number = int(text)
    if not 1 <= number <= LARGEST_PAGE:
        raise _wrong("limit", f"a number from 1 to {LARGEST_PAGE}")
    return number


def severity(query: Query) -> SeverityName | None:
    """The severity that is asked for, in letters of any case."""
    wanted = query.get("severity")
    for name in get_args(SeverityName):
        if wanted is not None and wanted.upper() == name:
            found: SeverityName = name
            return found
    if wanted:
        raise _wrong("severity", "NORMAL, WARN or CRITICAL")
    return None


def size_ms(query: Query) -> int:
    """The size of windows."""
    found = SIZES.get(query.get("size", "1s"))
    if found is None:
        raise _wrong("size", ", ".join(SIZES))
    return found


def time(query: Query, name: Literal["since", "until", "before"]) -> datetime | None:
    """A time, in epoch seconds or as ISO 8601."""
    text = query.get(name)
    if not text:
        return None
    try:
        try:
            stamp: float | str = float(text)
        except ValueError:
            stamp = text
        if isinstance(stamp, float) and not 0 <= stamp < _LAST_SECOND:
            raise ValueError  # noqa: TRY301  # as any other text that is no time
        return _EPOCH + timedelta(milliseconds=to_ms(stamp))
    except (ValueError, OverflowError):
        wanted = "epoch seconds, or ISO 8601 such as 2026-11-21T14:19:26Z (a `+` is written %2B in a URL)"
        raise _wrong(name, wanted) from None


#: 2100-01-01, as the codec has it for readings.
_LAST_SECOND = 4_102_444_800.0


def text(query: Query, name: str) -> str | None:
    """A text, None where it is empty."""
    return query.get(name, "").strip() or None


def sensors_cursor(query: Query) -> tuple[SeverityName, str] | None:
    """Where a list of sensors continues: severity and sensor."""
    given = query.get("cursor")
    if not given:
        return None
    found = _SENSORS_CURSOR.fullmatch(given)
    if found is None:
        raise _wrong("cursor", "what `next` said")
    return SEVERITIES[SEVERITIES.index(found[1])], found[2]


def events_cursor(query: Query) -> EventPlace | None:
    """Where a list of events continues."""
    given = query.get("cursor")
    if not given:
        return None
    found = _event_place.fullmatch(given)
    if found is None:
        raise _wrong("cursor", "what `next` said")
    at = _EPOCH + timedelta(milliseconds=int(found[2])) if found[2] else None
    return EventPlace(int(found[1]), at)


def told(place: EventPlace | None) -> str | None:
    """The cursor that leads to a place.

    >>> told(EventPlace(7)), told(EventPlace(7, _EPOCH + timedelta(milliseconds=5)))
    ('7', '7:5')
    """
    if place is None:
        return None
    return (
        f"{place.number}"
        if place.at is None
        else f"{place.number}:{(place.at - _EPOCH) // timedelta(milliseconds=1)}"
    )


def places(header: str | None) -> dict[int, int] | None:
    """Where a stream continues, by `Last-Event-ID`: the next offset of each partition; None if it says nothing useful.

    >>> places("0:17,1:5"), places("x")
    ({0: 17, 1: 5}, None)
    """
    if header is None or not _places.fullmatch(header):
        return None
    pairs = (pair.split(":") for pair in header.split(","))
    return {int(partition): int(offset) for partition, offset in pairs}


def _wrong(name: str, wanted: str) -> Problem:
    return Problem("parameter", f"`{name}` must be {wanted}", field=name)
