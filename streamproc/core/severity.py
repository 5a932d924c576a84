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

from streamproc.core.changes import Change, Window
from streamproc.core.ranges import Limits, bounds_of, clear_levels_of, held_level
from streamproc.core.rules import levels
from streamproc.core.rules.silence import Heard, Silence
from streamproc.core.rules.windowed import Judged
from streamproc.core.slot_severity import SlotSeverity
from streamproc.core.spikes import Spike, words_of
from streamproc.core.tails import anomaly_of
from streamproc.core.windows import NEVER
from streamproc.records import Cause, Severity

#: A told surprise from here on raises to WARN: on clean made series, less than one window in two million.
ALARM_SURPRISE = 3.0
#: From here on to CRITICAL: a person should look at once.
CRITICAL_SURPRISE = 5.0
#: The same as ALARM_SURPRISE, as `Scores.anomaly`: windows below it raise nothing.
ALARM = anomaly_of(ALARM_SURPRISE)
#: Below this surprise a window counts as calm, whether it was told or not.
CLEAR_SURPRISE = 2.0
#: So many calm windows, one after the other, lower a severity.
DOWN_WINDOWS = 5
#: Windows after a recovery in which learners raise nothing below CRITICAL.
COOLDOWN_WINDOWS = 10
#: A sensor that goes up again within so many windows of its recovery flaps: it must be calm twice as long
#: each time.
RELAPSE_WINDOWS = 60
#: Longest that flapping stretches DOWN_WINDOWS.
DAMPING_LIMIT = 8

_EVIDENCE_CAUSES: tuple[Cause, ...] = (
    "recovered",
    "level",
    "difference",
    "spread",
    "stuck",
    "trend",
    "season",
)


class SeverityBank:
    """The severities of a partition's sensors; a slot is a sensor's index.

    `level` and `range_level` (n,) are the severities now, `bounds` (n, 4) warning low and high, critical low
    and high (infinite where absent), `clear` (n, 4) their clear levels in the same order, `busy` (n,) is true where a
    calm window could change something. `ruled` (n,) is true where something of a rule over windows is remembered, `silent`
    (n,) where a silence was told that has not ended, `silence_at` (n,) is up to when silence was told.
    """

    def __init__(self) -> None:
        self.level: NDArray[np.int8] = np.zeros(0, np.int8)
        self.range_level: NDArray[np.int8] = np.zeros(0, np.int8)
        self.busy: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self.ruled: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self.silent: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self.silence_at: NDArray[np.int64] = np.zeros(0, np.int64)
        self.bounds: NDArray[np.float64] = np.zeros((0, 4))
        self.clear: NDArray[np.float64] = np.zeros((0, 4))
        self._limits: dict[int, Limits] = {}
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

    def on_reading(self, slot: int, at_ms: int, value: float, offset: int, breach: int) -> Change | None:
        """Judge one reading outside a range, which raises at once: `breach` is 1 warning, 2 critical."""
        state = self._states.setdefault(slot, SlotSeverity(slot))
        before = state.level
        state.breach_at = max(state.breach_at, at_ms)
        state.range_calm = 0
        state.range_level = max(state.range_level, breach)
        if state.level == before:
            self._mirror(state)
            return None
        cause: Cause = "critical_range" if breach == Severity.CRITICAL else "warning_range"
        rule = _range_rule(cause, self.bounds[slot].tolist(), value)
        return self._change(state, before, cause, at_ms, value, rule, offset=offset)

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
        if state.level == before:
            self._mirror(state)
            return None
        rule = words_of(spike.rule)
        return self._change(state, before, "delta_spike", spike.at, spike.value, rule, spike=spike)

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
        learner = 0 if self._inside_warning(slot, window) else _learner_level(anomaly, surprise)
        state = self._states.get(slot)
        if state is None:
            if not learner:
                return None
            state = self._states[slot] = SlotSeverity(slot)
        before = state.level
        calm_windows = DOWN_WINDOWS * state.damping
        self._lower_range(state, window)
        _lower_spike(state, window)
        _lower_silence(state)
        calm = not learner and (surprise < CLEAR_SURPRISE or self._inside_warning(slot, window))
        _weigh(state, learner, evidence, calm=calm)
        if state.level == before:
            _settle(state)
            self._mirror(state)
            return None
        cause = _window_cause(state, before)
        rule = f"learner {cause}" if state.level > before else f"calm for {calm_windows} windows"
        scores = {"anomaly": anomaly, "surprise": surprise, "expected": expected, "deviation": deviation}
        return self._change(state, before, cause, window.end, window.mean, rule, window=window, scores=scores)

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
        return self._change(
            state, before, cause, window.end, value, rule, window=window, scores=scores, judged=told
        )

    def on_silence(self, slot: int, silence: Silence) -> Change | None:
        """Judge one silence, which raises at once; each is told once."""
        state = self._states.setdefault(slot, SlotSeverity(slot))
        if silence.at <= state.silence_at:
            return None
        before = state.level
        state.silence_at, state.silence_calm = silence.at, -1
        state.silence_level = max(state.silence_level, int(silence.rule.severity))
        if state.level == before:
            self._mirror(state)
            return None
        rule, last = levels.words_of(silence.rule), silence.last
        return self._change(
            state, before, "silence", silence.at, last.value, rule, offset=last.offset, silence=silence
        )

    def on_heard(self, slot: int, heard: Heard) -> Change | None:
        """End a silence: at once, or where the sensor falls silent again and again after windows with readings."""
        state = self._states.get(slot)
        if state is None or not state.silent:
            return None
        before = state.level
        state.silence_calm = 0
        if state.damping == 1:
            state.silence_level = 0
        if state.level == before:
            self._mirror(state)
            return None
        cause = _window_cause(state, before)
        return self._change(state, before, cause, heard.at, heard.value, "heard again", offset=heard.offset)

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

    def _inside_warning(self, slot: int, window: Window) -> bool:
        """Whether the sensor has a warning range and the whole window lies in it."""
        low, high = self.bounds[slot, :2].tolist()
        return bool((low > -np.inf or high < np.inf) and low <= window.min and window.max <= high)

    def _lower_range(self, state: SlotSeverity, window: Window) -> None:
        """Count calm windows, and lower what the ranges say after enough of them.

        Windows that closed after a breach but ended before it prove nothing.
        """
        if not state.range_level or window.end <= state.breach_at:
            return
        held = held_level(self.clear[state.slot].tolist(), window.min, window.max)
        if held >= state.range_level:
            state.range_calm = 0
            return
        state.range_calm += 1
        if state.range_calm >= DOWN_WINDOWS * state.damping:
            state.range_level = held
            state.range_calm = 0

    def _change(  # noqa: PLR0913  # a Change has as many parts
        self,
        state: SlotSeverity,
        before: int,
        cause: Cause,
        at: int,
        value: float,
        rule: str,
        *,
        offset: int | None = None,
        window: Window | None = None,
        scores: dict[str, float] | None = None,
        spike: Spike | None = None,
        judged: Judged | None = None,
        silence: Silence | None = None,
    ) -> Change:
        """Count and remember the change that `state` has just made."""
        if state.sequence:
            at = max(at, state.changed_at + 1)
        state.changed_at = at
        if before == 0:
            state.damping = min(state.damping * 2, DAMPING_LIMIT) if state.relapse_left else 1
            state.since_ms = at if window is None else window.start
        state.relapse_left = RELAPSE_WINDOWS if state.level == 0 else 0
        state.sequence += 1
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
            offset=spike.offset if spike else offset,
            window=window,
            scores=scores or {},
            spike=spike,
            judged=judged,
            silence=silence,
        )

    def _mirror(self, state: SlotSeverity) -> None:
        self.level[state.slot] = state.level
        self.range_level[state.slot] = state.range_level
        self.busy[state.slot] = state.busy
        self.ruled[state.slot] = bool(state.rules)
        self.silent[state.slot] = state.silent
        self.silence_at[state.slot] = state.silence_at


