"""Times in SQL Server's form: in UTC, without a zone."""

from __future__ import annotations

from datetime import datetime, timedelta

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # the database's own times are UTC without a zone
_MS = timedelta(milliseconds=1)


def time_of(ms: int) -> datetime:
    """The database's time.

    >>> time_of(1_700_000_000_001)
    datetime.datetime(2023, 11, 14, 22, 13, 20, 1000)
    """
    return _EPOCH + ms * _MS


def ms_of(time: datetime) -> int:
    """Milliseconds, to the nearest: other programs' times have microseconds.

    >>> ms_of(datetime(2023, 11, 14, 22, 13, 20, 1500))
    1700000000002
    """
    return (time - _EPOCH + _MS / 2) // _MS
