"""What is remembered of a sensor that is not NORMAL, or whose present state people do not know."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from streamproc.core.windows import NEVER
from streamproc.records import Cause, NotificationKind

#: Events of an alarm that an acknowledgement may be of. Each is 40 bytes of a checkpoint; the one that somebody has handled
#: stays among them.
MOST_EVENTS = 16


class Attended(msgspec.Struct, array_like=True):
    """One sensor; `slot` is relative where it was dumped. `level` and `told` are severities: as it is, and as people know it.

    Of its newest event there are the id, its time `at`, since when the sensor is not normal, cause and value. `told_at`,
    `raised_at` and `recalled_at` are the partition's clock when a change was told last, when what is told went up, and when
    anything was told that a reminder counts from. `escalated` is the severity that others were told of. `noted_at` is the
    time of the last notification: those of one sensor have ascending times. `events` are the alarm's as (id, severity).
    """

    slot: int
    level: int = 0
    told: int = 0
    event_id: str = ""
    at: int = 0
    since: int = 0
    cause: Cause = "recovered"
    value: float = 0.0
    told_at: int = NEVER
    raised_at: int = NEVER
    recalled_at: int = NEVER
    escalated: int = 0
    noted_at: int = NEVER
    events: list[tuple[str, int]] = []
    #: What keeps its state back now, "" where nothing does.
    held: str = ""
    #: Whether its device's silence stands for its own; whether people know that the device is back whose silence it told. How
    #: grave its device's silence is that it stands for, until that is told to be back; whether people know of that beside
    #: what they know of the sensor itself.
    inhibited: bool = False
    stood_for: bool = False
    stands: int = 0
    aside: bool = False

    @property
    def over(self) -> bool:
        """Whether there is nothing to remember: it is normal, people know, and it stands for no device."""
        return not (self.level or self.told or self.stands)

    def set_aside(self) -> None:
        """Note that it has an alarm of its own: what people know of its device says nothing of that."""
        if self.stands and not self.aside and self.told:
            self.told, self.aside = 0, True

    def relieve(self) -> None:
        """Note that its device is told to be back: of a sensor that has recovered by then that says all."""
        if not self.aside:
            self.told = min(self.told, self.level)
        self.stands, self.aside, self.stood_for = 0, False, True

    def hand_over(self) -> None:
        """Note that another sensor's event tells of its device's silence from now on, which hides its own.

        Where people were reminded of it, they read its own name, and are to read of its own end.
        """
        if not self.aside and self.recalled_at <= self.told_at:
            self.told, self.inhibited = 0, True
        self.stands, self.aside = 0, False

    def severity_of(self, event_id: str) -> int | None:
        """How grave the present alarm was as of this event; None where it is none of the alarm's."""
        return next((level for name, level in self.events if name == event_id), None)

    def enter(self, event_id: str, level: int, handled: str | None) -> None:
        """Note an event of the alarm; `handled` is the one that somebody looks after."""
        self.events = [*self.events, (event_id, level)]
        if len(self.events) > MOST_EVENTS:
            oldest = next(index for index, (name, _) in enumerate(self.events) if name != handled)
            self.events = [*self.events[:oldest], *self.events[oldest + 1 :]]


@dataclass(frozen=True, slots=True)
class Recall:
    """What is told of a state without a change, at `now` by the partition's clock; `why` is what kept it back until now."""

    kind: NotificationKind
    state: Attended
    now: int
    why: str = ""
