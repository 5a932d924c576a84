"""Which device each sensor is a part of, and when devices were heard: when any of their sensors was."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from streamproc.core.rules.silence import Listened, SilenceRules
from streamproc.core.watermarks import Watermarks
from streamproc.core.windows import NEVER, Ints

#: Of a device with one sensor, the sensor's silence is the device's: it is told as what the rule is for.
LEAST_SENSORS = 2


@dataclass(frozen=True, slots=True)
class Past:
    """When a device was heard: `before` this chunk each sensor's last time, ascending, and the `clocks` in it, ascending."""

    before: list[int]
    clocks: list[int]
    shortest: int

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
            self.sensors(at) >= LEAST_SENSORS and at - self.last(at) >= min(self.shortest, rule_ms // 2) > 0
        )


class Devices:
    """The device of each sensor of a partition, as a number; -1 where it has none."""

    def __init__(self) -> None:
        self.of: Ints = np.empty(0, dtype=np.int64)
        self.names: list[str] = []
        self._numbers: dict[str, int] = {}

    def grow(self, sensors: int) -> None:
        """Make room for so many sensors; new ones have no device."""
        more = sensors - len(self.of)
        if more > 0:
            # An eighth more than they are, so that growth is rare.
            self.of = np.append(self.of, np.full(more + sensors // 8, -1, dtype=np.int64))

    def put(self, slot: int, device: str | None) -> None:
        """Have a sensor belong to a device from now on."""
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
        """When these devices were heard, and the shortest time of their sensors' rules."""
        chosen = np.zeros(len(self.names) + 1, dtype=bool)
        chosen[active] = True
        count = min(len(self.of), len(marks.arrival))
        members = np.flatnonzero(chosen[self.of[:count]])
        before = marks.arrival[members]
        place = np.searchsorted(heard.runs.sensors, members)
        place = np.minimum(place, max(len(heard.runs.sensors) - 1, 0))
        if len(heard.runs.sensors):
            here = heard.runs.sensors[place] == members
            before[here] = heard.passage.arrived[heard.runs.begin[place[here]]]
        rows = np.flatnonzero(chosen[self.of[heard.runs.slot]])
        clocks = _grouped(self.of[heard.runs.slot[rows]], heard.clock[rows])
        known = before != NEVER
        befores = _grouped(self.of[members[known]], before[known])
        times = _grouped(self.of[members], rules.shortest(members))
        return {
            device: Past(befores.get(device, []), clocks.get(device, []), times[device][0])
            for device in active.tolist()
            if device in times
        }


def _grouped(keys: Ints, values: Ints) -> dict[int, list[int]]:
    """The values of each key, ascending."""
    order = np.lexsort((values, keys))
    keys, values = keys[order], values[order]
    ends = [*np.flatnonzero(keys[1:] != keys[:-1]) + 1, len(keys)] if len(keys) else []
    return {
        int(keys[begin]): values[begin:end].tolist() for begin, end in zip([0, *ends], ends, strict=False)
    }
