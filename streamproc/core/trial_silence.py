"""Silences by a trial's own rules `no_data`; a silent device stands for its sensors, as it does live."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from streamproc.core.devices import Devices
from streamproc.core.inhibition import Inhibition
from streamproc.core.rules.silence import Listened, SilenceRules, Turn
from streamproc.core.sensor_state import SensorState
from streamproc.core.watermarks import Watermarks
from streamproc.core.windows import Bools, Ints
from streamproc.records import NoData

#: Which of these sensors (n,) are in the trial.
Members = Callable[[Ints], Bools]


class _Beside(SilenceRules):
    """A trial's rules. A device's other sensors have the live ones, as they would if the trial were promoted."""

    def __init__(self, live: SilenceRules, members: Members) -> None:
        super().__init__()
        self._live, self._members = live, members

    def shortest(self, slots: Ints) -> Ints:
        """The shortest time of each of these sensors' rules (k,), in ms."""
        own, live = super().shortest(slots), self._live.shortest(slots)
        times: Ints = np.where(self._members(slots), own, live)
        return times


class TrialSilence:
    """A trial's rules `no_data` by slot, and which silences of its sensors wait for their devices'."""

    def __init__(self, live: SilenceRules, devices: Devices, members: Members) -> None:
        self._rules = _Beside(live, members)
        self._inhibition = Inhibition(devices)
        self._room = 0

    def cover(self, slots: int) -> None:
        """Know so many slots."""
        if slots > self._room:
            self._rules.grow(slots - self._room)
            self._room = slots

    def put(self, slot: int, rules: Iterable[NoData]) -> None:
        """Judge a sensor's silence by these rules from now on."""
        self._rules.put(slot, rules)

    def leave(self, slot: int) -> None:
        """Wait for a sensor no more."""
        self._rules.put(slot, ())
        self._inhibition.note(slot, None)

    def turns(
        self, heard: Listened, marks: Watermarks, states: SensorState, silent: Bools, told: Ints
    ) -> tuple[list[Turn], list[int]]:
        """As `Inhibition.turns` has them, and the sensors of which something has changed."""
        turns = self._inhibition.turns(self._rules, heard, marks, states, silent, told)
        return turns, self._inhibition.taken()

    def next_at(self, marks: Watermarks, told: Ints) -> int | None:
        """When, by the partition's clock, the next silence is one, or one that was hidden is told, if nothing comes."""
        times = (self._rules.next_at(marks, told), self._inhibition.next_at())
        return min((at for at in times if at is not None), default=None)

    def waiting(self, slots: Ints) -> dict[int, int]:
        """When those of these sensors that wait for their devices are told, by their place among them."""
        return waiting_of(self._inhibition, slots)

    def wait(self, slots: Ints, waiting: Mapping[int, int]) -> None:
        """Take that over."""
        for place, due in waiting.items():
            self._inhibition.note(int(slots[place]), due)


def waiting_of(inhibition: Inhibition, slots: Ints) -> dict[int, int]:
    """When those of these sensors that wait for their devices are told, by their place among them."""
    due = inhibition.waiting
    return {place: due[slot] for place, slot in enumerate(slots.tolist()) if slot in due} if due else {}
