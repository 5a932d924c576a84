"""What was told to people, on every store: enrolled once, grouped, held by one, written down."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace as replaced
from functools import partial
from typing import TypeVar

import pytest
from msgspec.structs import replace

from streamproc.core.identity import content_id
from streamproc.errors import StoreUnavailable
from streamproc.records import Notification, NotificationKind, SensorEntry, Severity
from streamproc.store.deliveries import (
    AT_ONCE,
    ERROR_CHARACTERS,
    GONE,
    MOST_CHANGES,
    SETTLED_MS,
    Attempt,
    Claim,
    Grouping,
    Message,
    Policy,
)
from streamproc.store.protocol import Batch, Store
from tests.store.builders import GROUP, START, notifications, save_entries
from tests.store.databases import Database, SqlServer

T = TypeVar("T")

POLICY = Policy("console", group_ms=10_000)
#: A whole second, for not every server keeps their parts.
NOW = START + 60_000
WARN, CRITICAL, NORMAL = Severity.WARN, Severity.CRITICAL, Severity.NORMAL


def told(sensor: str, severity: Severity, seconds: int) -> Notification:
    """A notification of a sensor, so many seconds after START."""
    at = START + seconds * 1000
    name = content_id("notification", sensor, at, int(severity))
    return Notification(
        name, f"event-{name}", sensor, severity, at, f"{severity.name}: {sensor}", "Look at it."
    )


async def write(store: Store, *rows: Notification, device: str | None = None) -> None:
    """Have the store hold these as the sink writes them; their sensors are of this device."""
    known = [entry.sensor for entry in await store.entries()]
    new = dict.fromkeys(row.sensor for row in rows if row.sensor not in known)
    await save_entries(store, [SensorEntry(sensor, device=device, name=f"The {sensor}") for sensor in new])
    await store.write(Batch(GROUP, notifications=notifications(*rows)))


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """The call's result, asked for again where another process is at it just then, as notify does."""
    while True:
        try:
            return await call()
        except StoreUnavailable as error:
            if error.code != "locked":
                raise


async def planned(store: Store, now: int, policy: Policy = POLICY) -> None:
    """Plan until there is nothing more."""
    while await patiently(lambda: store.plan_deliveries(policy, now)):
        pass


async def sent(store: Store, now: int, policy: Policy = POLICY) -> list[Message]:
    """Plan, and send all that is due."""
    await planned(store, now, policy)
    found: list[Message] = []
    claim = Claim("me", now, now + 30_000)
    while message := await patiently(lambda: store.claim_message(policy.channel, claim)):
        assert await patiently(partial(store.settle_message, message, "me", Attempt("sent", now, now)))
        found.append(message)
    return found


def titles(messages: list[Message]) -> list[list[str]]:
    """What each message tells."""
    return [[change.title for change in message.changes] for message in messages]


async def test_changes_of_a_device_go_as_one_message_once(store: Store, database: Database) -> None:
    """After the first has waited; a device's sensors together, others by themselves, and none of them again."""
    await planned(store, NOW)
    await write(store, told("a", WARN, 60), told("b", CRITICAL, 61), device="d")
    await write(store, told("c", WARN, 61))
    assert await sent(store, NOW + 9_000) == []
    assert await sent(store, NOW + 18_000) == []
    messages = await sent(store, NOW + 19_000)
    assert sorted(titles(messages)) == [["WARN: a", "CRITICAL: b"], ["WARN: c"]]
    (first,) = [message for message in messages if len(message.changes) == 2]
    assert (first.scope, first.thread_id, first.attempts) == ("device:d", first.message_id, 0)
    assert (first.changes[0].name, first.changes[0].device, first.changes[0].sensor) == ("The a", "d", "a")
    assert first.changes[0].at == START + 60_000
    assert await sent(store, NOW + 60_000) == []
    query = "SELECT status, attempts, message_id FROM notification_deliveries ORDER BY id"
    assert [row[:2] for row in database.rows(query)] == [("sent", 1)] * 3
    delivered = "SELECT COUNT(*) FROM alert_notifications WHERE delivered_at IS NOT NULL"
    assert database.rows(delivered) == [(3,)]


