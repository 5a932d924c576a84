"""How a closed window moves each kind of evidence: up after so many windows in a row, down after so many calm ones."""

from __future__ import annotations

from typing import NamedTuple

from streamproc.core import flapping
from streamproc.core.changes import Window
from streamproc.core.rules import levels
from streamproc.core.slot_severity import SlotSeverity
from streamproc.records import Severity
from streamproc.records.alerting import PolicyEntry

#: Windows after a recovery in which learners raise nothing below CRITICAL.
COOLDOWN_WINDOWS = 10
#: A sensor that goes up again within so many windows of its recovery relapses: it must be calm twice as long
#: each time.
RELAPSE_WINDOWS = 60


class Said(NamedTuple):
    """What one window says by itself.

    `outside` is the range that a reading of it is out of, `held` what its values hold up of ranges. `told` is what learners
    ask for, `surprising` the same where it only repeats what they have told, `evidence` theirs; `calm`: they find nothing.
    """

    outside: int
    held: int
    told: int
    surprising: int
    evidence: int
    calm: bool


def weigh(state: SlotSeverity, window: Window, said: Said, policy: PolicyEntry) -> bool:
    """Take one window in, after the rules for its size; whether readings outside a range have raised with it."""
    before, calm_windows = state.level, policy.down_windows * state.damping
    lower_range(state, window, said.held, calm_windows)
    lower_spike(state, window, calm_windows)
    lower_silence(state)
    raised = raise_range(state, window, said.outside, policy.up_windows)
    asked = raise_learners(state, said.told, said.surprising, policy.up_windows)
    weigh_learners(state, asked, said, calm_windows)
    gravest = max(said.outside, said.surprising, jump_in(state, window), levels.holding(state.rules))
    hold(state, before, gravest, policy)
    return raised


def hold(state: SlotSeverity, before: int, said: int, policy: PolicyEntry) -> None:
    """Remember what the window said, and hold up what is up while the sensor flaps; NORMAL is nothing to flap from."""
    state.states = flapping.pushed(state.states, said) if policy.flapping else 0
    level = state.level
    flaps = level > 0 and flapping.flaps(state.states, already=state.held > 0)
    state.held = max(before, level) if flaps else 0


def lower_range(state: SlotSeverity, window: Window, held: int, calm_windows: int) -> None:
    """Count calm windows, and lower what the ranges say after enough of them; `held` is what its values hold up.

    Windows that closed after a breach but ended before it prove nothing: a lesser one holds up no more than itself.
    """
    breach_at = state.critical_at if state.range_level == Severity.CRITICAL else state.breach_at
    if not state.range_level or window.end <= breach_at:
        return
    if held >= state.range_level:
        state.range_calm = 0
        return
    state.range_calm += 1
    if state.range_calm >= calm_windows:
        state.range_level = held if window.end > state.breach_at else max(held, Severity.WARN)
        state.range_calm = 0


def lower_spike(state: SlotSeverity, window: Window, calm_windows: int) -> None:
    """Count windows that began after the last jump, and forget it after enough of them."""
    if not state.spike_level or window.start <= state.spike_at:
        return
    state.spike_calm += 1
    if state.spike_calm >= calm_windows:
        state.spike_level = state.spike_calm = 0


def lower_silence(state: SlotSeverity) -> None:
    """Count windows that closed since a silence ended, and forget it after enough of them."""
    if not state.silence_level or state.silence_calm < 0:
        return
    state.silence_calm += 1
    if state.silence_calm >= state.damping:
        state.silence_level = state.silence_calm = 0


def raise_range(state: SlotSeverity, window: Window, outside: int, up_windows: int) -> bool:
    """Count windows with a reading `outside` a range, and raise after enough of them in a row; whether it did.

    Where one is enough the reading itself has raised.
    """
    if window.end > state.breach_at:
        state.breached = False
    if up_windows == 1:
        state.breach_runs = (0, 0)
        return False
    state.breach_runs, asked = _counted(state.breach_runs, outside, outside, up_windows)
    if asked <= state.range_level:
        return False
    state.range_level, state.range_calm = asked, 0
    return True


def raise_learners(state: SlotSeverity, told: int, surprising: int, up_windows: int) -> int:
    """Count windows in a row that learners find `surprising`, from one on that they have `told`; what they ask for by now."""
    if up_windows == 1:
        state.learner_runs = (0, 0)
        return told
    state.learner_runs, asked = _counted(state.learner_runs, told, surprising, up_windows)
    return asked


def weigh_learners(state: SlotSeverity, asked: int, said: Said, calm_windows: int) -> None:
    """Raise or lower what the learners say; a window that is neither surprising nor calm holds it up."""
    cooling = state.relapse_left > RELAPSE_WINDOWS - COOLDOWN_WINDOWS
    if asked > state.learner_level and not (cooling and asked < Severity.CRITICAL):
        state.learner_level, state.evidence = asked, said.evidence
    if said.told or not said.calm:
        state.learner_calm = 0
    elif state.learner_level:
        state.learner_calm += 1
        if state.learner_calm >= calm_windows:
            state.learner_level = state.learner_calm = 0


def settle(state: SlotSeverity) -> None:
    """Count down the time after a recovery in which going up again is a relapse."""
    if state.relapse_left:
        state.relapse_left -= 1


def jump_in(state: SlotSeverity, window: Window) -> int:
    """The gravest jump in the window, which is forgotten with it."""
    if not state.jumps:
        return 0
    found = max((jump for start, jump in state.jumps.items() if start == window.start), default=0)
    state.jumps = {start: jump for start, jump in state.jumps.items() if start > window.start}
    return found


def _counted(
    runs: tuple[int, int], begins: int, goes_on: int, up_windows: int
) -> tuple[tuple[int, int], int]:
    """The runs of windows that ask for WARN or more and for CRITICAL, with one more, and what they ask for together."""
    warn, critical = (
        run + 1 if goes_on >= level and (run or begins >= level) else 0
        for run, level in zip(runs, (Severity.WARN, Severity.CRITICAL), strict=True)
    )
    asked = Severity.CRITICAL if critical >= up_windows else Severity(int(warn >= up_windows))
    # No count beyond what is asked for says more.
    return (min(warn, up_windows), min(critical, up_windows)), int(asked)
