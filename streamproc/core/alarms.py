"""From which surprise on learners raise a severity, and below which a window counts as calm; a sensor may have its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.tails import anomaly_of
from streamproc.core.windows import Floats, Ints


@dataclass(frozen=True, slots=True)
class AlarmLevels:
    """A surprise that is told raises to WARN from `warning` on, to CRITICAL from `critical` on; one below `clear` is calm."""

    warning: float
    critical: float
    clear: float

    @property
    def anomaly(self) -> float:
        """`warning` as an anomaly: windows below it raise nothing."""
        level: float = anomaly_of(self.warning)
        return level


class AlarmBook:
    """The alarm levels of a partition's sensors: `usual` but for those that were given others."""

    def __init__(self, usual: AlarmLevels) -> None:
        self._usual = usual
        self._of: dict[int, AlarmLevels] = {}
        #: `anomaly` of each sensor, of shape (sensors or fewer,); those beyond have the usual one.
        self._anomaly = np.empty(0)

    def put(self, slot: int, levels: AlarmLevels) -> None:
        """Judge a sensor by these levels from now on."""
        if levels == self.of(slot):
            return
        if levels == self._usual:
            del self._of[slot]
        else:
            self._of[slot] = levels
        more = slot + 1 - len(self._anomaly)
        if more > 0:  # twice as much each time, so that growth is rare
            self._anomaly = np.append(
                self._anomaly, np.full(max(more, len(self._anomaly)), self._usual.anomaly)
            )
        self._anomaly[slot] = levels.anomaly

    def of(self, slot: int) -> AlarmLevels:
        """A sensor's levels."""
        return self._of.get(slot, self._usual)

    def anomaly(self, slots: Ints) -> Floats | float:
        """The anomaly from which on each of these sensors (n,) is told of; one number where it is the same for all."""
        if not self._of:
            return self._usual.anomaly
        known = slots < len(self._anomaly)
        levels: Floats = np.where(known, self._anomaly[np.where(known, slots, 0)], self._usual.anomaly)
        return levels