async def test_a_recovery_goes_on_with_the_thread(store: Store) -> None:
    """So does what gets worse; what comes after the recovery begins another."""
    await planned(store, NOW)
    threads = []
    for number, severity in enumerate((WARN, CRITICAL, NORMAL, WARN)):
        now = NOW + number * 60_000
        await write(store, told("a", severity, 60 * (number + 1)), device="d")
        await planned(store, now)
        (message,) = await sent(store, now + 10_000)
        threads.append((message.thread_id, message.message_id))
    first = threads[0][0]
    assert [thread for thread, _ in threads[:3]] == [first] * 3
    assert threads[3][0] == threads[3][1] != first


def silent(sensor: str, severity: Severity, seconds: int, after: Notification | None = None) -> Notification:
    """That a device is silent as this sensor's event has it; `after` is what another one's had it before."""
    row = told(sensor, severity, seconds)
    event_id = content_id(row.event_id)
    name = row.notification_id + (after.event_id if after else "")
    return replace(row, notification_id=name, event_id=event_id)


@pytest.mark.parametrize("group_by", ["device", "sensor"])
async def test_a_silent_device_that_becomes_graver_goes_on_with_its_thread(
    store: Store, group_by: Grouping
) -> None:
    """Though it is another sensor's event that says so, which has an alarm of its own; and so does the end."""
    policy = replaced(POLICY, group_by=group_by)
    await planned(store, NOW, policy)
    first = silent("a", WARN, 60)
    second = silent("b", CRITICAL, 70, first)
    rows = [told("b", WARN, 50), first, second, silent("c", CRITICAL, 75, second), told("c", NORMAL, 80)]
    threads = []
    for number, row in enumerate(rows, 1):
        await write(store, row, device="d")
        await planned(store, NOW + number * 20_000, policy)
        (message,) = await sent(store, NOW + number * 20_000 + 10_000, policy)
        threads.append(message.threads)
    assert threads[1:] == [threads[1]] * 4 != [threads[0]] * 4


async def test_what_goes_on_with_another_sensors_thread_may_be_planned_with_it(store: Store) -> None:
    """Where each sensor has its own messages, and both wait at once."""
    policy = replaced(POLICY, group_by="sensor")
    await planned(store, NOW, policy)
    first = silent("b", WARN, 60)
    await write(store, first, silent("a", CRITICAL, 70, first), device="d")
    messages = await sent(store, NOW + 20_000, policy)
    messages += await sent(store, NOW + 30_000, policy)
    assert [message.threads for message in messages] == [(messages[0].message_id,)] * 2


async def test_least_severity_and_the_end_of_what_was_told(store: Store, database: Database) -> None:
    """Where CRITICAL alone is told, so is that it is over, and nothing of what was WARN alone."""
    policy = Policy("console", CRITICAL, group_ms=0)
    await planned(store, NOW, policy)
    await write(store, told("a", WARN, 60), told("b", WARN, 60))
    await write(store, told("a", NORMAL, 61), told("b", CRITICAL, 61))
    await write(store, told("b", WARN, 62), told("b", NORMAL, 63))
    messages = await sent(store, NOW + 10_000, policy)
    assert titles(messages) == [["CRITICAL: b", "WARN: b"]]
    query = "SELECT COUNT(*) FROM notification_deliveries WHERE status = 'skipped' AND last_error = 'below CRITICAL'"
    assert database.rows(query) == [(4,)]


async def test_what_is_old_is_not_told(store: Store, database: Database) -> None:
    """Neither what was there long before the channel was, nor what comes when it is too late."""
    await write(store, told("a", CRITICAL, -3_600))
    await planned(store, NOW)
    assert database.rows("SELECT COUNT(*) FROM notification_deliveries") == [(0,)]
    await write(store, told("b", CRITICAL, -30_000), told("c", CRITICAL, 60))
    assert titles(await sent(store, NOW + 20_000, Policy("console", group_ms=0))) == [["CRITICAL: c"]]
    query = "SELECT last_error FROM notification_deliveries WHERE status = 'skipped'"
    assert database.rows(query) == [("too old when it was found",)]


