"""Times as people write and read them: "2h", "2026-11-22T14:00", "mon-fri 22:00 8h"."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from streamproc.core.codec import TS_LIMIT, to_ms
from streamproc.errors import RegistryError
from streamproc.records.alerting import Weekly
from streamproc.registry.checks import LAST_MS

_UNITS = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000}
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_PARTS = re.compile(r"(\d{1,9})([wdhms])")
_LENGTH = re.compile(rf"(?:{_PARTS.pattern})+")
_NUMBER = re.compile(r"\d+\.?\d*")
_WORDS = 3


def length_ms(text: str) -> int:
    """A length of time such as 90s, 15m, 2h, 1h30m, 1d or 1w, in ms; raises RegistryError.

    >>> length_ms("1h30m"), length_ms("2d")
    (5400000, 172800000)
    """
    if not _LENGTH.fullmatch(text):
        raise RegistryError(f"{text!r} is no length of time: write it as 90s, 15m, 2h, 1h30m, 1d or 1w")
    found = sum(int(number) * _UNITS[unit] for number, unit in _PARTS.findall(text))
    if not 0 < found <= LAST_MS:
        raise RegistryError(f"{text!r} is {'no time at all' if not found else 'too long'}")
    return found


def length_text(ms: int) -> str:
    """A length of time as `length_ms` reads it.

    >>> length_text(5_400_000), length_text(0)
    ('1h30m', '0s')
    """
    told = ""
    for unit, size in _UNITS.items():
        count, ms = divmod(ms, size)
        told += f"{count}{unit}" if count else ""
    return told or "0s"


def moment_ms(text: str, zone: str = "UTC") -> int:
    """A date and time in ISO 8601, of the zone where it names none itself, in ms; raises RegistryError.

    >>> moment_ms("2026-11-22T14:00+01:00") == moment_ms("2026-11-22 14:00", "Europe/Madrid")
    True
    """
    try:
        found = datetime.fromisoformat(text)
        placed = found if found.tzinfo else found.replace(tzinfo=ZoneInfo(zone))
        return round(placed.timestamp() * 1000)
    except (ZoneInfoNotFoundError, OSError):
        raise RegistryError(
            f"the zone {zone!r} is not known: give an IANA name such as Europe/Madrid"
        ) from None
    except (ValueError, OverflowError):
        raise RegistryError(
            f"{text!r} is no date and time: write it as 2026-11-22T14:00, of --zone, or 2026-11-22T14:00+01:00"
        ) from None


def moment_or_ago(text: str, now: int) -> int:
    """A time in ISO 8601 (UTC where it names no zone), as epoch seconds, or how long ago it was, in ms; raises RegistryError.

    >>> moment_or_ago("1d", 86_400_000), moment_or_ago("1970-01-02", 0), moment_or_ago("1.5", 0)
    (0, 86400000, 1500)
    """
    if _LENGTH.fullmatch(text):
        return now - length_ms(text)
    with suppress(ValueError):
        if not _NUMBER.fullmatch(text):
            return to_ms(text)
        if float(text) <= TS_LIMIT:  # else it is in milliseconds, say
            return to_ms(float(text))
    raise RegistryError(
        f"{text!r} is no time from 1970 to 2100: write 2026-11-22T14:00 (UTC), epoch seconds, or 15m, 2h or 7d ago"
    )


def moment_text(ms: int | None) -> str:
    """A time as people read it, UTC.

    >>> moment_text(0), moment_text(None)
    ('1970-01-01 00:00:00Z', '')
    """
    return "" if ms is None else f"{datetime.fromtimestamp(ms // 1000, UTC):%Y-%m-%d %H:%M:%SZ}"


def weekly_of(text: str, zone: str = "UTC") -> Weekly:
    """Days, time of day and length, such as "mon-fri 22:00 8h"; "daily" is all days. Raises RegistryError.

    >>> weekly_of("mon,fri-sun 22:00 8h", "Europe/Madrid")
    Weekly(days=(0, 4, 5, 6), at='22:00', minutes=480, zone='Europe/Madrid')
    """
    words = text.lower().split()
    if len(words) != _WORDS:
        raise RegistryError(f'{text!r}: write days, time and length, as "mon-fri 22:00 8h"')
    minutes, rest = divmod(length_ms(words[2]), _UNITS["m"])
    if rest:
        raise RegistryError(f"{text!r}: its length must be whole minutes")
    return Weekly(_days(words[0]), words[1].zfill(len("00:00")), minutes, zone)


def _days(text: str) -> tuple[int, ...]:
    if text == "daily":
        return tuple(range(len(_DAYS)))
    found = set[int]()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first not in _DAYS or (last or first) not in _DAYS:
            raise RegistryError(
                f"{part!r} are no days: write them as mon-fri, or sat,sun, or daily, of {' '.join(_DAYS)}"
            )
        begin, end = _DAYS.index(first), _DAYS.index(last or first)
        found |= {day % 7 for day in range(begin, end + 1 if end >= begin else end + 8)}
    return tuple(sorted(found))


def weekly_text(weekly: Weekly) -> str:
    """The same as people read it.

    >>> weekly_text(Weekly((0, 4, 5, 6), "22:00", 480, "Europe/Madrid"))
    'mon,fri-sun 22:00 8h Europe/Madrid'
    """
    runs: list[list[int]] = []
    for day in sorted(weekly.days):
        if runs and runs[-1][-1] == day - 1:
            runs[-1].append(day)
        else:
            runs.append([day])
    words = [_DAYS[run[0]] + (f"-{_DAYS[run[-1]]}" if len(run) > 1 else "") for run in runs]
    days = "daily" if len(weekly.days) == len(_DAYS) else ",".join(words)
    return f"{days} {weekly.at} {length_text(weekly.minutes * _UNITS['m'])} {weekly.zone}"
