"""Inhibition: when a whole device falls silent, people are told that, and not of each sensor's silence.

A sensor's silence is hidden by its device's if none of the device's sensors has been heard for the shortest time of their
`no_data` rules, or for half of the time of the sensor's own rule; a sensor that is silent while the others speak is told at
once. The first hidden silence tells of the device. The first reading of any of its sensors tells that it is back
(`silent_devices` says when that must last first); sensors that then stay silent for their rule's time are told separately.

Times are the partition's clock, and a decision for a time depends only on what was heard before it. So the result is the same
however the records are cut into chunks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from streamproc.core.changes import DeviceNotice
from streamproc.core.devices import Devices, Past
from streamproc.core.rules.silence import (
    AHEAD,
    Heard,
    Listened,
    Places,
    Silence,
    SilenceRules,
    Turn,
    ms_of,
)
from streamproc.core.sensor_state import SensorState
from streamproc.core.sensors import Sensors
from streamproc.core.silent_devices import Hidden, Returned, SilentDevice, SilentDevices
from streamproc.core.watermarks import Watermarks
from streamproc.core.windows import NEVER, Bools, Ints


class Inhibition:
    """Which sensors' silences their devices' stand for.

    `told` are the devices that were told to be silent or back, `waiting` when a sensor whose silence was hidden is told by
    itself: AHEAD while its device is silent. Both belong into a checkpoint; the devices are the registry's, and what readings
    named.
    """

    def __init__(self, devices: Devices | None = None) -> None:
        """`devices` are those of another one, which follows them."""
        self.devices = Devices() if devices is None else devices
        self.told = SilentDevices()
        self.waiting: dict[int, int] = {}
        #: The sensors that a device has named for the first time in this step, with the offset of the record that did.
        self._named: Mapping[int, int] = {}
        #: Sensors of which something here has changed since this was last asked for.
        self._touched: list[int] = []
        self._pasts: dict[int, Past] = {}
        self._watch: _Watch | None = None

    def put(self, slot: int, device: str | None) -> bool:
        """Have a sensor belong to a device from now on; whether it belonged to another one."""
        before = int(self.devices.of[slot])
        self.devices.put(slot, device)
        return before not in {-1, int(self.devices.of[slot])}

    def next_at(self) -> int | None:
        """When, by the partition's clock, the next is told of a sensor that stays silent or a device that is back, if any."""
        dues = [due for due in self.waiting.values() if due != AHEAD]
        back = self.told.next_at()
        return min(dues if back is None else [*dues, back], default=None)

    def taken(self) -> list[int]:
        """The sensors of which something has changed since this was last asked for."""
        touched, self._touched = self._touched, []
        return touched

    def grow(self, sensors: Sensors) -> None:
        """Make room for a partition's sensors, and take in which of them were named by a device for the first time."""
        self.devices.grow(len(sensors))
        self._named, sensors.named = sensors.named, {}
        for slot in self._named:
            self.put(slot, sensors.device_of(slot))
        self._touched += self._named

    def named_at(self, offsets: Ints, clocks: Ints) -> dict[int, int]:
        """The sensors that a device has named for the first time in this step, and the clock at the record that did.

        The step's records are at these offsets (n,), with these clocks (n,).
        """
        return {slot: int(clocks[offsets.searchsorted(offset)]) for slot, offset in self._named.items()}

    def turns(
        self,
        rules: SilenceRules,
        heard: Listened,
        marks: Watermarks,
        states: SensorState,
        silent: Bools,
        told: Ints,
    ) -> list[Turn]:
        """What the rules give of a chunk (`SilenceRules.turns`), as `_hide` has it.

        While blocks that were restored are ahead of others nobody knows when their sensors were heard: nothing is hidden, so
        that what is told a second time is at worst an alarm too many.
        """
        turns = rules.turns(heard, marks, states, silent, told)
        self._pasts = {}
        if bool((told == AHEAD).any()):
            for turn in turns:
                self.note(turn.slot, None)
        elif turns or self.waiting or self.told:
            # A silence comes once more with the reading that ends it: that was judged before.
            turns = [turn for turn in turns if isinstance(turn.what, Heard) or turn.what.at > told[turn.slot]]
            turns = self._hide(turns, heard, marks, states, rules)
        self._touched += [turn.slot for turn in turns]
        return turns

    def _hide(
        self, turns: list[Turn], heard: Listened, marks: Watermarks, states: SensorState, rules: SilenceRules
    ) -> list[Turn]:
        """The turns of a chunk in each sensor's order: silences that a device hides say so, those that stay are there too."""
        if self._watch is None or self._watch.edition != self.devices.edition:
            self._watch = _Watch.of(self)
        active = self._active(turns, heard, marks.clock, self._watch)
        self._pasts = self.devices.pasts(active, heard, marks, rules) if len(active) else {}
        if self._watch.soonest <= marks.clock:
            # Nobody will hear of one that all of its sensors have left.
            due = self.told.due(marks.clock)
            self.told.drop(name for name in due if self.devices.number(name) not in self._pasts)
        if not len(active):
            return turns
        waiting = self._watch.slots[np.isin(self.devices.of[self._watch.slots], active)]
        places = Places(heard, states)
        by_slot: dict[int, list[Turn]] = defaultdict(list)
        for turn in turns:
            by_slot[turn.slot].append(turn)
        for slot in waiting.tolist():
            by_slot.setdefault(slot, [])
        found: list[Turn] = []
        for slot, its in sorted(by_slot.items()):
            past = self._pasts.get(int(self.devices.of[slot]))
            if past is None or not rules.of(slot):
                found += its
                self.note(slot, None)
            else:
                since = heard.named.get(slot, NEVER)
                found += _Follower(self, slot, since, past, rules, marks, places).follow(its)
        return found

    def note(self, slot: int, due: int | None) -> None:
        """Remember until when a hidden silence waits; None for none."""
        if self.waiting.get(slot) == due:
            return
        self._touched.append(slot)
        self._watch = None
        if due is None:
            del self.waiting[slot]
        else:
            self.waiting[slot] = due

    def notices(self, hidden: Iterable[Hidden], clock: int) -> list[DeviceNotice]:
        """What this chunk, up to the partition's `clock`, tells of devices by its changes that one hides."""
        items: dict[int, list[tuple[int, Hidden]]] = defaultdict(list)
        for one in hidden:
            if one.change.silence is not None:
                items[int(self.devices.of[one.change.slot])].append((one.change.silence.at, one))
        found: list[DeviceNotice] = []
        for device, past in sorted(self._pasts.items()):
            # Of one time the gravest first: it is told once.
            its = sorted(
                items.get(device, ()), key=lambda item: (item[0], -item[1].change.severity, item[1].sensor)
            )
            found += self.told.tell(self.devices.names[device], past, its, clock)
        if self.told.touched:
            touched, self.told.touched = self.told.touched, []
            self._touched += touched
            self._watch = None
        return found

    def _active(self, turns: Sequence[Turn], heard: Listened, clock: int, watch: _Watch) -> Ints:
        """The devices that something may change of: a silence began, time is up, or one is heard that was silent."""
        begun = [turn.slot for turn in turns if isinstance(turn.what, Silence)]
        back: list[int] = []
        if watch.soonest <= clock:
            begun += [slot for slot, due in self.waiting.items() if due <= clock]
            back = [self.devices.number(name) for name in self.told.due(clock)]
        spoke = self.devices.of[heard.runs.sensors]
        again = spoke[watch.watched[spoke]]
        begun_of = self.devices.of[np.array(begun, dtype=np.int64)]
        active = np.unique(np.concatenate([begun_of, np.array(back, dtype=np.int64), again]))
        return active[active >= 0]

    def dump(self, first: int, end: int) -> tuple[dict[int, int], list[SilentDevice], list[Returned]]:
        """What is remembered of some sensors, by place: when those that wait are told, and the devices that they told of."""
        waiting = {slot - first: due for slot, due in sorted(self.waiting.items()) if first <= slot < end}
        return waiting, *self.told.dump(first, end)

    def load(
        self,
        first: int,
        waiting: Mapping[int, int],
        silent: Iterable[SilentDevice],
        returned: Iterable[Returned],
    ) -> None:
        """Take over what was dumped of sensors from this one on."""
        self.waiting |= {first + place: due for place, due in waiting.items()}
        self.told.load(first, silent, returned)
        self._touched, self._watch = [], None