async def test_a_channel_looks_no_further_back_than_it_must(store: Store, database: Database) -> None:
    """It begins with the last minutes, and passes what it has seen once nothing older can come."""
    await write(store, told("a", CRITICAL, -3_600))
    await write(store, told("b", CRITICAL, 0))
    policy = Policy("console", group_ms=0)
    assert titles(await sent(store, NOW, policy)) == [["CRITICAL: b"]]
    look = "SELECT after_id, seen_id FROM notification_channels"
    ((after, seen),) = database.rows(look)
    assert after == seen
    await write(store, told("c", CRITICAL, 60))
    await planned(store, NOW + SETTLED_MS, policy)
    await planned(store, NOW + 2 * SETTLED_MS, policy)
    ((after, newest),) = database.rows(look)
    assert after == newest == seen + 2
    assert len(await sent(store, NOW + 2 * SETTLED_MS, policy)) == 1


async def test_each_channel_is_told_by_itself(store: Store) -> None:
    """What one has sent, the other sends as well, under an identity of its own."""
    other = Policy("email", group_ms=0)
    await planned(store, NOW)
    await planned(store, NOW, other)
    await write(store, told("a", WARN, 60))
    (one,) = await sent(store, NOW + 20_000, Policy("console", group_ms=0))
    (two,) = await sent(store, NOW + 20_000, other)
    assert one.changes == two.changes
    assert one.message_id != two.message_id


async def test_a_message_is_held_by_one(store: Store, database: Database) -> None:
    """Nobody else has it until the lease ends; then who is late writes nothing, and the next knows of the attempt before."""
    policy = Policy("console", group_ms=0)
    await planned(store, NOW, policy)
    await write(store, told("a", WARN, 60))
    await planned(store, NOW, policy)
    second = database.store()
    await second.open()
    try:
        mine = await store.claim_message("console", Claim("me", NOW, NOW + 30_000))
        assert mine is not None
        assert not mine.again
        assert await second.claim_message("console", Claim("you", NOW + 29_000, NOW + 60_000)) is None
        yours = await second.claim_message("console", Claim("you", NOW + 30_000, NOW + 60_000))
        assert yours is not None
        assert (yours.message_id, yours.changes, yours.again) == (mine.message_id, mine.changes, True)
        done = Attempt("sent", NOW + 31_000, NOW + 31_000)
        assert not await store.settle_message(mine, "me", done)
        assert await second.settle_message(yours, "you", done)
        assert not await second.settle_message(yours, "you", done)
    finally:
        await second.close()


async def test_what_failed_is_due_later(store: Store, database: Database) -> None:
    """With its reason, cut to what the column holds; what was given up is not due again."""
    policy = Policy("console", group_ms=0)
    await planned(store, NOW, policy)
    await write(store, told("a", WARN, 60))
    await planned(store, NOW, policy)
    for number, (status, now) in enumerate([("pending", NOW), ("failed", NOW + 60_000)]):
        assert await store.claim_message("console", Claim("me", now - 1_000, now)) is None
        message = await store.claim_message("console", Claim("me", now, now + 1_000))
        assert message is not None
        assert (message.attempts, message.again) == (number, False)
        assert (await store.waiting("console")) == (1, START + 60_000)
        attempt = Attempt("failed" if status == "failed" else "pending", now, now + 60_000, "away " * 200)
        assert await store.settle_message(message, "me", attempt)
    assert await store.claim_message("console", Claim("me", NOW + 600_000, NOW + 700_000)) is None
    assert await store.waiting("console") == (0, None)
    query = "SELECT status, attempts, last_error, sent_at FROM notification_deliveries"
    assert database.rows(query) == [("failed", 2, ("away " * 200)[:ERROR_CHARACTERS], None)]


