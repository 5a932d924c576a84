"""The silences, found by a sensor's fields: a site may have thousands, of which few concern one sensor."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from streamproc.core.attention.times import in_force_until
from streamproc.records import SensorEntry
from streamproc.records.alerting import SilenceEntry

#: What a silence may name of sensors, the narrowest first.
FIELDS = ("sensor", "device", "kind", "site", "tenant")


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
            field = next((name for name in FIELDS if getattr(entry, name)), "")
            if field or entry.all_sensors:  # one that names nothing by mistake silences nobody
                self._by_field[field, _named(entry, field)].append(entry)

    def __bool__(self) -> bool:
        return bool(self._by_field)

    def hush(self, sensor: str, entry: SensorEntry | None, severity: int, at_ms: int) -> Hush | None:
        """What keeps this severity of a sensor back at this time: of several silences the one that lasts longest.

        Of those that last as long it is the first by its id.
        """
        return next(iter(self.hushes(sensor, entry, severity, at_ms)), None)

    def hushes(self, sensor: str, entry: SensorEntry | None, severity: int, at_ms: int) -> list[Hush]:
        """All that keep this severity of a sensor back at this time, the one that lasts longest first, then by id."""
        found = (
            Hush(silence, until)
            for silence in self._of(sensor, entry)
            if severity <= silence.up_to and (until := in_force_until(silence, at_ms)) is not None
        )
        return sorted(found, key=lambda hush: (-hush.until, hush.silence.silence))

    def _of(self, sensor: str, entry: SensorEntry | None) -> Iterator[SilenceEntry]:
        """The silences that are for a sensor."""
        if not self._by_field:
            return
        for place in [("", ""), *_has(sensor, entry).items()]:
            yield from (
                silence for silence in self._by_field.get(place, ()) if covers(silence, sensor, entry)
            )


def covers(silence: SilenceEntry, sensor: str, entry: SensorEntry | None) -> bool:
    """Whether a silence is for a sensor, whatever the case of names: the sensor has all that it names, or it is for all.

    A name that is empty is none.

    >>> covers(SilenceEntry("s", site="north", kind="pump"), "a", SensorEntry("a", site="North", kind="Pump"))
    True
    >>> covers(SilenceEntry("s"), "a", None), covers(SilenceEntry("s", all_sensors=True), "a", None)
    (False, True)
    """
    wanted = {field: name for field in FIELDS if (name := _named(silence, field))}
    has = _has(sensor, entry) if wanted else {}
    return all(has.get(field) == name for field, name in wanted.items()) if wanted else silence.all_sensors


def _has(sensor: str, entry: SensorEntry | None) -> dict[str, str]:
    """What a sensor has of the fields, in lower case."""
    has = {field: (getattr(entry, field) or "").lower() for field in FIELDS[1:] if entry}
    return {"sensor": sensor.lower()} | has


def _named(silence: SilenceEntry, field: str) -> str:
    """What a silence says of a field, in lower case; names differ by more than their case."""
    return (getattr(silence, field) or "").lower() if field else ""
