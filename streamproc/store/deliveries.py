"""Which notifications go to people, and which of them together. Pure, for every kind of database.

A notification is *enrolled* on a channel once, as a row of `notification_deliveries`: to be sent, or skipped with a reason.
Rows of one scope (a device, a site or a sensor) that come close together become one *message*, whose identity is made of
theirs. The process that sends a message first *claims* it, and then *settles* it as sent, failed or to be tried again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, get_args

from streamproc.core.identity import content_id
from streamproc.records import NotificationKind, Severity

Grouping = Literal["device", "site", "sensor"]
Status = Literal["pending", "sent", "failed", "skipped"]
#: How a database's times are read, as milliseconds.
Ms = Callable[[Any], int]
_KINDS: tuple[NotificationKind, ...] = get_args(NotificationKind)

#: Notifications enrolled in one transaction; the next ones follow at once.
AT_ONCE = 500
#: Changes in one message: what a person scrolls through, and some 50 KB of text.
MOST_CHANGES = 100
#: An open transaction may still bring a notification with a number below others'. None is open for longer than a statement
#: may take, 240 s at most (`store.sqlserver.connections`); after that the numbers up to the newest are all there.
SETTLED_MS = 300_000
#: What a channel tells of the time before it was first started: enough that nothing falls between the start of the sink and
#: its own, and no flood of what people know by now.
FIRST_LOOK_MS = 300_000
#: Why a message is not sent of which nothing is left: somebody has deleted the notifications, and not by a cascade.
GONE = "its notifications were deleted"
#: Why a message is not sent that is of reminders alone, of which something later is told or to be told.
OVERTAKEN = "a later one of its alarm is told"
#: Longest error that is kept; both databases hold it.
ERROR_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Policy:
    """What one channel tells, and how it groups changes; times in ms.

    One `for_escalations` tells of alarms that nobody has acknowledged, and from there on of all that becomes of them.
    """

    channel: str
    least: Severity = Severity.WARN
    group_by: Grouping = "device"
    group_ms: int = 10_000
    age_ms: int = 21_600_000
    for_escalations: bool = False


class Found(NamedTuple):
    """A notification that is not enrolled yet, and its sensor's previous one, with what became of that on the channel."""

    notification_id: str
    severity: str
    at: int
    sensor: str | None
    device: str | None
    site: str | None
    before: str | None
    before_severity: str | None
    before_status: str | None


class Enrolled(NamedTuple):
    """What will become of a notification; `follows` is the one that told of its sensor's present alarm before."""

    notification_id: str
    scope: str
    status: Status
    follows: str | None
    reason: str | None


