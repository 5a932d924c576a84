"""Turns on a real server: one transaction at a time."""

from __future__ import annotations

import pytest

from streamproc.errors import StoreUnavailable
from streamproc.store.sqlserver.connections import Limits, connect
from streamproc.store.sqlserver.turns import take_turn
from tests.store.tsql import dsn, made_database, on_a_server

pytestmark = on_a_server


async def test_a_turn_ends_with_its_transaction() -> None:
    """Until then another is told who has it, once it has waited for as long as it may."""
    async with made_database() as name:
        links = [await connect(dsn(database=name), "the test's database", Limits()) for _ in range(2)]
        first, second = [await link.connection.cursor() for link in links]
        await take_turn(first, "a-turn", 100, "another is at it")
        with pytest.raises(StoreUnavailable, match="another is at it") as told:
            await take_turn(second, "a-turn", 100, "another is at it")
        assert told.value.code == "locked"
        await links[1].connection.rollback()
        await take_turn(second, "another-turn", 100, "another is at it")
        await links[0].connection.commit()
        await take_turn(second, "a-turn", 60_000, "another is at it")
        for link in links:
            await link.close()
