"""A trial's comparison, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from streamproc.core.counted import counted
from streamproc.records import Severity
from streamproc.registry import tables
from streamproc.registry.spans import length_text, moment_text
from streamproc.store.trial_history import TrialHistory
from streamproc.trials.comparing import Compared, Span, total

_HEAD = (
    "sensor",
    "told",
    "trial",
    "both",
    "only told",
    "only trial",
    "trial sooner by",
    "WARN told / trial",
    "CRITICAL told / trial",
)


def words(name: str, history: TrialHistory, span: Span, found: Sequence[Compared]) -> list[str]:
    """The sentences above the table."""
    every = total(found)
    alike = sum(not one.differs for one in found)
    of = f"trial {name}, version {history.version}: {counted(len(found), 'sensor')}"
    both = f"{every.both} of both, {every.only_live} only told, {every.only_trial} only by the trial"
    lines = [
        f"{of} from {moment_text(span.since)} to {moment_text(span.until)}",
        f"alarms told {every.live}, by the trial {every.trial}: {both}",
    ]
    if every.lead is not None:
        lines.append(f"of both, the trial was {_lead(every.lead)} in the middle")
    if alike:
        lines.append(f"the same in both: {counted(alike, 'sensor')}")
    return lines


def table(found: Sequence[Compared], most: int) -> Table:
    """The sensors that had an alarm in either, at most so many, and all of them together."""
    made = tables.of(*_HEAD)
    shown = [one for one in found if one.live or one.trial or one.differs]
    for one in shown[:most]:
        made.add_row(*_row(one))
    if len(shown) > most:
        made.add_row(f"… and {len(shown) - most} more")
    if len(shown) > 1:
        made.add_row(*_row(total(found), "all"))
    return made


def plain(name: str, history: TrialHistory, span: Span, found: Sequence[Compared]) -> dict[str, Any]:
    """The same as JSON: times in ms."""
    return {
        "trial": name,
        "version": history.version,
        "since": span.since,
        "until": span.until,
        "within_ms": span.within_ms,
        "all": _plain(total(found)),
        "sensors": {one.sensor: _plain(one) for one in found},
    }


def _row(one: Compared, name: str | None = None) -> tuple[str, ...]:
    return (
        escape(name or one.sensor),
        *map(str, (one.live, one.trial, one.both, one.only_live, one.only_trial)),
        "" if one.lead is None else _lead(one.lead),
        *(
            " / ".join(_length(lasted.get(severity, 0)) for lasted in (one.live_lasted, one.trial_lasted))
            for severity in (Severity.WARN, Severity.CRITICAL)
        ),
    )


def _lead(ms: float) -> str:
    """A lead in words.

    >>> _lead(90_000), _lead(-1_500), _lead(0)
    ('1m30s sooner', '1.5 s later', 'no sooner')
    """
    if not ms:
        return "no sooner"
    return f"{_length(abs(ms))} {'sooner' if ms > 0 else 'later'}"


def _length(ms: float) -> str:
    if not ms:
        return "-"
    return f"{ms / 1000:g} s" if ms < 10_000 else length_text(round(ms / 1000) * 1000)  # noqa: PLR2004  # whole seconds tell enough then


def _plain(one: Compared) -> dict[str, Any]:
    return {
        "watched_ms": one.watched,
        "told": one.live,
        "trial": one.trial,
        "both": one.both,
        "only_told": one.only_live,
        "only_trial": one.only_trial,
        "lead_ms": one.lead,
        "told_ms": {severity.name: ms for severity, ms in one.live_lasted.items()},
        "trial_ms": {severity.name: ms for severity, ms in one.trial_lasted.items()},
    }
