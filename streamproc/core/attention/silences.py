"""The silences there are, found by what a sensor has: a site may have thousands, and few are for one sensor."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from streamproc.core.attention.times import in_force_until
from streamproc.records import SensorEntry
from streamproc.records.alerting import SilenceEntry

#: What a silence may name, the narrowest first.
_FIELDS = ("sensor", "device", "kind", "site", "tenant")


@dataclass(frozen=True, slots=True)
class Hush:
    """A silence that keeps something back, and until when (ms)."""

    silence: SilenceEntry
    until: int


class Silences:
    """Silences by the narrowest thing that each names.

    >>> made = Silences([SilenceEntry("s1", kind="Pump", begin=5, end=9)])
    >>> pump = SensorEntry("a", kind="pump")
    >>> made.hush("a", pump, 1, 6).until, made.hush("a", pump, 1, 9), made.hush("b", None, 1, 6)
    (9, None, None)
    """

    def __init__(self, entries: Iterable[SilenceEntry] = ()) -> None:
        self._by_field: dict[tuple[str, str], list[SilenceEntry]] = defaultdict(list)
        for entry in sorted(entries, key=lambda entry: entry.silence):
            field = next((name for name in _FIELDS if getattr(entry, name)), "")
            if field or entry.all_sensors:  # one that names nothing by mistake silences nobody
                self._by_field[field, _named(entry, field)].append(entry)

    def __bool__(self) -> bool:
        return bool(self._by_field)

    def hush(self, sensor: str, entry: SensorEntry | None, severity: int, at_ms: int) -> Hush | None:
        """What keeps this severity of a sensor back at this time: of several silences the one that lasts longest.

        Of those that last as long it is the first by its id.
        """
        found = (
            Hush(silence, until)
            for silence in self._of(sensor, entry)
            if severity <= silence.up_to and (until := in_force_until(silence, at_ms)) is not None
        )
        return min(found, key=lambda hush: (-hush.until, hush.silence.silence), default=None)

    def _of(self, sensor: str, entry: SensorEntry | None) -> Iterator[SilenceEntry]:
        """The silences that are for a sensor."""
        has = {"": "", "sensor": sensor.lower()} | {
            field: (getattr(entry, field) or "").lower() for field in _FIELDS[1:] if entry
        }
        for field, name in has.items():
            for silence in self._by_field.get((field, name), ()):
                wanted = {each: _named(silence, each) for each in _FIELDS}
                if all(has.get(each) == value for each, value in wanted.items() if value):
                    yield silence


def _named(silence: SilenceEntry, field: str) -> str:
    """What a silence says of a field, in lower case; names differ by more than their case."""
    return (getattr(silence, field) or "").lower() if field else ""
