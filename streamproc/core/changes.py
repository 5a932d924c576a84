"""Changes of severity, and the windows that they come from."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamproc.core.ranges import Limits
from streamproc.core.rules.silence import Silence
from streamproc.core.rules.windowed import Judged
from streamproc.core.spikes import Spike
from streamproc.records import Cause, Severity


@dataclass(frozen=True, slots=True)
class Window:
    """One closed window: `start` and `size_ms` in ms, `trend` in units a second, offsets of its records."""

    start: int
    size_ms: int
    count: int
    mean: float
    min: float
    max: float
    deviation: float
    first: float
    last: float
    trend: float
    first_offset: int
    last_offset: int

    @property
    def end(self) -> int:
        """The first millisecond after the window."""
        return self.start + self.size_ms


@dataclass(frozen=True, slots=True)
class Found:
    """What a change was found by; as in Change."""

    offset: int | None = None
    window: Window | None = None
    scores: dict[str, float] = field(default_factory=dict)
    spike: Spike | None = None
    judged: Judged | None = None
    silence: Silence | None = None
    in_a_row: int = 1
    settled: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a sensor's severity; `sequence` counts the sensor's changes from 1, but that it is still silent.

    `at` is the time of the reading or the window's end, and later than that of the sensor's change before: a window ends
    before readings that came before it closed, and who orders changes by time must find the last one last.
    `since_ms` is when the sensor left NORMAL, `offset` that of the reading which made the change.
    `window` and `scores` are there where a window made it, `spike` where a jump did, `judged` where a rule over windows did,
    and `silence` where there was one. `in_a_row` is how many windows a policy had it wait for.

    Where `severity` is `previous`, the sensor's state is told once more: that it began to flap (`flapping`, cause
    "flapping"), that it does so no more (`settled`), or that it is still silent now that its device is back. While it flaps,
    its changes have `flapping`. An `inhibited` one is an event, but nobody is to be told: its device's silence stands for it,
    or it is the end of what nobody was told. `device` is the one whose silence it is about.
    """

    slot: int
    sequence: int
    severity: Severity
    previous: Severity
    cause: Cause
    at: int
    value: float
    rule: str
    since_ms: int
    limits: Limits
    offset: int | None = None
    window: Window | None = None
    scores: dict[str, float] = field(default_factory=dict)
    spike: Spike | None = None
    judged: Judged | None = None
    silence: Silence | None = None
    in_a_row: int = 1
    flapping: bool = False
    settled: bool = False
    inhibited: bool = False

    @property
    def device(self) -> str | None:
        """The device that is silent as a whole, or is back, where the change is about a sensor's silence with it."""
        return self.silence.device if self.silence else None


@dataclass(frozen=True, slots=True)
class DeviceNotice:
    """That a whole device is silent (`severity` above NORMAL) or is heard again, told in place of its sensors' silences.

    It was last heard before that at `since`. `sensors` is how many of it have ever been heard, `sensor` the one whose event
    `event_id` was the first that is hidden. Where it is back, it has been `heard` from then on. `before` is the slot and the
    event that had told of it until now, of a graver silence where those are of another sensor.
    """

    device: str
    severity: Severity
    at: int
    since: int
    sensors: int
    sensor: str
    event_id: str
    heard: int | None = None
    before: tuple[int, str] | None = None
