"""The registry's edits in order, so that every record is judged by the registry as of its place in the stream.

A position is an offset on the topic `registry`: the registry as of a position consists of all edits before it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import NamedTuple

from streamproc.core.chunk import Chunk
from streamproc.records import ActionEntry, SensorEntry
from streamproc.records.alerting import Document

#: Of edits older than this beside the newest one, only each sensor's last is kept: no record that is still on `readings`
#: (7 days), and no state that it could be replayed from (8 days), asks for the others. topics.yaml has the same bound.
KEEP_MS = 8 * 86_400_000
#: Edits are looked through for those to forget when they have doubled, and not while they are as few as this.
_FEW = 10_000

_offset_of = attrgetter("offset")
#: Where an edit has the name of what it is of.
_NAME = 2


#: Recommended actions by kind of sensor and cause.
Actions = Mapping[tuple[str, str], ActionEntry]


class Edit(NamedTuple):
    """One record of the topic `registry`: the entry that a sensor has from here on, None where it is taken away."""

    offset: int
    timestamp: int
    sensor: str
    entry: SensorEntry | None


class DocumentEdit(NamedTuple):
    """One record that puts something else than a sensor or a device, or takes it away; `key` is the record's."""

    offset: int
    timestamp: int
    key: str
    entry: Document | None


class DeviceName(NamedTuple):
    """One record that gives a device another name, or takes it away (None)."""

    offset: int
    timestamp: int
    device: str
    entry: str | None


