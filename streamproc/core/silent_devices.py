"""What people are told of devices that are silent as a whole, and when each counts as back.

The first reading of any of its sensors tells that a device is back. But a device that falls silent again soon afterwards
relapses, as a sensor does: each time it must be heard for twice as long without a silence before it counts as back. So people
are told a few times of a device that comes and goes every few minutes, not each time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from streamproc.core.changes import Change, DeviceNotice
from streamproc.core.devices import Past
from streamproc.core.rules.silence import NO_RULE_MS
from streamproc.core.windows import NEVER
from streamproc.records import Severity

#: A device relapses that is heard again for no longer than so many times its shortest rule's time: twice what its return may
#: have to last at most. One that stays for longer has settled.
RELAPSE_TIMES = 16
#: Longest that relapses stretch a return, in the same measure; as for sensors.
DAMPING_LIMIT = 8


class SilentDevice(msgspec.Struct, frozen=True, array_like=True):
    """A device that was told to be silent: when, since when, how grave, and by which sensor's event.

    `slot` is the sensor's, relative where it was dumped. Its return must last for `damping` times its shortest rule's time,
    if that is above 1. `quiet` is up to when it was silent last; `heard` when it was heard first since then, and `back` when
    it is told to be back, if it is not silent again by then; NEVER where nothing was heard.
    """

    slot: int
    device: str
    at: int
    since: int
    severity: int
    sensor: str
    event_id: str
    damping: int = 1
    quiet: int = NEVER
    heard: int = NEVER
    back: int = NEVER


class Returned(msgspec.Struct, frozen=True, array_like=True):
    """A device that was told to be back, which has been `heard` from then on; `slot` is of the sensor that told of it."""

    slot: int
    device: str
    heard: int
    damping: int


class Hidden(NamedTuple):
    """A sensor's change that its device's silence stands for, and its event."""

    change: Change
    sensor: str
    event_id: str


class SilentDevices:
    """The devices that were told to be silent, and those that were told to be back; `touched` are slots that have changed."""

    def __init__(self) -> None:
        self.silent: dict[str, SilentDevice] = {}
        self.returned: dict[str, Returned] = {}
        self.touched: list[int] = []

    def __bool__(self) -> bool:
        return bool(self.silent)

    def next_at(self) -> int | None:
        """When, by the partition's clock, the next of them is told to be back; None where none would be."""
        return min((told.back for told in self.silent.values() if told.back != NEVER), default=None)

    def due(self, clock: int) -> list[str]:
        """Those whose return has lasted long enough by then."""
        return [name for name, told in self.silent.items() if NEVER < told.back <= clock]

    def unheard(self) -> list[str]:
        """Those of which nothing has been heard yet."""
        return [name for name, told in self.silent.items() if told.heard == NEVER]

    def tell(
        self, name: str, past: Past, items: Sequence[tuple[int, Hidden]], clock: int
    ) -> list[DeviceNotice]:
        """What a chunk tells of one device by the silences that it hides, in the order of their times."""
        found: list[DeviceNotice] = []
        for at, hidden in items:
            found += self._returns(name, past, at - 1)
            told = self.silent.get(name)
            if told is not None:
                self._keep(msgspec.structs.replace(told, quiet=at, heard=NEVER, back=NEVER))
            if told is None or hidden.change.severity > told.severity:
                found.append(self._falls(name, past, at, hidden))
        return [*found, *self._returns(name, past, clock)]

    def _falls(self, name: str, past: Past, at: int, hidden: Hidden) -> DeviceNotice:
        """Tell that it is silent, or that this is graver by now."""
        change, sensor, event_id = hidden
        told, before = self.silent.get(name), self.returned.pop(name, None)
        since = told.since if told else past.last(at)
        damping = told.damping if told else _damping(before, since, past.shortest(at))
        severity = int(change.severity)
        self._keep(
            SilentDevice(change.slot, name, at, since, severity, sensor, event_id, damping=damping, quiet=at)
        )
        self.touched += [one.slot for one in (told, before) if one]
        other = (told.slot, told.event_id) if told and told.slot != change.slot else None
        return DeviceNotice(
            name, change.severity, at, since, past.sensors(at), sensor, event_id, before=other
        )

    def _returns(self, name: str, past: Past, until: int) -> Iterator[DeviceNotice]:
        """Tell that it is back, where it has been heard for long enough by then."""
        while (told := self.silent.get(name)) is not None:
            if told.heard == NEVER:
                heard = past.next(told.quiet)
                if heard is None or heard > until:
                    return
                shortest = past.shortest(heard)
                lasts = told.damping * shortest if told.damping > 1 and shortest < NO_RULE_MS else 0
                told = msgspec.structs.replace(told, heard=heard, back=heard + lasts)
                self._keep(told)
            if told.back > until:
                return
            if told.back > told.heard and told.back - past.last(told.back) >= past.shortest(told.back):
                self._keep(msgspec.structs.replace(told, quiet=told.back, heard=NEVER, back=NEVER))
                continue
            del self.silent[name]
            self.touched.append(told.slot)
            self.returned[name] = Returned(told.slot, name, told.heard, told.damping)
            yield DeviceNotice(
                *(name, Severity.NORMAL, told.back, told.since, 0, told.sensor, told.event_id),
                heard=told.heard,
                before=(told.slot, told.event_id),
            )

    def drop(self, names: Iterable[str]) -> None:
        """Have nothing more to tell of these."""
        for name in names:
            self.touched.append(self.silent.pop(name).slot)

    def _keep(self, told: SilentDevice) -> None:
        self.silent[told.device] = told
        self.touched.append(told.slot)

    def dump(self, first: int, end: int) -> tuple[list[SilentDevice], list[Returned]]:
        """Those that sensors of these slots have told of, by place."""
        silent = [one for _, one in sorted(self.silent.items()) if first <= one.slot < end]
        returned = [one for _, one in sorted(self.returned.items()) if first <= one.slot < end]
        replace = msgspec.structs.replace
        return (
            [replace(one, slot=one.slot - first) for one in silent],
            [replace(one, slot=one.slot - first) for one in returned],
        )

    def load(self, first: int, silent: Iterable[SilentDevice], returned: Iterable[Returned]) -> None:
        """Take over what was dumped of sensors from this slot on."""
        replace = msgspec.structs.replace
        self.silent |= {one.device: replace(one, slot=first + one.slot) for one in silent}
        self.returned |= {one.device: replace(one, slot=first + one.slot) for one in returned}
        self.touched = []


def _damping(before: Returned | None, since: int, shortest: int) -> int:
    """How long the next return must last of one that was heard last at `since`."""
    if before is None or since - before.heard > RELAPSE_TIMES * shortest:
        return 1
    return min(2 * before.damping, DAMPING_LIMIT)
