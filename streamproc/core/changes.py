"""Changes of severity, and the windows that they come from: what the engine tells of."""

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
class Change:
    """One change of a sensor's severity; `sequence` counts the sensor's changes from 1.

    `at` is the time of the reading or the window's end, and later than that of the sensor's change before: a window ends
    before readings that came before it closed, and who orders changes by time must find the last one last.
    `since_ms` is when the sensor left NORMAL, `offset` that of the reading which made the change.
    `window` and `scores` are there where a window made it, `spike` where a jump did, `judged` where a rule over windows did,
    and `silence` where there was one.
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
