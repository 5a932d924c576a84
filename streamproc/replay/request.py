"""What a replay is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from streamproc import __version__
from streamproc.core.checkpoint import FORMAT
from streamproc.core.codec import TS_LIMIT, to_ms
from streamproc.core.identity import content_id
from streamproc.core.predict import MODEL
from streamproc.errors import ReplayError
from streamproc.records import SensorEntry
from streamproc.settings import Settings

#: Enough of the 128 bits to tell the replays of an installation apart in a path and a group's name.
_DIGITS = 12


class Interrupted(Exception):  # noqa: N818  # it is no error
    """The replay was stopped; the text says how to go on."""


@dataclass(frozen=True, slots=True)
class Request:
    """A range of arrival times, [begin_ms, end_ms) (None: up to now), the sensors that count, and what to do.

    `ranges` are entries of the registry that are judged by in place of the recorded ones.
    """

    begin_ms: int
    end_ms: int | None = None
    sensors: tuple[str, ...] | None = None
    apply: bool = False
    ranges: tuple[SensorEntry, ...] = ()

    def identity(self, settings: Settings) -> str:
        """The same for the same replay by the same program and rules: it names the group and the progress."""
        rules = (
            settings.allowed_lateness_ms,
            settings.allowed_skew_ms,
            settings.language,
            settings.horizon,
        )
        sizes = sorted(settings.sink_window_sizes_ms)
        database = (
            settings.database_place if settings.store == "sqlserver" else settings.database_path.absolute()
        )
        place = (settings.bootstrap, settings.topic_prefix, database)
        asked = (self.begin_ms, self.end_ms, self.sensors, self.apply, msgspec.json.encode(self.ranges))
        return content_id("replay", *asked, *rules, sizes, *place, MODEL, FORMAT, __version__)[:_DIGITS]

    def folder(self, settings: Settings) -> Path:
        """Where its progress is kept."""
        return settings.data_dir / "replay" / self.identity(settings)


def moment(text: str) -> int:
    """Epoch milliseconds of ISO 8601 (UTC where it names no zone) or epoch seconds; raises ReplayError.

    >>> moment("2023-11-14T22:13:20.001Z"), moment("1700000000.001")
    (1700000000001, 1700000000001)
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = None
    try:
        return to_ms(text) if seconds is None else _from_seconds(seconds)
    except ValueError as error:
        raise ReplayError(
            f"{text!r} is no time: give ISO 8601, such as 2026-11-21T14:00:00Z, or epoch seconds ({error})"
        ) from None


def _from_seconds(seconds: float) -> int:
    if not 0 <= seconds <= TS_LIMIT:
        raise ValueError("between 1970 and 2100, and in seconds, not milliseconds")
    return to_ms(seconds)
