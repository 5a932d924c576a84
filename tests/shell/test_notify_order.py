"""What waits for a receiver goes out in its order, over a real database."""

from __future__ import annotations

import json
import time

import pytest
from aiohttp import web

from streamproc.records import Notification, NotificationKind, Severity
from streamproc.store.protocol import Batch
from streamproc.store.sqlite.store import SqliteStore
from tests.receivers import hooked
from tests.shell.test_notify import STATUS, database, opened, running, sender, tell, until
from tests.store.builders import GROUP, notifications
from tests.store.databases import Sqlite

__all__ = ["database"]
#: They take seconds.
pytestmark = pytest.mark.live


async def test_what_is_tried_again_goes_before_what_came_later(database: Sqlite) -> None:
    """A receiver that was away hears of an alarm before it hears of its end."""
    async with opened(database) as store, hooked() as hook, sender(store, hook.url) as one:
        hook.answers = [web.Response(status=503), web.Response(status=503)]
        async with running(one):
            await tell(store, "alarm")
            await until(lambda: len(hook.requests) >= 1)
            await tell(store, "end")
            await until(lambda: database.rows(STATUS) == [("sent",), ("sent",)])
    told = [json.loads(body)["changes"][0]["sensor"] for _, body in hook.requests]
    assert told == ["alarm", "alarm", "alarm", "end"]


async def remind(store: SqliteStore, sensor: str, kind: NotificationKind, severity: Severity) -> None:
    """Have the sink write a notification of a sensor that is told of."""
    at = round(time.time() * 1000)
    name = f"{sensor}-{at}" if kind == "change" else f"{kind}-{sensor}-{at}"
    row = Notification(
        name, f"e-{sensor}-{at}", sensor, severity, at, f"{kind} {severity.name}", "Look.", kind=kind
    )
    await store.write(Batch(GROUP, notifications=notifications(row)))


async def test_a_receiver_that_was_away_is_reminded_once(database: Sqlite) -> None:
    """Of what lasts; of what is over it hears that it was and that it is over."""
    query = "SELECT COUNT(*) FROM notification_deliveries WHERE message_id IS NOT NULL"
    async with opened(database) as store, hooked() as hook, sender(store, hook.url) as one:
        hook.answers = [web.Response(status=503) for _ in range(1_000)]
        async with running(one):
            await tell(store, "lasts", "over")
            await until(lambda: len(hook.requests) >= 1)
            for number in range(1, 3):
                await remind(store, "lasts", "reminder", Severity.CRITICAL)
                await remind(store, "over", "reminder", Severity.CRITICAL)
                await until(lambda: database.rows(query) == [(2 + 2 * number,)])  # noqa: B023  # waited for at once
            await remind(store, "over", "change", Severity.NORMAL)
            await until(lambda: database.rows(query) == [(7,)])
            away = len(hook.requests)
            hook.answers.clear()
            await until(lambda: not any(row == ("pending",) for row in database.rows(STATUS)))
    told = [
        (each["sensor"], each["title"])
        for _, body in hook.requests[away:]
        for each in json.loads(body)["changes"]
    ]
    assert [title for sensor, title in told if sensor == "over"] == ["over", "change NORMAL"]
    assert [title for sensor, title in told if sensor == "lasts"] == ["lasts", "reminder CRITICAL"]
