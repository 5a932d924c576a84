"""Which device each sensor belongs to, and when each device was last heard: when any of its sensors was."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from streamproc.core.rules.silence import NO_RULE_MS, Listened, SilenceRules
from streamproc.core.watermarks import Watermarks
from streamproc.core.windows import NEVER, Ints

#: Of a device with one sensor, the sensor's silence is the device's: it is told as what the rule is for.
LEAST_SENSORS = 2


@dataclass(frozen=True, slots=True)
class Past:
    """When a device was heard: `before` this chunk each sensor's last time, ascending, and the `clocks` in it, ascending.

    `rules` are, for each of its sensors that has rules, when it was heard first (NEVER: before this chunk), and the time of
    the shortest of them, by the former.
    """

    before: list[int]
    clocks: list[int]
    rules: list[tuple[int, int]]

    def shortest(self, at: int) -> int:
        """The shortest time of the rules of those of its sensors that had been heard before this time."""
        return min((time for first, time in self.rules if first < at), default=NO_RULE_MS)

    def sensors(self, at: int) -> int:
        """How many of its sensors had been heard before this time."""
        return bisect_left(self.before, at)

    def last(self, at: int) -> int:
        """When it was heard last before this time."""
        found = [
            times[index - 1] for times in (self.before, self.clocks) if (index := bisect_left(times, at))
        ]
        return max(found, default=NEVER)

    def next(self, at: int) -> int | None:
        """When it was heard in this chunk for the first time from this time on."""
        index = bisect_left(self.clocks, at)
        return self.clocks[index] if index < len(self.clocks) else None

    def is_silent(self, at: int, rule_ms: int) -> bool:
        """Whether it hides the silence that a rule of so long tells of at this time."""
        return (
            self.sensors(at) >= LEAST_SENSORS
            and at - self.last(at) >= min(self.shortest(at), rule_ms // 2) > 0
        )


class Devices:
    """The device of each sensor of a partition, as a number; -1 where it has none."""

    def __init__(self) -> None:
        self.of: Ints = np.empty(0, dtype=np.int64)
        self.names: list[str] = []
        #: Changes whenever a sensor goes to another device.
        self.edition = 0
        self._numbers: dict[str, int] = {}

    def grow(self, sensors: int) -> None:
        """Make room for so many sensors; new ones have no device."""
        more = sensors - len(self.of)
        if more > 0:
            # An eighth more than they are, so that growth is rare.
            self.of = np.append(self.of, np.full(more + sensors // 8, -1, dtype=np.int64))

    def put(self, slot: int, device: str | None) -> None:
        """Have a sensor belong to a device from now on."""
        self.edition += 1
        if device is None:
            self.of[slot] = -1
            return
        number = self._numbers.setdefault(device, len(self.names))
        if number == len(self.names):
            self.names.append(device)
        self.of[slot] = number

    def number(self, device: str) -> int:
        """The number of a device; -1 where no sensor has belonged to it."""
        return self._numbers.get(device, -1)

    def pasts(self, active: Ints, heard: Listened, marks: Watermarks, rules: SilenceRules) -> dict[int, Past]:
        """When these devices were heard, and the shortest times of their sensors' rules."""
        chosen = np.zeros(len(self.names) + 1, dtype=bool)
        chosen[active] = True
        count = min(len(self.of), len(marks.arrival))
        members = np.flatnonzero(chosen[self.of[:count]])
        # What a sensor said before it was the device's is none of the device's word.
        since = np.full(len(self.of), NEVER)
        since[list(heard.named)] = list(heard.named.values())
        # A new sensor's first reading has come at its own time; so has one of another sensor, but nothing was asked between.
        before, first = marks.arrival[members], np.full(len(members), NEVER)
        place = np.searchsorted(heard.runs.sensors, members)
        place = np.minimum(place, max(len(heard.runs.sensors) - 1, 0))
        if len(heard.runs.sensors):
            here = heard.runs.sensors[place] == members
            begin = heard.runs.begin[place[here]]
            before[here] = heard.passage.arrived[begin]
            first[here] = np.where(before[here] == heard.clock[begin], heard.clock[begin], NEVER)
        before, first = np.maximum(before, since[members]), np.maximum(first, since[members])
        slot = heard.runs.slot
        rows = np.flatnonzero(chosen[self.of[slot]] & (heard.clock >= since[slot]))
        clocks = _grouped(self.of[slot[rows]], heard.clock[rows])
        known = before != NEVER
        befores = _grouped(self.of[members[known]], before[known])
        times = rules.shortest(members)
        ruled: dict[int, list[tuple[int, int]]] = {int(device): [] for device in self.of[members]}
        some = np.flatnonzero((times < NO_RULE_MS) & known)
        for device, *rule in zip(
            *(each[some].tolist() for each in (self.of[members], first, times)), strict=True
        ):
            ruled[device].append((rule[0], rule[1]))
        return {
            device: Past(befores.get(device, []), clocks.get(device, []), ruled[device])
            for device in active.tolist()
            if device in ruled
        }


def _grouped(keys: Ints, values: Ints) -> dict[int, list[int]]:
    """The values of each key, ascending."""
    order = np.lexsort((values, keys))
    keys, values = keys[order], values[order]
    ends = [*np.flatnonzero(keys[1:] != keys[:-1]) + 1, len(keys)] if len(keys) else []
    return {
        int(keys[begin]): values[begin:end].tolist() for begin, end in zip([0, *ends], ends, strict=False)
    }