class Loose(NamedTuple):
    """A row that belongs to no message yet; `thread` is that of the row it follows, if that has one."""

    number: int
    notification_id: str
    scope: str
    enrolled_at: int
    at: int
    follows: str | None
    thread: str | None


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that become one message, each as (row's number, thread)."""

    message_id: str
    rows: list[tuple[int, str]]


class Look(NamedTuple):
    """How far a channel has looked: see `notification_channels`; the time in ms."""

    after_id: int
    seen_id: int
    seen_at: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What must be written: rows, messages, and how far was looked (None: no further)."""

    enroll: list[Enrolled] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    look: Look | None = None

    def __bool__(self) -> bool:
        return bool(self.enroll or self.groups or self.look)


@dataclass(frozen=True, slots=True)
class Change:
    """One change of severity as a message tells it; `at` in ms, `name` and `device_name` where the registry has them."""

    notification_id: str
    event_id: str | None
    sensor: str | None
    name: str | None
    device: str | None
    device_name: str | None
    site: str | None
    severity: str
    at: int
    title: str
    text: str

    @property
    def kind(self) -> NotificationKind:
        """Whether it is told as it happened, later, again, or to others."""
        return kind_of(self.notification_id)


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent at once: its changes in time's order, and the threads that they continue.

    `thread_id` is `message_id` where the message begins a thread. `attempts` have been made before; `again`: one of them may
    have arrived, since nobody has said how it ended. `enrolled` is when it was to be sent first, or was asked for again (ms):
    its place among others. `overtaken`: all of it are reminders, later than which there is something of their alarms.
    """

    message_id: str
    channel: str
    threads: tuple[str, ...]
    scope: str
    changes: tuple[Change, ...]
    attempts: int = 0
    again: bool = False
    enrolled: int = 0
    overtaken: bool = False

    @property
    def thread_id(self) -> str:
        """The thread that the message belongs to."""
        return self.threads[0]

    @property
    def newest(self) -> int:
        """The time of its last change, in ms."""
        return max(change.at for change in self.changes)

    def age(self, now: int, age_ms: int) -> int:
        """How old it is of `age_ms` that it may be.

        What was given up, and so has been tried, was asked for again where it was enrolled when it was older.
        """
        asked_again = self.attempts > 0 and self.enrolled - self.newest > age_ms
        return now - (self.enrolled if asked_again else self.newest)


@dataclass(frozen=True, slots=True)
class Claim:
    """Who sends, from when, and until when nobody else does; times in ms. The message `besides` is left out."""

    by: str
    now: int
    until: int
    besides: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """How an attempt ended, and when; `due_at` is the next try if the status is `pending`. Times in ms."""

    status: Status
    at: int
    due_at: int
    error: str | None = None


class Waiting(NamedTuple):
    """How many changes wait on a channel, and the time of the oldest in ms."""

    changes: int
    oldest: int | None


class Undelivered(NamedTuple):
    """Messages of a channel that were given up for one reason: how many, their changes, and the times of these in ms."""

    channel: str
    reason: str
    messages: int
    changes: int
    oldest: int
    newest: int


class Deliveries(Protocol):
    """What `notify` asks of a database; each call is one transaction. All raise StoreUnavailable or StoreError."""

    async def plan_deliveries(self, policy: Policy, now: int) -> Plan:
        """Enroll new notifications and group those that go out together; returns what was written, empty if nothing was.

        One process at a time does so.
        """

    async def claim_message(self, channel: str, claim: Claim) -> Message | None:
        """Claim the message that is due first, if there is one that nobody else holds."""

    async def settle_message(self, message: Message, by: str, attempt: Attempt) -> bool:
        """Record how an attempt ended; False, with nothing written, if another process holds the message by now."""

    async def waiting(self, channel: str) -> Waiting:
        """What still waits to be sent."""

    async def undelivered(self, since: int) -> list[Undelivered]:
        """The messages that were given up with changes from a time (ms) on, by channel, the newest reason first."""

    async def send_again(self, channel: str, since: int, now: int) -> int:
        """Have given-up messages sent again that hold a change from a time (ms) on; returns how many changes they hold."""


def kind_of(notification_id: str) -> NotificationKind:
    """The kind of a notification, by its id: see `records.Notification`.

    >>> kind_of("reminder-5f0c"), kind_of("5f0c")
    ('reminder', 'change')
    """
    kind = notification_id.partition("-")[0]
    return next((known for known in _KINDS if known == kind), "change")


def severity_of(name: str | None) -> Severity:
    """A severity by its name in databases; NORMAL if the name is unknown."""
    return Severity.__members__.get(name or "", Severity.NORMAL)


def enrolled(rows: Sequence[Found], policy: Policy, now: int) -> list[Enrolled]:
    """Decide on notifications, those of a sensor in time's order.

    Told is what is as grave as the policy wants, and what leads down from there: who heard of an alarm hears of its end.
    """
    statuses: dict[str, str] = {}
    decided = []
    for row in rows:
        was = statuses.get(row.before or "", row.before_status)
        before = severity_of(row.before_severity) if was not in (None, "skipped") else Severity.NORMAL
        reason = _unwanted(row, before, policy, now)
        status: Status = "skipped" if reason else "pending"
        statuses[row.notification_id] = status
        follows = row.before if before > Severity.NORMAL else None
        decided.append(Enrolled(row.notification_id, scope_of(row, policy.group_by), status, follows, reason))
    return decided


def _unwanted(row: Found, before: Severity, policy: Policy, now: int) -> str | None:
    if now - row.at > policy.age_ms:
        return "too old when it was found"
    if policy.for_escalations and before == Severity.NORMAL and kind_of(row.notification_id) != "escalation":
        return "not escalated"
    ends = before > Severity.NORMAL and before >= policy.least
    if severity_of(row.severity) < policy.least and not ends:
        return f"below {policy.least.name}"
    return None


def scope_of(row: Found, group_by: Grouping) -> str:
    """What a notification is told together with; a sensor without a device or site stands by itself.

    >>> scope_of(Found("n", "WARN", 0, "boiler-1", None, None, None, None, None), "device")
    'sensor:boiler-1'
    """
    if group_by == "site" and row.site:
        return f"site:{row.site}"
    if group_by != "sensor" and row.device:
        return f"device:{row.device}"
    return f"sensor:{row.sensor or row.notification_id}"


def grouped(rows: Sequence[Loose], policy: Policy, now: int) -> list[Group]:
    """Make messages of the scopes whose first row has waited for `group_ms`, or that fill one."""
    scopes: dict[str, list[Loose]] = {}
    for row in sorted(rows, key=lambda row: (row.at, row.number)):
        scopes.setdefault(row.scope, []).append(row)
    groups = []
    threads: dict[str, str] = {}
    for its in scopes.values():
        waited = now - min(row.enrolled_at for row in its) >= policy.group_ms
        whole = len(its) if waited else len(its) - len(its) % MOST_CHANGES
        groups += [
            _group(its[first : min(first + MOST_CHANGES, whole)], policy.channel, threads)
            for first in range(0, whole, MOST_CHANGES)
        ]
    return groups


def _group(rows: Sequence[Loose], channel: str, threads: dict[str, str]) -> Group:
    """One message; `threads` are those of rows by notification, of messages made just before."""
    message_id = content_id("message", channel, *sorted(row.notification_id for row in rows))
    known = [row.thread or threads.get(row.follows or "") for row in rows]
    own = next(filter(None, known), message_id)
    numbered = [(row.number, thread or own) for row, thread in zip(rows, known, strict=True)]
    threads.update((row.notification_id, thread or own) for row, thread in zip(rows, known, strict=True))
    return Group(message_id, numbered)


def looked(look: Look | None, newest: int, begins_after: int, found: int, now: int) -> Look | None:
    """Up to where the channel has looked now; None where that is as it was. `newest` is the greatest number there is.

    Where numbers begin anew (all rows were deleted), so does the look: what is enrolled already is not enrolled again.
    """
    if look is None:
        return Look(begins_after, begins_after, now)
    if newest < look.after_id:
        return Look(0, newest, now)
    if found < AT_ONCE and now - look.seen_at >= SETTLED_MS:
        return Look(look.seen_id, max(newest, look.seen_id), now)
    return None


def look_of(row: Sequence[Any] | None, ms: Ms) -> Look | None:
    """Up to where a channel has looked; None where it never has."""
    return None if row is None else Look(row[0], row[1], ms(row[2]))


def found_of(rows: Iterable[Sequence[Any]], ms: Ms) -> list[Found]:
    """Notifications of the columns of Found."""
    return [Found(name, severity, ms(at), *rest) for name, severity, at, *rest in rows]


def loose_of(rows: Iterable[Sequence[Any]], ms: Ms) -> list[Loose]:
    """Rows of the columns of Loose."""
    return [
        Loose(number, name, scope, ms(since), ms(at), follows, thread)
        for number, name, scope, since, at, follows, thread in rows
    ]


def _change_of(row: Sequence[Any], at: int) -> Change:
    (notification_id, event_id, sensor, name, device, device_name, site, severity, title, text) = row
    return Change(
        notification_id, event_id, sensor, name, device, device_name, site, severity, at, title, text
    )


def message_of(message_id: str, channel: str, rows: Sequence[Sequence[Any]], ms: Ms) -> Message:
    """A message of its rows in time's order.

    A row is its scope, thread, attempts, whether it was held before, when it was enrolled, whether it is a reminder that was
    overtaken; then its change, the time last.
    """
    threads = dict.fromkeys(row[1] for row in rows)
    return Message(
        message_id,
        channel,
        tuple(threads),
        rows[0][0],
        tuple(_change_of(row[6:-1], ms(row[-1])) for row in rows),
        max(row[2] for row in rows),
        any(row[3] for row in rows),
        max(ms(row[4]) for row in rows),
        all(row[5] for row in rows),
    )


def waiting_of(row: Sequence[Any], ms: Ms) -> Waiting:
    """How many changes wait, and since when."""
    count, oldest = row
    return Waiting(count, None if oldest is None else ms(oldest))


def undelivered_of(rows: Iterable[Sequence[Any]], ms: Ms) -> list[Undelivered]:
    """What was given up, of the columns of Undelivered."""
    return [
        Undelivered(channel, reason, messages, changes, ms(oldest), ms(newest))
        for channel, reason, messages, changes, oldest, newest in rows
    ]