async def test_a_message_keeps_its_place_unless_others_have_their_turn(store: Store) -> None:
    """What failed goes before what came later, but where it is to be left out; where there is nothing else, nothing does."""
    policy = Policy("console", group_ms=0)
    await planned(store, NOW, policy)
    for number, sensor in enumerate("ab"):
        await write(store, told(sensor, WARN, 60 + number))
        await planned(store, NOW + number, policy)
    claim = Claim("me", NOW + 10, NOW + 20)
    first = await store.claim_message("console", claim)
    assert first is not None
    assert await store.settle_message(first, "me", Attempt("pending", NOW + 10, first.enrolled, "away"))
    other = await store.claim_message("console", replaced(claim, besides=first.message_id))
    again = await store.claim_message("console", claim)
    assert other is not None
    assert again is not None
    assert [titles([message]) for message in (first, other, again)] == [
        [["WARN: a"]],
        [["WARN: b"]],
        [["WARN: a"]],
    ]
    assert await store.claim_message("console", claim) is None


async def test_a_message_of_which_nothing_is_left_is_skipped(store: Store, database: Database) -> None:
    """Who deletes notifications without a cascade stops nobody: the next message is sent."""
    if isinstance(database, SqlServer):
        pytest.skip("its references cascade, whoever deletes")
    policy = Policy("console", group_ms=0)
    await planned(store, NOW, policy)
    await write(store, told("a", WARN, 60), told("b", WARN, 61))
    await planned(store, NOW, policy)
    database.execute("DELETE FROM alert_notifications WHERE title = 'WARN: a'")
    assert await store.claim_message("console", Claim("me", NOW, NOW + 1)) is None
    assert titles(await sent(store, NOW, policy)) == [["WARN: b"]]
    query = "SELECT status, last_error FROM notification_deliveries ORDER BY id"
    assert database.rows(query) == [("skipped", GONE), ("sent", None)]


async def test_many_changes_are_several_messages_of_one_thread(store: Store) -> None:
    """Each of a size that people read; more than are enrolled at once are all there."""
    policy = Policy("console", group_ms=0)
    count = AT_ONCE + MOST_CHANGES // 2
    await planned(store, NOW, policy)
    rows = [told(f"s{number:04}", WARN, 60) for number in range(count)]
    entries = [SensorEntry(row.sensor, device="d") for row in rows]
    await save_entries(store, entries)
    await store.write(Batch(GROUP, notifications=notifications(*rows)))
    messages = await sent(store, NOW + 1_000, policy)
    assert max(len(message.changes) for message in messages) == MOST_CHANGES
    names = [change.sensor for message in messages for change in message.changes]
    assert sorted(names, key=str) == [row.sensor for row in rows]


async def test_those_who_plan_at_once_enroll_once(store: Store, database: Database) -> None:
    """Two processes that see the same news come to one row and one message."""
    policy = Policy("console", group_ms=0)
    await planned(store, NOW, policy)
    await write(store, *[told(f"s{number}", WARN, 60) for number in range(20)], device="d")
    second = database.store()
    await second.open()
    try:
        await asyncio.gather(planned(store, NOW, policy), planned(second, NOW, policy))
        ours, theirs = await asyncio.gather(sent(store, NOW, policy), sent(second, NOW, policy))
    finally:
        await second.close()
    assert len([*ours, *theirs]) == 1
    assert database.rows("SELECT COUNT(*) FROM notification_deliveries") == [(20,)]


async def test_a_deleted_notification_takes_its_deliveries_along(store: Store, database: Database) -> None:
    """Whoever deletes what is old need not know of them; numbers that begin anew are looked at again."""
    policy = Policy("console", group_ms=0)
    await planned(store, NOW, policy)
    await write(store, told("a", WARN, 60), told("b", WARN, 60))
    assert len(await sent(store, NOW, policy)) == 2
    await planned(store, NOW + SETTLED_MS, policy)
    await planned(store, NOW + 2 * SETTLED_MS, policy)
    database.execute("DELETE FROM alert_notifications")
    if isinstance(database, SqlServer):  # of SQLite it depends on who deletes
        assert database.rows("SELECT COUNT(*) FROM notification_deliveries") == [(0,)]
    await write(store, told("c", WARN, 61))
    assert titles(await sent(store, NOW + 2 * SETTLED_MS, policy)) == [["WARN: c"]]


def recalled(sensor: str, kind: NotificationKind, severity: Severity, seconds: int) -> Notification:
    """A notification without a change."""
    row = told(sensor, severity, seconds)
    return replace(row, notification_id=f"{kind}-{row.notification_id}", kind=kind)


