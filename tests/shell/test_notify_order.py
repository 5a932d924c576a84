"""What waits for a receiver goes out in its order, over a real database."""

from __future__ import annotations

import json

import pytest
from aiohttp import web

from tests.receivers import hooked
from tests.shell.test_notify import STATUS, database, opened, running, sender, tell, until
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
            await until(lambda: len(hook.requests) == 1)
            await tell(store, "end")
            await until(lambda: database.rows(STATUS) == [("sent",), ("sent",)])
    told = [json.loads(body)["changes"][0]["sensor"] for _, body in hook.requests]
    assert told == ["alarm", "alarm", "alarm", "end"]
