"""Compares a trial's alarms with the live ones: common, missing and additional alarms, and time by severity. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

from streamproc.records import Severity
from streamproc.store.trial_history import SeverityChange, TrialHistory

#: Alarms that begin within so many ms of one another are one, though neither lasts until the other begins.
WITHIN_MS = 60_000


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when (ms, exclusive), and how near alarms of both must begin to be one."""

    since: int
    until: int
    within_ms: int = WITHIN_MS


@dataclass(slots=True)
class Alarm:
    """A time in which a sensor was not NORMAL; one that was already so when the comparison begins has not `begun`."""

    begin: int
    end: int
    worst: Severity
    begun: bool = True


@dataclass(slots=True)
class Course:
    """How one judgement of a sensor went: its alarms, and how long (ms) it was WARN and CRITICAL."""

    alarms: list[Alarm] = field(default_factory=list)
    lasted: dict[Severity, int] = field(default_factory=lambda: defaultdict(int))


@dataclass(frozen=True, slots=True)
class Compared:
    """One sensor, or all of them: alarms that were told, that the trial would have told, and both.

    `leads` (ms) are by how much sooner the trial's alarms of `both` began; `watched` (ms) is for how long.
    """

    sensor: str
    watched: int
    live: int
    trial: int
    both: int
    leads: list[int]
    live_lasted: dict[Severity, int]
    trial_lasted: dict[Severity, int]

    @property
    def only_live(self) -> int:
        """Alarms that the trial would not have told."""
        return self.live - self.both

    @property
    def only_trial(self) -> int:
        """Alarms that only the trial would have told."""
        return self.trial - self.both

    @property
    def lead(self) -> float | None:
        """The lead in the middle, None where there is none."""
        return median(self.leads) if self.leads else None

    @property
    def differs(self) -> bool:
        """Whether the two were anything but the same."""
        return bool(self.only_live or self.only_trial or any(self.leads)) or (
            self.live_lasted != self.trial_lasted
        )


def compared(history: TrialHistory, told: Iterable[SeverityChange], span: Span) -> list[Compared]:
    """Each sensor of a trial, those that differ most first."""
    ours, theirs = _by_sensor(history.changes), _by_sensor(told)
    every = (_sensor(sensor, its, theirs.get(sensor, []), span) for sensor, its in ours.items())
    return sorted(
        (one for one in every if one is not None),
        key=lambda one: (-(one.only_live + one.only_trial), -(one.live + one.trial), one.sensor),
    )


def total(every: Sequence[Compared]) -> Compared:
    """All sensors as one."""
    lasted: tuple[dict[Severity, int], dict[Severity, int]] = ({}, {})
    for one in every:
        for whole, part in zip(lasted, (one.live_lasted, one.trial_lasted), strict=True):
            for severity, ms in part.items():
                whole[severity] = whole.get(severity, 0) + ms
    return Compared(
        sensor="",
        watched=sum(one.watched for one in every),
        live=sum(one.live for one in every),
        trial=sum(one.trial for one in every),
        both=sum(one.both for one in every),
        leads=[lead for one in every for lead in one.leads],
        live_lasted=lasted[0],
        trial_lasted=lasted[1],
    )


def _by_sensor(changes: Iterable[SeverityChange]) -> dict[str, list[SeverityChange]]:
    found: dict[str, list[SeverityChange]] = defaultdict(list)
    for change in changes:
        found[change.sensor].append(change)
    return found


def _sensor(
    sensor: str, tried: Sequence[SeverityChange], told: Sequence[SeverityChange], span: Span
) -> Compared | None:
    """One sensor, from its begin in the trial on; None where that is after the span."""
    begin = next((change for change in tried if change.is_begin), None)
    changes = [change for change in tried if not change.is_begin]
    started = begin.at if begin else 0
    if not started:  # the trial does not say when it was put: then its first change counts
        started = min(change.at for change in (*changes, *told)) if changes or told else span.since
    told = [change for change in told if change.at >= started]
    first = begin.severity if begin else (*changes, *told)[0].previous
    since = max(started, span.since)
    if since >= span.until:
        return None
    live, trial = (_course(first, its, since, span.until) for its in (told, changes))
    both, leads = _paired(live.alarms, trial.alarms, span.within_ms)
    return Compared(
        sensor,
        span.until - since,
        sum(alarm.begun for alarm in live.alarms),
        sum(alarm.begun for alarm in trial.alarms),
        both,
        leads,
        dict(live.lasted),
        dict(trial.lasted),
    )


def _course(first: Severity, changes: Iterable[SeverityChange], since: int, until: int) -> Course:
    """How a judgement went that stood at `first` before these changes."""
    found, severity, at = Course(), first, since
    for change in changes:
        if change.at >= until:
            break
        if change.at > since:
            _go_on(found, severity, at, change.at, begun=at > since)
            at = change.at
        severity = change.severity
    _go_on(found, severity, at, until, begun=at > since)
    return found


def _go_on(course: Course, severity: Severity, begin: int, end: int, *, begun: bool) -> None:
    """Take in that a severity lasted from one time to another."""
    if severity is Severity.NORMAL:
        return
    course.lasted[severity] += end - begin
    last = course.alarms[-1] if course.alarms else None
    if last is not None and last.end == begin:
        last.end, last.worst = end, max(last.worst, severity)
    else:
        course.alarms.append(Alarm(begin, end, severity, begun))


def _paired(live: list[Alarm], trial: list[Alarm], within_ms: int) -> tuple[int, list[int]]:
    """How many alarms both have told, and by how much sooner the trial did.

    Two are one where they overlap or begin within so many ms of each other; each is paired once, in the order of time.
    """
    both, leads, at = 0, list[int](), 0
    for alarm in live:
        while at < len(trial) and trial[at].end <= alarm.begin and alarm.begin - trial[at].begin > within_ms:
            at += 1
        if at == len(trial):
            break
        other = trial[at]
        if other.begin >= alarm.end and other.begin - alarm.begin > within_ms:
            continue
        at += 1
        if alarm.begun and other.begun:
            both += 1
            leads.append(alarm.begin - other.begin)
    return both, leads