async def test_others_are_told_of_escalations_and_what_becomes_of_them(store: Store) -> None:
    """A channel of theirs hears nothing of what went before, all until the end, and nothing of the next alarm."""
    policy = Policy("escalation-email", group_ms=0, for_escalations=True)
    await planned(store, NOW, policy)
    rows = [
        told("a", WARN, 60),
        recalled("a", "reminder", WARN, 61),
        recalled("a", "escalation", WARN, 62),
        recalled("a", "reminder", WARN, 63),
        told("a", CRITICAL, 64),
        told("a", NORMAL, 65),
        told("a", WARN, 66),
    ]
    await write(store, *rows)
    await planned(store, NOW, POLICY)
    messages = await sent(store, NOW + 19_000, policy)
    kinds = [(change.kind, change.severity) for message in messages for change in message.changes]
    assert kinds == [
        ("escalation", "WARN"),
        ("reminder", "WARN"),
        ("change", "CRITICAL"),
        ("change", "NORMAL"),
    ]
    assert sum(len(message.changes) for message in await sent(store, NOW + 30_000)) == len(rows)


async def test_others_are_told_of_a_silent_device_that_becomes_graver(store: Store) -> None:
    """Who was told that nobody looks after it hears of what another sensor's event makes of it, and of its end."""
    policy = Policy("escalation-email", group_ms=0, for_escalations=True)
    await planned(store, NOW, policy)
    first = silent("a", WARN, 60)
    escalated = replace(recalled("a", "escalation", WARN, 61), event_id=first.event_id)
    await write(store, first, escalated, silent("b", CRITICAL, 62, first), told("b", NORMAL, 63))
    messages = await sent(store, NOW + 19_000, policy)
    assert [change.severity for message in messages for change in message.changes] == [
        "WARN",
        "CRITICAL",
        "NORMAL",
    ]


async def test_what_was_given_up_is_sent_again_when_it_is_asked_for(store: Store, database: Database) -> None:
    """Whole messages that have a change as new as that, under their identity, once; however old they are by now."""
    policy = Policy("console", group_ms=0)
    await planned(store, NOW, policy)
    await write(store, told("a", WARN, 60), told("b", CRITICAL, 70), device="d")
    await write(store, told("c", WARN, 60), told("e", CRITICAL, 60))
    await planned(store, NOW + 11_000, policy)
    names = []
    for status, error in (("failed", "away"), ("failed", "refused"), ("sent", None)):
        message = await store.claim_message("console", Claim("me", NOW + 11_000, NOW + 30_000))
        assert message is not None
        assert await store.settle_message(message, "me", Attempt(status, NOW, NOW, error))  # type: ignore[arg-type]
        names.append(message.message_id)
    found = await store.undelivered(START)
    assert [(one.reason, one.messages, one.changes) for one in found] == [("away", 1, 2), ("refused", 1, 1)]
    assert (found[0].oldest, found[0].newest) == (START + 60_000, START + 70_000)
    late = NOW + 10 * policy.age_ms
    assert await store.undelivered(START + 70_001) == []
    assert await store.send_again("console", START + 70_001, late) == 0
    assert await store.send_again("email", START, late) == 0
    assert await store.send_again("console", START + 70_000, late) == 2
    assert await store.send_again("console", START + 70_000, late) == 0
    await planned(store, late, policy)
    again = await store.claim_message("console", Claim("me", late, late + 30_000))
    assert again is not None
    assert (again.message_id, len(again.changes), again.attempts, again.again) == (names[0], 2, 1, False)
    assert (again.age(late, policy.age_ms), again.age(late, 20 * policy.age_ms)) == (0, late - START - 70_000)
    assert await store.settle_message(again, "me", Attempt("sent", late, late))
    assert await store.claim_message("console", Claim("me", late, late + 30_000)) is None
    assert [one.reason for one in await store.undelivered(START)] == ["refused"]
    states = database.rows("SELECT status, last_error FROM notification_deliveries ORDER BY id")
    assert sorted(states, key=str) == [("failed", "refused"), ("sent", None), ("sent", None), ("sent", None)]