def _learner_level(anomaly: float, surprise: float) -> int:
    if anomaly < ALARM:
        return 0
    return 2 if surprise >= CRITICAL_SURPRISE else 1


def _lower_spike(state: SlotSeverity, window: Window) -> None:
    """Count windows that began after the last jump, and forget it after enough of them."""
    if not state.spike_level or window.start <= state.spike_at:
        return
    state.spike_calm += 1
    if state.spike_calm >= DOWN_WINDOWS * state.damping:
        state.spike_level = state.spike_calm = 0


def _lower_silence(state: SlotSeverity) -> None:
    """Count windows that closed since a silence ended, and forget it after enough of them."""
    if not state.silence_level or state.silence_calm < 0:
        return
    state.silence_calm += 1
    if state.silence_calm >= state.damping:
        state.silence_level = state.silence_calm = 0


def _weigh(state: SlotSeverity, learner: int, evidence: int, *, calm: bool) -> None:
    """Raise or lower what the learners say; a window that is neither surprising nor calm holds it up."""
    cooling = state.relapse_left > RELAPSE_WINDOWS - COOLDOWN_WINDOWS
    if learner > state.learner_level and not (cooling and learner < Severity.CRITICAL):
        state.learner_level, state.evidence = learner, evidence
    if not calm:
        state.learner_calm = 0
    elif state.learner_level:
        state.learner_calm += 1
        if state.learner_calm >= DOWN_WINDOWS * state.damping:
            state.learner_level = state.learner_calm = 0


def _settle(state: SlotSeverity) -> None:
    """Count down the time after a recovery in which a relapse counts as flapping."""
    if state.relapse_left:
        state.relapse_left -= 1


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


def _range_rule(cause: Cause, bounds: Sequence[float], value: float) -> str:
    low, high = bounds[2:] if cause == "critical_range" else bounds[:2]
    return f"{cause} value < {low!r}" if value < low else f"{cause} value > {high!r}"
