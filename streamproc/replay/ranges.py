"""The registry's edits with other ranges for some sensors, to see what these would have told."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from streamproc.core.registry import DeviceName, DocumentEdit, Edit, RegistryLog
from streamproc.records import SensorEntry


class Overlaid(RegistryLog):
    """The edits of a log, but some sensors have one entry at all times.

    An entry without a device keeps its sensor's in the log: where its readings belong is no question of ranges.

    >>> log = RegistryLog()
    >>> log.append(0, 1_000, "a", SensorEntry("a", device="d"))
    >>> entry = Overlaid(log, [SensorEntry("a", name="other")]).as_of(0)["a"]
    >>> entry.name, entry.device
    ('other', 'd')
    """

    def __init__(self, log: RegistryLog, entries: Iterable[SensorEntry]) -> None:
        super().__init__()
        #: The log itself: which rows there should be is no question of ranges.
        self.original = log
        for edit in log.all_between(0, log.position):
            match edit:
                case Edit():
                    self.append(*edit)
                case DocumentEdit():
                    self.append_document(*edit)
                case DeviceName():
                    self.append_device(*edit)
        self.advance(log.position)
        known = log.as_of(log.position)
        self._fixed = {entry.sensor: _placed(entry, known.get(entry.sensor)) for entry in entries}

    def between(self, begin: int, end: int) -> list[Edit]:
        """The edits of other sensors from one position to another."""
        return [edit for edit in super().between(begin, end) if edit.sensor not in self._fixed]

    def as_of(self, position: int) -> dict[str, SensorEntry]:
        """Each sensor's entry as of a position."""
        return super().as_of(position) | self._fixed


def _placed(entry: SensorEntry, known: SensorEntry | None) -> SensorEntry:
    return replace(entry, device=known.device) if known and entry.device is None else entry
