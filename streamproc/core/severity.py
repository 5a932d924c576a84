"""How bad each sensor's state is, and the moments at which that changes.

Five kinds of evidence: the user's ranges and rules of sudden changes, judged for each reading at once; the user's rules over
windows and the learners' anomaly, judged for each closed window; and silence. Each raises. Only calm windows lower, and a
reading after a silence. All counts are of windows, and silence goes by the stream's own clock: nothing needs another.
`docs/severity.md` tells the rules in words.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamproc.core.alarms import AlarmBook, AlarmLevels
from streamproc.core.changes import Change, Found, Window
from streamproc.core.counted import counted
from streamproc.core.hysteresis import RELAPSE_WINDOWS, Said, settle, weigh
from streamproc.core.policies import USUAL
from streamproc.core.ranges import (
    Limits,
    bounds_of,
    clear_levels_of,
    held_level,
    range_rule,
    worst_of,
)
from streamproc.core.rules import levels
from streamproc.core.rules.silence import Heard, Silence
from streamproc.core.rules.windowed import Judged
from streamproc.core.slot_severity import SlotSeverity
from streamproc.core.spikes import Spike, words_of
from streamproc.core.tails import anomaly_of
from streamproc.core.windows import BASE_MS, NEVER
from streamproc.records import Cause, Severity
from streamproc.records.alerting import PolicyEntry

#: A told surprise from here on raises to WARN: on clean made series, less than one window in two million.
ALARM_SURPRISE = 3.0
#: From here on to CRITICAL: a person should look at once.
CRITICAL_SURPRISE = 5.0
#: The same as ALARM_SURPRISE, as `Scores.anomaly`: windows below it raise nothing.
ALARM = anomaly_of(ALARM_SURPRISE)
#: Below this surprise a window counts as calm, whether it was told or not.
CLEAR_SURPRISE = 2.0
#: So many calm windows, one after the other, lower a severity where no policy says otherwise.
DOWN_WINDOWS = USUAL.down_windows
#: Longest that relapses stretch these.
DAMPING_LIMIT = 8

_USUAL_LEVELS = AlarmLevels(ALARM_SURPRISE, CRITICAL_SURPRISE, CLEAR_SURPRISE)

_EVIDENCE_CAUSES: tuple[Cause, ...] = (
    "recovered",
    "level",
    "difference",
    "spread",
    "stuck",
    "trend",
    "season",
    "drift",
)


class SeverityBank:
    """The severities of a partition's sensors; a slot is a sensor's index.

    `level` and `range_level` (n,) are the severities now, `bounds` (n, 4) warning low and high, critical low
    and high (infinite where absent), `clear` (n, 4) their clear levels in the same order, `busy` (n,) is true where a
    calm window could change something. `ruled` (n,) is true where something of a rule over windows is remembered, `silent`
    (n,) where a silence was told that has not ended, `silence_at` (n,) is up to when silence was told.
    """

    def __init__(self) -> None:
        self.alarms = AlarmBook(_USUAL_LEVELS)
        self.level: NDArray[np.int8] = np.zeros(0, np.int8)
        self.range_level: NDArray[np.int8] = np.zeros(0, np.int8)
        self.busy: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self.ruled: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self.silent: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self.silence_at: NDArray[np.int64] = np.zeros(0, np.int64)
        self.bounds: NDArray[np.float64] = np.zeros((0, 4))
        self.clear: NDArray[np.float64] = np.zeros((0, 4))
        self._limits: dict[int, Limits] = {}
        #: Of sensors that go by another one than USUAL.
        self._policies: dict[int, PolicyEntry] = {}
        self._states: dict[int, SlotSeverity] = {}

    def __len__(self) -> int:
        return len(self.level)

    def grow(self, n: int) -> None:
        """Append `n` sensors that are NORMAL and have no ranges."""
        self.level = np.concatenate([self.level, np.zeros(n, np.int8)])
        self.range_level = np.concatenate([self.range_level, np.zeros(n, np.int8)])
        self.busy = np.concatenate([self.busy, np.zeros(n, np.bool_)])
        self.ruled = np.concatenate([self.ruled, np.zeros(n, np.bool_)])
        self.silent = np.concatenate([self.silent, np.zeros(n, np.bool_)])
        self.silence_at = np.concatenate([self.silence_at, np.full(n, NEVER)])
        self.bounds = np.concatenate([self.bounds, np.tile([-np.inf, np.inf], (n, 2))])
        self.clear = np.concatenate([self.clear, np.tile([-np.inf, np.inf], (n, 2))])

    def set_limits(self, slot: int, limits: Limits | None) -> None:
        """Judge the sensor's readings by other ranges from now on; by itself this changes no severity."""
        if limits is None:
            self._limits.pop(slot, None)
        else:
            self._limits[slot] = limits
        limits = limits or Limits()
        self.bounds[slot] = *bounds_of(limits.warning), *bounds_of(limits.critical)
        self.clear[slot] = *clear_levels_of(limits.warning), *clear_levels_of(limits.critical)

    def set_policy(self, slot: int, policy: PolicyEntry) -> None:
        """Judge the sensor by this policy from now on; by itself this changes no severity."""
        if (policy.up_windows, policy.down_windows, policy.flapping) == (1, DOWN_WINDOWS, True):
            self._policies.pop(slot, None)
        else:
            self._policies[slot] = policy

    def policy(self, slot: int) -> PolicyEntry:
        """The policy that the sensor is judged by; USUAL where another would be no different."""
        return self._policies.get(slot, USUAL)

    def on_reading(self, slot: int, at_ms: int, value: float, offset: int, breach: int) -> Change | None:
        """Judge one reading outside a range: `breach` is 1 warning, 2 critical.

        It raises at once, but where a policy wants several windows in a row.
        """
        state = self._states.setdefault(slot, SlotSeverity(slot))
        before = state.level
        state.breach_at = max(state.breach_at, at_ms)
        if breach == Severity.CRITICAL:
            state.critical_at = max(state.critical_at, at_ms)
        if breach >= state.range_level:
            state.range_calm = 0
        if self.policy(slot).up_windows > 1:
            state.breached = True
        else:
            state.range_level = max(state.range_level, breach)
        if state.level == before:
            self._mirror(state)
            return None
        cause, rule = range_rule(breach, self.bounds[slot].tolist(), value)
        return self._change(state, before, cause, at_ms, value, rule, Found(offset=offset))

    def on_spike(self, slot: int, spike: Spike) -> Change | None:
        """Judge one jump, which raises at once; one that only comes near keeps a severity up that a jump has raised."""
        state = self._states.get(slot)
        if not spike.severity and (state is None or not state.spike_level):
            return None
        if state is None:
            state = self._states[slot] = SlotSeverity(slot)
        before = state.level
        state.spike_at = max(state.spike_at, spike.at)
        state.spike_calm = 0
        state.spike_level = max(state.spike_level, spike.severity)
        if spike.severity:
            start = spike.at - spike.at % BASE_MS
            state.jumps[start] = max(state.jumps.get(start, 0), spike.severity)
        if state.level == before:
            self._mirror(state)
            return None
        rule = words_of(spike.rule)
        return self._change(
            state, before, "delta_spike", spike.at, spike.value, rule, Found(offset=spike.offset, spike=spike)
        )

    def on_window(  # noqa: PLR0913, PLR0917  # the parts of one row of `Scores`, which has no object of its own
        self,
        slot: int,
        window: Window,
        anomaly: float,
        evidence: int,
        surprise: float,
        expected: float,
        deviation: float,
    ) -> Change | None:
        """Judge one closed window by `Scores` and ranges; needed if anomalous, or the slot is `busy`."""
        said = self._said(slot, window, anomaly, evidence, surprise)
        state = self._states.get(slot)
        if state is None:
            if not said.told:
                return None
            state = self._states[slot] = SlotSeverity(slot)
        before, held = state.level, state.held
        policy = self.policy(slot)
        calm_windows = policy.down_windows * state.damping
        breached = weigh(state, window, said, policy)
        if state.level == before and bool(state.held) == bool(held):
            settle(state)
            self._mirror(state)
            return None
        scores = {"anomaly": anomaly, "surprise": surprise, "expected": expected, "deviation": deviation}
        cause, value = _window_cause(state, before), window.mean
        rule = f"calm for {counted(calm_windows, 'window')}"
        if breached and state.range_level == state.level > before:
            bounds = self.bounds[slot].tolist()
            value, scores = worst_of(state.range_level, bounds, window.min, window.max), {}
            cause, rule = range_rule(state.range_level, bounds, value)
        elif state.level > before:
            rule = f"learner {cause}"
        elif state.level == before:
            cause, rule = "flapping", "flapping" if state.held else "flapping no more"
        rows = policy.up_windows if state.level > before else 1
        rule = f"{rule}, {rows} windows in a row" if rows > 1 else rule
        found = Found(window=window, scores=scores, in_a_row=rows, settled=held > 0 and not state.held)
        return self._change(state, before, cause, window.end, value, rule, found)

    def on_rules(
        self, slot: int, window: Window, judged: Sequence[Judged], known: Collection[str] | None
    ) -> Change | None:
        """Judge one closed window by the rules for its size; at base windows `known` names all of the sensor's rules."""
        state = self._states.get(slot)
        if state is None:
            if not any(one.holds for one in judged):
                return None
            state = self._states[slot] = SlotSeverity(slot)
        before = state.level
        told = levels.weigh(state.rules, judged, state.damping)
        if known is not None and state.rules:
            levels.let_go(state.rules, known, state.damping)
        if state.level == before:
            self._mirror(state)
            return None
        if told is not None and state.level > before:
            cause, rule = levels.cause_of(told.rule), levels.words_of(told.rule)
            scores = told.numbers
        else:
            cause, rule, scores, told = (
                _window_cause(state, before),
                "calm for as many windows as its rule asks",
                {},
                None,
            )
        value = window.last if cause == "stuck_value" else window.mean
        found = Found(window=window, scores=scores, judged=told)
        return self._change(state, before, cause, window.end, value, rule, found)

    def on_silence(self, slot: int, silence: Silence) -> Change | None:
        """Judge one silence, which raises at once; each is told once, and again where its device comes back without it."""
        state = self._states.setdefault(slot, SlotSeverity(slot))
        before = state.level
        if silence.is_device_back:
            is_news = state.silent and state.told < before
        elif silence.at <= state.silence_at:
            return None
        else:
            is_news = state.told < before and not silence.inhibited
            state.silence_at, state.silence_calm = silence.at, -1
            state.silence_level = max(state.silence_level, int(silence.rule.severity))
        if state.level == before and not is_news:
            self._mirror(state)
            return None
        rule, last = levels.words_of(silence.rule), silence.last
        found = Found(offset=last.offset, silence=silence)
        return self._change(state, before, "silence", silence.at, last.value, rule, found)

    def on_heard(self, slot: int, heard: Heard) -> Change | None:
        """End a silence: at once, or where the sensor falls silent again and again after windows with readings."""
        state = self._states.get(slot)
        if state is None or not state.silent:
            return None
        before = state.level
        state.silence_calm = 0
        # What nobody was told of is no alarm that comes and goes.
        if state.damping == 1 or state.told < before:
            state.silence_level = 0
        if state.level == before:
            self._mirror(state)
            return None
        cause = _window_cause(state, before)
        return self._change(
            state, before, cause, heard.at, heard.value, "heard again", Found(offset=heard.offset)
        )

    def dump(self, slots: Sequence[int]) -> list[SlotSeverity]:
        """Return the states of those sensors that ever changed; `slot` becomes the index into `slots`."""
        return [
            msgspec.structs.replace(state, slot=index)
            for index, slot in enumerate(slots)
            if (state := self._states.get(slot)) is not None
        ]

    def load(self, first_slot: int, states: Iterable[SlotSeverity]) -> None:
        """Take over dumped states, exactly; limits are not among them."""
        for dumped in states:
            state = msgspec.structs.replace(dumped, slot=first_slot + dumped.slot)
            self._states[state.slot] = state
            self._mirror(state)

    def _said(self, slot: int, window: Window, anomaly: float, evidence: int, surprise: float) -> Said:
        """What a window says by itself; inside the user's warning range learners are not heard."""
        by = self.alarms.of(slot)
        outside = held = 0
        inside = False
        if slot in self._limits:
            bounds = self.bounds[slot].tolist()
            bounded = bounds[0] > -np.inf or bounds[1] < np.inf
            inside = bounded and bounds[0] <= window.min and window.max <= bounds[1]
            outside = held_level(bounds, window.min, window.max)
            held = held_level(self.clear[slot].tolist(), window.min, window.max)
        return Said(
            outside=outside,
            held=held,
            told=0 if inside or anomaly < by.anomaly else _surprise_level(surprise, by),
            surprising=0 if inside else _surprise_level(surprise, by),
            evidence=evidence,
            calm=inside or surprise < by.clear,
        )

    def _change(  # noqa: PLR0913, PLR0917  # a Change has as many parts
        self, state: SlotSeverity, before: int, cause: Cause, at: int, value: float, rule: str, found: Found
    ) -> Change:
        """Count and remember the change that `state` has just made, or that it is told once more."""
        if state.sequence:
            at = max(at, state.changed_at + 1)
        state.changed_at = at
        if before == 0:
            state.damping = min(state.damping * 2, DAMPING_LIMIT) if state.relapse_left else 1
            state.since_ms = at if found.window is None else found.window.start
        state.relapse_left = RELAPSE_WINDOWS if state.level == 0 else 0
        # What is told once more is no other state: whether it is must not change what later events are called.
        once_more = found.silence is not None and found.silence.is_device_back
        state.sequence += not once_more
        if state.held:
            state.held = state.level
        hidden = found.silence is not None and found.silence.inhibited
        inhibited = hidden or state.level == state.told != before
        if not inhibited:
            state.told = state.level
        self._mirror(state)
        return Change(
            slot=state.slot,
            sequence=state.sequence,
            severity=Severity(state.level),
            previous=Severity(before),
            cause=cause,
            at=at,
            value=value,
            rule=rule,
            since_ms=state.since_ms,
            limits=self._limits.get(state.slot, Limits()),
            flapping=state.held > 0,
            inhibited=inhibited,
            **{name: getattr(found, name) for name in Found.__slots__},
        )

    def _mirror(self, state: SlotSeverity) -> None:
        self.level[state.slot] = state.level
        self.range_level[state.slot] = state.range_level
        self.busy[state.slot] = state.busy
        self.ruled[state.slot] = bool(state.rules)
        self.silent[state.slot] = state.silent
        self.silence_at[state.slot] = state.silence_at


def _surprise_level(surprise: float, by: AlarmLevels) -> int:
    return (surprise >= by.warning) + (surprise >= by.critical)


def _window_cause(state: SlotSeverity, before: int) -> Cause:
    """Why a window changed the severity: what raised it, or what still holds it up."""
    if state.level == 0:
        return "recovered"
    if state.level > before:
        return _EVIDENCE_CAUSES[state.evidence]
    held = state.level
    if state.range_level == held:
        return "critical_range" if held == Severity.CRITICAL else "warning_range"
    if state.spike_level == held:
        return "delta_spike"
    for rule in state.rules.values():
        if rule.level == held:
            return rule.cause
    return "silence" if state.silence_level == held else _EVIDENCE_CAUSES[state.evidence]
