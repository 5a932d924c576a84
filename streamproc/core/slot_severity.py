"""The state that one sensor's severity depends on."""

from __future__ import annotations

import msgspec

from streamproc.core.rules import levels
from streamproc.core.windows import NEVER


class SlotSeverity(msgspec.Struct, array_like=True):
    """All that is remembered of one sensor that ever changed; `slot` is relative where it was dumped."""

    slot: int
    sequence: int = 0
    range_level: int = 0
    learner_level: int = 0
    breach_at: int = 0
    range_calm: int = 0
    learner_calm: int = 0
    evidence: int = 0
    since_ms: int = 0
    relapse_left: int = 0
    damping: int = 1
    changed_at: int = 0
    spike_level: int = 0
    spike_at: int = 0
    spike_calm: int = 0
    #: `silence_calm` is -1 while it is silent; then it counts windows.
    silence_level: int = 0
    silence_at: int = NEVER
    silence_calm: int = 0
    rules: levels.States = {}
    #: The severity that people know of: another one was told to nobody, its device's silence standing for it.
    told: int = 0
    #: What flapping holds up, 0 while it does not flap; and the last states (`core.flapping`).
    held: int = 0
    states: int = 0
    #: Jumps of windows that are open yet: the gravest of each, by the window's start.
    jumps: dict[int, int] = {}
    #: Windows in a row that ask for WARN or more, and for CRITICAL, where a policy wants several; and whether a window with a
    #: breach is still to close.
    breach_runs: tuple[int, int] = (0, 0)
    learner_runs: tuple[int, int] = (0, 0)
    breached: bool = False
    #: The last breach of the critical range; `breach_at` is that of either.
    critical_at: int = 0

    @property
    def level(self) -> int:
        """The combined severity."""
        return max(
            self.range_level,
            self.spike_level,
            self.learner_level,
            self.silence_level,
            self.held,
            levels.gravest(self.rules) if self.rules else 0,
        )

    @property
    def silent(self) -> bool:
        """Whether nothing has been heard since a silence was told."""
        return self.silence_level > 0 and self.silence_calm < 0

    @property
    def busy(self) -> bool:
        """Whether a calm window could change anything."""
        return (
            self.relapse_left > 0  # what costs least and mostly holds is asked first
            or self.states > 0
            or self.level > 0
            or self.breached
            or self.breach_runs[0] > 0
            or self.learner_runs[0] > 0
            or bool(self.jumps)
            or bool(self.rules)
        )
