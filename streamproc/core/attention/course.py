"""What people are told of one sensor at one moment, and when to look again. Pure, except for the state that it moves on.

One rule: whenever people know another state than the sensor's, and nothing holds it back, they are told. So what is held back
is told later, once, as it is then; if by then the state is the one that people know, nothing is told. They are reminded of
what they know and what lasts, and others are told of it where nobody handles it.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamproc.core.attention.orders import Orders
from streamproc.core.attention.state import Attended
from streamproc.core.attention.times import FAR
from streamproc.records import NotificationKind, SensorEntry
from streamproc.records.alerting import HandlingEntry, PolicyEntry

#: Reminders come no faster, whatever a policy says: more is a flood.
LEAST_REPEAT_MS = 1_000

#: Why a change is not told: people know that state already; or what keeps it back.
KNOWN, SILENCE, MAINTENANCE, SNOOZE, COOLDOWN, INHIBITED = (
    "known",
    "silence",
    "maintenance",
    "snooze",
    "cooldown",
    "inhibited",
)


@dataclass(frozen=True, slots=True)
class Hold:
    """What keeps a state back, and until when nothing else need be asked (ms)."""

    why: str
    until: int


@dataclass(frozen=True, slots=True)
class Course:
    """One sensor under these orders; its `state` moves on."""

    state: Attended
    sensor: str
    entry: SensorEntry | None
    orders: Orders

    @property
    def policy(self) -> PolicyEntry:
        """How sensors of its kind are told of."""
        return self.orders.policy(self.entry)

    def change(self, now: int, *, more: bool = False) -> str | None:
        """Whether the sensor's newest state is to be told now: None where it is, else why not.

        What people know already is, where there is `more` to say of it, if nothing keeps it back; later nobody asks for that.
        """
        state = self.state
        known = state.level == state.told
        if known and not more:
            state.held = ""
            return KNOWN
        hold = self._hold(now)
        if hold is not None and known:
            return hold.why
        if hold is None:
            self._know(now)
            return None
        state.held = hold.why
        return hold.why

    def back(self, now: int) -> str | None:
        """Whether people are to be told now that the device is heard again whose silence they heard of: as `change`."""
        quiet = self._quiet(now)
        cool = self.state.told_at + _ms(self.policy.cooldown_seconds)
        if quiet is not None or now < cool:
            return quiet.why if quiet else COOLDOWN
        self.state.told_at = self.state.recalled_at = now
        return None

    def wake(self, now: int) -> list[NotificationKind]:
        """What is to be told now without a change, in this order: held, and escalation or reminder."""
        state, kinds = self.state, list[NotificationKind]()
        if state.level != state.told:
            if self._hold(now) is not None:
                return kinds
            self._know(now)
            state.aside = (
                state.stands > 0 and state.level > 0
            )  # what is told late is told of the sensor itself
            kinds.append("held")
        if state.level and self._quiet_until(now) is None:
            if self._escalates_at() <= now:
                state.escalated, state.recalled_at = (
                    state.level,
                    now,
                )  # all hear of it: it is a reminder as well
                kinds.append("escalation")
            if self._recalls_at() <= now:
                state.recalled_at = now
                kinds.append("reminder")
        return kinds

    def due(self, now: int) -> int:
        """When to wake next, after now; FAR where only a change or an edit can bring anything."""
        state = self.state
        if state.level != state.told:
            hold = self._hold(now)
            return now + 1 if hold is None else max(hold.until, now + 1)
        if not state.level:
            return FAR
        at = min(self._escalates_at(), self._recalls_at())
        if at == FAR:
            return FAR
        quiet = self._quiet_until(now)
        return max(at, now + 1) if quiet is None or at > now else max(quiet, now + 1)

    def _know(self, now: int) -> None:
        """Note that people are told the state as it is."""
        state = self.state
        if state.level > state.told:
            state.raised_at = now
        state.told, state.held = state.level, ""
        state.told_at = state.recalled_at = now

    def _hold(self, now: int) -> Hold | None:
        """What keeps back the state that people do not know yet."""
        state = self.state
        if (state.inhibited and state.level) or (
            state.stands and not state.aside and state.level < state.told
        ):
            return Hold(INHIBITED, FAR)  # its device is told to be silent, or not to be back yet
        quiet = self._quiet(now)
        if quiet is not None:
            return quiet
        cool = state.told_at + _ms(self.policy.cooldown_seconds)
        return Hold(COOLDOWN, cool) if state.level <= state.told and now < cool else None

    def _quiet(self, now: int) -> Hold | None:
        """The silence or snooze that the sensor is under."""
        state = self.state
        hush = self.orders.silences.hush(self.sensor, self.entry, max(state.level, state.told), now)
        if hush is not None:
            return Hold(MAINTENANCE if hush.silence.maintenance else SILENCE, hush.until)
        handling = self._handling()
        until = handling.snoozed_until if handling else None
        return Hold(SNOOZE, until) if state.level and until is not None and now < until else None

    def _quiet_until(self, now: int) -> int | None:
        quiet = self._quiet(now)
        return quiet.until if quiet else None

    def _handling(self) -> HandlingEntry | None:
        """How the alarm is handled; None where nobody does, or it was another alarm, or has become graver."""
        handling = self.orders.handlings.get(self.sensor)
        known = self.state.severity_of(handling.event_id) if handling else None
        return handling if known is not None and self.state.level <= known else None

    def _escalates_at(self) -> int:
        """When others are to be told."""
        wait, state = self.policy.escalate_seconds, self.state
        if wait <= 0 or state.escalated >= state.level or self._acknowledged():
            return FAR
        return state.raised_at + _ms(wait)

    def _recalls_at(self) -> int:
        """When people are to be reminded: regularly, and where a snooze is over since they heard of it last."""
        wait, state, handling = self.policy.remind_seconds, self.state, self._handling()
        if handling is not None and handling.acknowledged:
            return FAR
        snoozed = handling.snoozed_until if handling else None
        at = FAR if snoozed is None or snoozed <= state.recalled_at else snoozed
        if wait <= 0:
            return at
        cool = state.told_at + _ms(self.policy.cooldown_seconds)
        return min(at, max(state.recalled_at + max(_ms(wait), LEAST_REPEAT_MS), cool))

    def _acknowledged(self) -> bool:
        handling = self._handling()
        return handling is not None and handling.acknowledged


def _ms(seconds: float) -> int:
    return round(1_000 * seconds)
