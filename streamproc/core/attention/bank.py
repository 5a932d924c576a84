"""What people are told of a partition's sensors; only sensors that are not NORMAL, or have something held back, cost time."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from streamproc.core.attention.course import Course
from streamproc.core.attention.moments import Moments
from streamproc.core.attention.orders import Orders
from streamproc.core.attention.state import Attended, Recall
from streamproc.core.attention.times import FAR
from streamproc.core.changes import Change
from streamproc.core.windows import Bools, Ints
from streamproc.records import Notification, SensorEntry, Severity, SeverityEvent
from streamproc.records.alerting import Document

#: A sensor's key and its entry in the registry, by its slot.
Who = Callable[[int], tuple[str, SensorEntry | None]]
#: Puts into words what is told of a sensor without a change.
Voice = Callable[[Recall, str, SensorEntry | None], Notification]


@dataclass(frozen=True, slots=True)
class Told:
    """A change of severity, and what would be told of it; of a silence that stands for its `device` as a whole that of it."""

    change: Change
    event: SeverityEvent
    notification: Notification
    device: Notification | None = None


@dataclass(frozen=True, slots=True)
class Back:
    """That a device is heard again whose silence this event of a sensor, in this slot, has told; `at` is in ms.

    Without a `notification` it is not, and another sensor's event tells of it from then on.
    """

    slot: int
    event_id: str
    at: int
    notification: Notification | None


@dataclass(slots=True)
class Attention:
    """What people are told, how many changes they are not told of, by why, and which slots have moved on."""

    notifications: list[Notification] = field(default_factory=list)
    withheld: Counter[str] = field(default_factory=Counter)
    slots: set[int] = field(default_factory=set)


class AttentionBank:
    """The sensors that are attended to; a slot is a sensor's index.

    `orders` are what users say as of the partition's position of the registry.
    """

    def __init__(self) -> None:
        self.orders = Orders()
        self._states: dict[int, Attended] = {}
        #: When each sensor is to be looked at again without a change, of shape (sensors,); mostly FAR.
        self._due: Ints = np.empty(0, dtype=np.int64)
        #: None of these is before this.
        self._soonest = FAR
        #: The clock that restored states are as of: what was to be done until then is done.
        self._restored: dict[int, int] = {}

    def grow(self, sensors: int) -> None:
        """Make room for so many sensors; new ones are NORMAL."""
        self._due = np.append(self._due, np.full(sensors - len(self._due), FAR, dtype=np.int64))

    def order(self, documents: Mapping[str, Document], clock: int) -> None:
        """Go on by these documents; `clock` is the partition's at the record before."""
        orders = Orders.of(documents)
        if orders.source == self.orders.source:
            return
        self.orders = orders
        for slot in self._states:
            self._set(slot, max(clock, self._restored.get(slot, clock)))

    def wake(self, slot: int, clock: int) -> None:
        """Look at a sensor again whose entry in the registry has changed."""
        if slot in self._states and self.orders.source:
            self._set(slot, max(clock, self._restored.get(slot, clock)))

    def release(self, slot: int, clock: int) -> None:
        """Have a sensor no longer stand for the device that it was of."""
        state = self._states.get(slot)
        if state is not None and state.stands:
            state.stands, state.aside = 0, False
            self._set(slot, max(clock, self._restored.get(slot, clock)))

    def forget(self, slot: int) -> bool:
        """Have no more to say of a sensor that has gone; whether there was anything."""
        known = self._states.pop(slot, None) is not None
        self._restored.pop(slot, None)
        if known:
            self._set(slot, FAR)
        return known

    def next_at(self) -> int | None:
        """When, by the partition's clock, anything is due if nothing comes; None where nothing is."""
        at = int(self._due.min()) if self._soonest < FAR else FAR
        return at if at < FAR else None

    def attend(
        self,
        told: Iterable[Told],
        backs: Iterable[Back],
        step: Step,
        ahead: Bools | None = None,
    ) -> Attention:
        """What is told of a step's changes, in their order, and of what has come due, but for sensors `ahead` (n,)."""
        told, moments, waiting = list(told), step.moments, defaultdict[int, list[Back]](list)
        step.coming.update(each.event.event_id for each in told if each.device)
        for back in backs:
            waiting[back.slot].append(back)
        for each in told:
            self._change(step, each, waiting.get(each.change.slot, []))
        for its in waiting.values():
            self._backs(step, its, moments.last)
        if self._soonest <= moments.last:
            due = self._due <= moments.last
            if ahead is not None:
                due[: len(ahead)] &= ~ahead[: len(due)]
            for slot in np.flatnonzero(due).tolist():
                self._timers(step, slot, moments.last)
            self._soonest = int(self._due.min(initial=FAR))
        return step.out

    @property
    def withheld(self) -> int:
        """How many sensors' states people do not know now, as something keeps them back."""
        return sum(state.level != state.told for state in self._states.values())

    def dump(self, slots: Sequence[int]) -> list[Attended]:
        """The states of those sensors that have one; `slot` becomes the index into `slots`."""
        return [
            msgspec.structs.replace(state, slot=index)
            for index, slot in enumerate(slots)
            if (state := self._states.get(slot)) is not None
        ]

    def load(self, first_slot: int, states: Iterable[Attended], clock: int) -> None:
        """Take over dumped states, which are as of this clock."""
        for dumped in states:
            state = msgspec.structs.replace(dumped, slot=first_slot + dumped.slot)
            self._states[state.slot] = state
            self._restored[state.slot] = clock

    def _change(self, step: Step, told: Told, backs: list[Back]) -> None:
        """What becomes of one change; `backs` are its sensor's devices' that may come before it."""
        slot, now = told.change.slot, step.moments.of(told.change)
        self._backs(step, backs, now)
        step.coming.discard(told.event.event_id)
        self._timers(step, slot, now)
        state = self._states.get(slot) or Attended(slot)
        handling = self.orders.handlings.get(told.event.sensor)
        _enter(state, told, now, handling.event_id if handling else None)
        course = Course(state, *step.who(slot), self.orders)
        why = course.change(now, more=told.change.severity == told.change.previous)
        if why is None:
            step.tell(state, told.device or told.notification)
        else:
            step.out.withheld[why] += 1
        step.out.slots.add(slot)
        self._keep(state, course.due(now))

    def _backs(self, step: Step, backs: list[Back], until: int) -> None:
        """Tell of devices that are heard again up to this time, where people know of their silence; each goes."""
        while backs and (now := step.moments.noticed(backs[0].at)) <= until:
            if backs[0].event_id in step.coming:
                break  # one record shows both that it was silent and that it is not
            back = backs.pop(0)
            self._timers(step, back.slot, now)
            state = self._states.get(back.slot)
            if state is None or not state.stands:
                continue
            course = Course(state, *step.who(back.slot), self.orders)
            if back.notification is None:
                state.hand_over()
            elif not (state.told or state.aside):  # nobody knows that it was silent
                state.stands = 0
            elif (why := course.back(now)) is not None:
                state.stands, state.aside = 0, False
                step.out.withheld[why] += 1
            else:
                state.relieve()
                step.tell(state, back.notification)
            step.out.slots.add(back.slot)
            self._keep(state, course.due(now))

    def _timers(self, step: Step, slot: int, until: int) -> None:
        """What has come due of a sensor up to this time, each at the record that showed it."""
        while (due := int(self._due[slot])) <= until:
            now = step.moments.noticed(due)
            state = self._states[slot]
            course = Course(state, *step.who(slot), self.orders)
            why = state.held
            for kind in course.wake(now):
                recall = Recall(kind, state, now, why)
                step.tell(state, step.voice(recall, course.sensor, course.entry))
                step.out.slots.add(slot)
            self._keep(state, course.due(now))

    def _set(self, slot: int, at: int) -> None:
        self._due[slot] = at
        self._soonest = min(self._soonest, at)

    def _keep(self, state: Attended, due: int) -> None:
        """Remember a state and when to look at it again; not one of which there is nothing to remember."""
        if state.over:
            self._states.pop(state.slot, None)
            self._restored.pop(state.slot, None)
            due = FAR
        else:
            self._states[state.slot] = state
        self._set(state.slot, due)