@dataclass(frozen=True, slots=True)
class _Watch:
    """What is looked at with each chunk while something is silent; made anew when that changes.

    The sensors that wait, when the first of them is told or a device that is back, and which devices (devices + 1,) are to be
    heard again; by which `edition` of the devices.
    """

    slots: Ints
    soonest: int
    watched: Bools
    edition: int

    @classmethod
    def of(cls, owner: Inhibition) -> _Watch:
        """What there is now."""
        devices = owner.devices
        slots = np.array(sorted(owner.waiting), dtype=np.int64)
        watched = np.zeros(len(devices.names) + 1, dtype=np.bool_)
        watched[devices.of[slots]] = True
        watched[[devices.number(device) for device in owner.told.unheard()]] = True
        watched[-1] = False  # sensors without a device
        soonest = owner.next_at()
        return cls(slots, AHEAD if soonest is None else soonest, watched, devices.edition)


@dataclass(frozen=True, slots=True)
class _Follower:
    """Goes through one sensor's turns: which are hidden, and when one that was is told by itself.

    `since` is when the sensor became its device's; NEVER where that was before.
    """

    owner: Inhibition
    slot: int
    since: int
    past: Past
    rules: SilenceRules
    marks: Watermarks
    places: Places

    @property
    def rule_ms(self) -> int:
        """The shortest time of the sensor's rules."""
        return ms_of(self.rules.of(self.slot)[0])

    @property
    def device(self) -> str:
        """The sensor's device."""
        return self.owner.devices.names[int(self.owner.devices.of[self.slot])]

    def follow(self, turns: Sequence[Turn]) -> list[Turn]:
        """The turns in their order, with those that are to be told besides."""
        found: list[Turn] = []
        due, begin = self.owner.waiting.get(self.slot), NEVER
        for index, turn in enumerate(turns):
            what = turn.what
            due, told = self._go_on(due, begin, what.at)
            if told is not None:
                found.append(self._still(told, turns[index:]))
            if isinstance(what, Heard):
                due = None
            elif what.at > self.since and self.past.is_silent(what.at, ms_of(what.rule)):
                found.append(replace(turn, what=replace(what, device=self.device)))
                due, begin = (AHEAD, what.at) if due is None else (due, begin)
                continue
            else:
                due = None
            found.append(turn)
        due, told = self._go_on(due, begin, self.marks.clock)
        if told is not None:
            found.append(self._still(told, ()))
        self.owner.note(self.slot, due)
        return found

    def _go_on(self, due: int | None, begin: int, until: int) -> tuple[int | None, int | None]:
        """When a hidden silence is to be told by what is heard until then, and when it was."""
        while due is not None:
            if due == AHEAD:
                back = self.past.next(begin)
                if back is None or back > until:
                    return AHEAD, None
                due = back + self.rule_ms
            if due > until:
                return due, None
            if not self.past.is_silent(due, self.rule_ms):
                return None, due
            due, begin = AHEAD, due
        return None, None

    def _still(self, at: int, later: Sequence[Turn]) -> Turn:
        """That the sensor is still silent while its device is not; `later` are its turns after that."""
        rule = self.rules.of(self.slot)[0]
        ended = next((turn for turn in later if isinstance(turn.what, Heard)), None)
        if ended is None:
            return self.places.lasting(self.slot, at, self.marks, rule, self.device)
        return self.places.ended(ended.place[2], at, self.marks, rule, self.device)
