"""Reminders that waited while something later of their alarm came, on every store."""

from __future__ import annotations

import pytest

from streamproc.records import Notification
from streamproc.store.deliveries import OVERTAKEN, Attempt, Claim, Message, Policy
from streamproc.store.protocol import Store
from tests.store.databases import Database
from tests.store.test_deliveries import CRITICAL, NORMAL, NOW, WARN, planned, recalled, told, write

POLICY = Policy("console", group_ms=0)


async def waited(store: Store, *rows: Notification, policy: Policy = POLICY) -> list[tuple[Message, bool]]:
    """Have these come while the channel is away, each by itself; then its messages, and whether they are skipped."""
    await planned(store, NOW, policy)
    for number, row in enumerate(rows):
        await write(store, row, device="d")
        await planned(store, NOW + number, policy)
    found = []
    now = NOW + 100
    while message := await store.claim_message(policy.channel, Claim("me", now, now + 30_000)):
        found.append((message, message.overtaken))
        attempt = Attempt("skipped", now, now, OVERTAKEN) if message.overtaken else Attempt("sent", now, now)
        assert await store.settle_message(message, "me", attempt)
    return found


def kinds(found: list[tuple[Message, bool]]) -> list[tuple[str, str]]:
    """What is sent, as (kind, severity)."""
    return [
        (change.kind, change.severity)
        for message, overtaken in found
        if not overtaken
        for change in message.changes
    ]


async def test_the_newest_reminder_of_what_lasts_is_sent(store: Store, database: Database) -> None:
    """After the alarm, in its thread; the others are skipped, with why."""
    reminders = [recalled("a", "reminder", WARN, 61 + number) for number in range(3)]
    found = await waited(store, told("a", WARN, 60), *reminders)
    assert kinds(found) == [("change", "WARN"), ("reminder", "WARN")]
    assert found[-1][0].changes[0].notification_id == reminders[-1].notification_id
    assert len({message.thread_id for message, _ in found}) == 1
    query = "SELECT status, last_error FROM notification_deliveries ORDER BY id"
    skipped = ("skipped", OVERTAKEN)
    assert database.rows(query) == [("sent", None), skipped, skipped, ("sent", None)]


@pytest.mark.parametrize("severity", [NORMAL, CRITICAL])
async def test_a_reminder_of_what_is_otherwise_by_now_is_not_sent(store: Store, severity: int) -> None:
    """Neither of an alarm that is over nor of one that has become graver; that, people hear, and of the next alarm."""
    change = told("a", type(WARN)(severity), 62)
    found = await waited(store, told("a", WARN, 60), recalled("a", "reminder", WARN, 61), change)
    assert kinds(found) == [("change", "WARN"), ("change", change.severity.name)]


async def test_what_ends_after_reminders_that_were_skipped_is_told(store: Store) -> None:
    """Who was told of the alarm is told of its end, though what came between them was not sent."""
    rows = [told("a", WARN, 60), *(recalled("a", "reminder", WARN, 61 + number) for number in range(2))]
    assert len(kinds(await waited(store, *rows))) == 2
    assert kinds(await waited(store, told("a", NORMAL, 70))) == [("change", "NORMAL")]


async def test_escalations_are_no_reminders(store: Store) -> None:
    """They are told, and the newest reminder after them."""
    policy = Policy("escalation-email", group_ms=0, for_escalations=True)
    rows = [
        told("a", WARN, 60),
        recalled("a", "reminder", WARN, 61),
        recalled("a", "escalation", WARN, 62),
        recalled("a", "reminder", WARN, 63),
        recalled("a", "reminder", WARN, 64),
    ]
    assert kinds(await waited(store, *rows, policy=policy)) == [("escalation", "WARN"), ("reminder", "WARN")]


async def test_what_people_hear_first_is_sent(store: Store) -> None:
    """A reminder, where the channel never heard of the alarm itself."""
    rows = [recalled("b", "reminder", WARN, 61), recalled("b", "reminder", WARN, 62), told("b", NORMAL, 63)]
    assert kinds(await waited(store, *rows)) == [("reminder", "WARN"), ("change", "NORMAL")]


async def test_a_message_of_which_something_is_news_is_sent_whole(store: Store) -> None:
    """Of a device of which one sensor lasts and another is new in alarm; what is of one sensor overtakes no other's."""
    await planned(store, NOW, POLICY)
    await write(store, told("a", WARN, 60), device="d")
    await planned(store, NOW, POLICY)
    await write(store, recalled("a", "reminder", WARN, 61), told("b", WARN, 62), device="d")
    await planned(store, NOW, POLICY)
    found = await waited(store, recalled("a", "reminder", WARN, 63), told("b", NORMAL, 64))
    assert kinds(found) == [
        ("change", "WARN"),
        ("reminder", "WARN"),
        ("change", "WARN"),
        ("reminder", "WARN"),
        ("change", "NORMAL"),
    ]