@dataclass(frozen=True, slots=True)
class Step:
    """When a step's changes were noticed, whose they are, and what is told; `coming` are devices' silences still to come."""

    moments: Moments
    who: Who
    voice: Voice
    out: Attention = field(default_factory=Attention)
    coming: set[str] = field(default_factory=set)

    def tell(self, state: Attended, notification: Notification) -> None:
        """Tell it, at a time after what was told of the sensor before: its device's clock may be behind the partition's."""
        state.noted_at = max(notification.at, state.noted_at + 1)
        self.out.notifications.append(msgspec.structs.replace(notification, at=state.noted_at))


def _enter(state: Attended, told: Told, now: int, handled: str | None) -> None:
    """Note a change in the sensor's state."""
    change, event = told.change, told.event
    if change.previous == Severity.NORMAL and not state.stands:
        state.events, state.escalated, state.raised_at = [], 0, now
    state.level, state.event_id = int(change.severity), event.event_id
    state.at, state.since = change.at, change.since_ms
    state.cause, state.value = change.cause, change.value
    state.enter(event.event_id, state.level, handled)
    if told.device is not None:
        state.stands, state.aside, state.stood_for = state.level, False, False
    elif change.severity and not change.inhibited:
        state.set_aside()
    state.inhibited = change.inhibited and (not state.stands or state.aside)
    if state.stood_for and change.inhibited:
        state.told = min(state.told, state.level)  # that its device is heard again has said it
    state.stood_for = state.stood_for and change.inhibited