class RegistryLog:
    """All edits so far; `position` is the offset that comes after them.

    >>> log = RegistryLog()
    >>> log.append(0, 1_000, "a", SensorEntry("a"))
    >>> log.append(1, 2_000, "a", None)
    >>> list(log.as_of(1)), list(log.as_of(2)), log.position_at(1_999)
    (['a'], [], 1)
    """

    def __init__(self) -> None:
        self.position = 0
        #: Sensors' and documents' in one order: a position is found by the time of either.
        self._edits: list[Edit | DocumentEdit | DeviceName] = []
        #: The documents' among them, which are few.
        self._documents: list[DocumentEdit] = []
        #: The devices' names among them, and those that they have now.
        self._names: list[DeviceName] = []
        self._called: dict[str, str] = {}
        #: The greatest timestamp up to each edit: a broker's clock may step back, a position does not.
        self._clocks: list[int] = []
        self._newest: dict[str, SensorEntry] = {}
        self._room = _FEW

    def __len__(self) -> int:
        return len(self._edits)

    def append(self, offset: int, timestamp: int, sensor: str, entry: SensorEntry | None) -> None:
        """Add the next edit; raises ValueError where its offset lies before `position`."""
        if offset < self.position:
            raise ValueError(f"offset {offset} lies before position {self.position}")
        known = self._newest.get(sensor)
        if entry is None:
            self._newest.pop(sensor, None)
        elif entry == known:
            entry = known  # an import sends entries that have not changed, too: they take no room twice
        else:
            self._newest[sensor] = entry
        self._add(Edit(offset, timestamp, sensor, entry))

    def append_document(self, offset: int, timestamp: int, key: str, entry: Document | None) -> None:
        """Add the next edit, of a document by its key; raises ValueError where its offset lies before `position`."""
        if offset < self.position:
            raise ValueError(f"offset {offset} lies before position {self.position}")
        edit = DocumentEdit(offset, timestamp, key, entry)
        self._documents.append(edit)
        self._add(edit)

    def append_device(self, offset: int, timestamp: int, device: str, name: str | None) -> None:
        """Add the next edit, of a device, of which only its name says anything of readings; raises as the others do."""
        if offset < self.position:
            raise ValueError(f"offset {offset} lies before position {self.position}")
        if name == self._called.get(device):
            self.advance(offset + 1)
            return
        if name is None:
            del self._called[device]
        else:
            self._called[device] = name
        edit = DeviceName(offset, timestamp, device, name)
        self._names.append(edit)
        self._add(edit)

    def _add(self, edit: Edit | DocumentEdit | DeviceName) -> None:
        self._edits.append(edit)
        self._clocks.append(max(edit.timestamp, self._clocks[-1]) if self._clocks else edit.timestamp)
        self.position = edit.offset + 1
        if len(self._edits) > self._room:
            self._forget()

    def advance(self, position: int) -> None:
        """Take in that there is no further edit before this position: what lay there was none, or is gone."""
        self.position = max(self.position, position)

    def between(self, begin: int, end: int) -> list[Edit]:
        """The edits of sensors from one position to another, in their order."""
        return [edit for edit in self.all_between(begin, end) if isinstance(edit, Edit)]

    def all_between(self, begin: int, end: int) -> list[Edit | DocumentEdit | DeviceName]:
        """The edits of sensors, of documents and of devices' names from one position to another, in their order."""
        return self._edits[self._index(begin) : self._index(end)]

    def as_of(self, position: int) -> dict[str, SensorEntry]:
        """Each sensor's entry as of a position."""
        entries: dict[str, SensorEntry] = {}
        for edit in self._edits[: self._index(position)]:
            if not isinstance(edit, Edit):
                continue
            if edit.entry is None:
                entries.pop(edit.sensor, None)
            else:
                entries[edit.sensor] = edit.entry
        return entries

    def documents_between(self, begin: int, end: int) -> list[DocumentEdit]:
        """The edits of documents from one position to another, in their order."""
        first, last = (bisect_left(self._documents, position, key=_offset_of) for position in (begin, end))
        return self._documents[first:last]

    def documents_as_of(self, position: int) -> dict[str, Document]:
        """Each document as of a position, by its key."""
        by_key = {edit.key: edit.entry for edit in self.documents_between(0, position)}
        return {key: entry for key, entry in by_key.items() if entry is not None}

    def names_between(self, begin: int, end: int) -> dict[str, str | None]:
        """The names that devices get from one position to another, None where one has none any more."""
        first, last = (bisect_left(self._names, position, key=_offset_of) for position in (begin, end))
        return {edit.device: edit.entry for edit in self._names[first:last]}

    def position_at(self, timestamp_ms: int) -> int:
        """The position at a time of the broker's clock, all edits of that millisecond included."""
        index = bisect_right(self._clocks, timestamp_ms)
        return self._edits[index].offset if index < len(self._edits) else self.position

    def begin(self, position: int, timestamp_ms: int) -> int:
        """The position that a partition's next record is judged by, which was judged as of this one so far (-1: of none).

        Without one it is that at the record's own time; so it is where the topic was made anew, and does not reach as far.
        """
        return position if 0 <= position <= self.position else self.position_at(timestamp_ms)

    def _index(self, position: int) -> int:
        return bisect_left(self._edits, position, key=_offset_of)

    def _forget(self) -> None:
        """Let go of edits that were superseded KEEP_MS ago."""
        old = self._index(self.position_at(self._clocks[-1] - KEEP_MS))
        last = {(type(edit), edit[_NAME]): index for index, edit in enumerate(self._edits[:old])}
        kept = [index for index in sorted(last.values()) if self._edits[index].entry is not None]
        self._clocks = [self._clocks[index] for index in kept] + self._clocks[old:]
        self._edits = [self._edits[index] for index in kept] + self._edits[old:]
        self._documents = [edit for edit in self._edits if isinstance(edit, DocumentEdit)]
        self._names = [edit for edit in self._edits if isinstance(edit, DeviceName)]
        self._room = max(2 * len(self._edits), _FEW)


def actions_of(documents: Mapping[str, Document]) -> Actions:
    """The recommended actions among documents."""
    found = (entry for entry in documents.values() if isinstance(entry, ActionEntry))
    return {(entry.kind, entry.cause): entry for entry in found}


def parts(chunk: Chunk, position: int, registry: RegistryLog) -> Iterator[tuple[Chunk, int]]:
    """The chunk, cut before each record that moves its partition's position on, each part with what it is judged by.

    A record that names a position which the registry did not have at the record's own time is none of the engine's, and
    ignored: whether it is so never changes, however much of the registry is read later. It must have been read as far as the
    positions that the chunk names, if it reaches that far.
    """
    begin = 0
    for index, named in chunk.edits():
        if not position < named <= registry.position_at(int(chunk.timestamps[index])):
            continue
        if index > begin:
            yield chunk.cut(begin, index), position
        begin, position = index, named
    yield (chunk.cut(begin, len(chunk)) if begin else chunk), position
