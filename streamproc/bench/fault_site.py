"""One partition's engine as a worker runs it, fed with synthetic series: packets with broker timestamps in, events out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from streamproc.core.chunk import Chunk
from streamproc.core.engine import Options, Outputs, PartitionState, run
from streamproc.core.registry import RegistryLog
from streamproc.core.windows import BASE_MS, Floats, Ints
from streamproc.records import SensorEntry, Severity

#: The time of the first row: a Monday, midnight in UTC.
EPOCH_MS = 1_699_833_600_000
#: Sensors speak this long after a whole second at most, so that each of their readings has a window of its own …
_PHASE_MS = 500
#: … and a reading takes so long to the broker, at least and at most.
_WAY_MS = (20, 200)
#: Records in a chunk: about what a worker that keeps up takes in at once of a busy partition.
CHUNK = 20_000

#: What a signal is: a change of severity, or what the engine counts and lists of readings that it could not use.
What = Literal["severity", "late", "early"]


@dataclass(frozen=True, slots=True)
class Signal:
    """Something told of a sensor, by the sensor's number and the row that it was told of; the severities of a change."""

    sensor: int
    row: int
    what: What
    cause: str = ""
    previous: Severity = Severity.NORMAL
    severity: Severity = Severity.NORMAL

    @property
    def raised(self) -> bool:
        """Whether it is a change for the worse."""
        return self.severity > self.previous


class Site:
    """A partition with sensors that speak each `every_ms`, each at its own time; `entries` are the registry's."""

    def __init__(
        self, names: list[str], every_ms: int, entries: Mapping[str, SensorEntry], *, chunk: int = CHUNK
    ) -> None:
        self.names, self.every_ms, self.chunk = names, every_ms, chunk
        self.state = PartitionState(Options("readings", 0, 1))
        self.registry = RegistryLog()
        for offset, (name, entry) in enumerate(entries.items()):
            self.registry.append(offset, EPOCH_MS, name, entry)
        self.readings = 0
        self._random = np.random.default_rng([every_ms, len(names)])
        count = len(names)
        second = BASE_MS * self._random.integers(0, every_ms // BASE_MS, count)
        #: When a sensor speaks, after the begin of its row: the second, and the ms of it.
        self._second, self._ms = second, self._random.integers(1, _PHASE_MS, count)
        self._number = {name: number for number, name in enumerate(names)}
        self._keys = [name.encode() for name in names]
        self._offset = 0
        self._clock = EPOCH_MS

    def send(
        self, row: int, value: Floats, sent: NDArray[np.bool_] | None = None, shift_ms: Ints | None = None
    ) -> Iterator[Signal]:
        """Send rows from `row` on, all of shape (rows, sensors): where `sent`, by clocks that are `shift_ms` ahead."""
        rows, sensors = np.nonzero(sent) if sent is not None else np.indices(value.shape).reshape(2, -1)
        spoken = EPOCH_MS + (row + rows) * self.every_ms + self._second[sensors] + self._ms[sensors]
        arrived = spoken + self._random.integers(*_WAY_MS, value.shape)[rows, sensors]
        order = np.argsort(arrived, kind="stable")
        rows, sensors = rows[order], sensors[order]
        stamps = np.maximum(np.maximum.accumulate(arrived[order]), self._clock)
        told = spoken[order] + (shift_ms[rows, sensors] if shift_ms is not None else 0)
        values = [
            b'{"sensor_id": "%b", "value": %a, "ts": %a}' % (self._keys[sensor], number, ms / 1_000)
            for sensor, number, ms in zip(
                sensors.tolist(), value[rows, sensors].tolist(), told.tolist(), strict=True
            )
        ]
        for begin in range(0, len(values), self.chunk):
            at = slice(begin, begin + self.chunk)
            yield from self._take_in(values[at], stamps[at], sensors[at], row + rows[at])
        if len(stamps):
            self._clock = int(stamps[-1])

    def _take_in(self, values: list[bytes], stamps: Ints, sensors: Ints, rows: Ints) -> Iterator[Signal]:
        first = self._offset
        chunk = Chunk("readings", 0, first + np.arange(len(values)), stamps, values)
        self._offset += len(values)
        for part, out in run(self.state, chunk, self.registry):
            self.readings += out.readings
            begin = int(part.offsets[0]) - first
            yield from self._signals(out, sensors[begin:], rows[begin:], int(part.offsets[0]))

    def _signals(self, out: Outputs, sensors: Ints, rows: Ints, offset: int) -> Iterator[Signal]:
        for late in out.late:
            yield Signal(self._number[late.sensor], int(rows[late.offset - offset]), "late")
        for fault in out.rejected:
            yield Signal(int(sensors[fault.record]), int(rows[fault.record]), "early")
        for event in out.events:
            sensor = self._number[event.sensor]
            # A window ends on a whole second, and what is told of a reading or a silence has its ms: both are of that row.
            row = (event.at - 1 - EPOCH_MS - int(self._second[sensor])) // self.every_ms
            yield Signal(sensor, row, "severity", event.cause, event.previous, event.severity)
