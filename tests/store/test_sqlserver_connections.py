"""Connections to a real server: what becomes of them when it goes, when a call is given up, and when a row is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from time import monotonic
from typing import Any

import pytest

from streamproc.errors import RowsRefused, StoreError, StoreUnavailable
from streamproc.store.sqlserver import driver
from streamproc.store.sqlserver.connections import Connections, Limits
from tests.slowness import in_time
from tests.store.tsql import dsn, made_login, on_a_server
from tests.store.wire import Wire, wired

pytestmark = on_a_server

#: A statement that is held back fails after this and the 4 s that the driver takes to give it up.
QUICK = Limits(login_s=10, query_s=1, size=2)
#: For the others a slow server may take its time.
PATIENT = Limits(login_s=60, query_s=60, size=2)


@asynccontextmanager
async def connections(limits: Limits = PATIENT) -> AsyncIterator[tuple[Connections, Wire]]:
    """Connections over a wire that can be cut."""
    with wired() as (wire, text):
        opened = Connections(text, "there", limits)
        await opened.open()
        try:
            yield opened, wire
        finally:
            await opened.close()


async def asked(opened: Connections, query: str) -> Any:
    """The first value that a query gives."""
    async with opened.transaction() as connection:
        cursor = await connection.execute(query)
        row = await cursor.fetchone()
        await cursor.close()
    return row[0]


async def done(
    opened: Connections,
    *statements: str,
    commits: bool = True,
    fails: Exception | None = None,
    before_commit: Callable[[], None] = lambda: None,
) -> None:
    """Run statements in one transaction."""
    async with opened.transaction(commits=commits) as connection:
        for statement in statements:
            await (await connection.execute(statement)).close()
        before_commit()
        if fails is not None:
            raise fails


async def allowed_s(opened: Connections, *, fails: bool = False) -> int:
    """How long a statement may take on the connection that is next, in a transaction that is committed unless it `fails`."""
    with suppress(ZeroDivisionError):
        async with opened.transaction() as connection:
            allowed: int = connection.timeout
            if fails:
                raise ZeroDivisionError
    return allowed


async def test_a_connection_serves_one_transaction_after_another() -> None:
    """One login is enough for them."""
    async with connections() as (opened, wire):
        sessions = {await asked(opened, "SELECT @@SPID") for _ in range(5)}
        assert (len(sessions), wire.logins) == (1, 1)


async def test_no_more_connections_than_there_may_be() -> None:
    """Ten at once share two, and all have their turn."""
    async with connections() as (opened, wire):
        answers = await asyncio.gather(*(asked(opened, f"SELECT {number}") for number in range(10)))
        assert answers == list(range(10))
        assert wire.logins == 2


async def test_what_was_not_committed_is_gone() -> None:
    """An error of the caller's own undoes the transaction, and so does one that is not to commit; the connection stays."""
    async with connections() as (opened, wire):
        with pytest.raises(ZeroDivisionError):
            await done(opened, "CREATE TABLE #rows (x INT)", fails=ZeroDivisionError())
        await done(opened, "CREATE TABLE #rows (x INT)", commits=False)
        await done(opened, "CREATE TABLE #rows (x INT)")
        assert await asked(opened, "SELECT COUNT(*) FROM #rows") == 0
        assert wire.logins == 1


async def test_a_refused_row_costs_no_connection() -> None:
    """It is RowsRefused, and nothing of its transaction is left."""
    async with connections() as (opened, wire):
        await done(opened, "CREATE TABLE #rows (x INT NOT NULL PRIMARY KEY)")
        with pytest.raises(RowsRefused, match="2627"):
            await done(opened, "INSERT INTO #rows VALUES (1)", "INSERT INTO #rows VALUES (1)")
        assert await asked(opened, "SELECT COUNT(*) FROM #rows") == 0
        assert wire.logins == 1


async def test_a_server_that_was_restarted_is_met_again() -> None:
    """While it is away the error says so; afterwards idle connections are not handed out, and no call fails."""
    async with connections() as (opened, wire):
        await asyncio.gather(*(asked(opened, "SELECT 1") for _ in range(2)))
        wire.cut()
        with pytest.raises(StoreUnavailable) as caught:
            await asked(opened, "SELECT 1")
        assert caught.value.code in ("connection_lost", "cannot_open")
        wire.mend()
        assert await asked(opened, "SELECT 1") == 1


async def test_idle_connections_are_asked_whether_they_are_there() -> None:
    """All were lost while nothing was asked: the next call succeeds all the same."""
    async with connections(Limits(login_s=60, query_s=60, size=2, idle_s=0)) as (opened, wire):
        await asyncio.gather(*(asked(opened, "SELECT 1") for _ in range(2)))
        wire.cut()
        wire.mend()
        assert await asyncio.gather(*(asked(opened, f"SELECT {number}") for number in range(2))) == [0, 1]


async def test_a_network_that_is_silent_is_given_up() -> None:
    """The call fails as its time is up, in the commit as well; once the network is back, the next one succeeds."""
    async with connections(QUICK) as (opened, wire):
        with pytest.raises(StoreUnavailable) as caught:
            await done(opened, "SELECT 1", before_commit=wire.hold)
        assert caught.value.code in ("timeout", "connection_lost")
        wire.cut()
        wire.mend()
        assert await asked(opened, "SELECT 1") == 1


async def test_what_was_given_up_gets_more_time() -> None:
    """Twice as long each time, so that a server that is slow is not asked the same for ever; as before once it answers."""
    async with connections(replace(QUICK, idle_s=0)) as (opened, wire):
        for allowed in (1, 2):
            assert await allowed_s(opened, fails=True) == allowed
            with pytest.raises(StoreUnavailable, match=r"HYT00|HY008"):
                await done(opened, "SELECT 1", before_commit=wire.hold)
            wire.cut()
            wire.mend()
        assert await allowed_s(opened, fails=True) == 4
        await done(opened, "SELECT 1")
        wire.cut()
        wire.mend()
        assert await allowed_s(opened) == 1


async def test_a_cancelled_call_costs_its_connection_alone() -> None:
    """Whoever cancels does not wait; the connection is closed when the call has ended, and others go on."""
    async with connections(QUICK) as (opened, wire):
        began = asyncio.Event()

        async def stuck() -> None:
            async with opened.transaction() as connection:
                wire.hold()
                began.set()
                await connection.execute("SELECT 1")

        task = asyncio.create_task(stuck())
        await began.wait()
        asked_at = monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert in_time(monotonic() - asked_at, QUICK.query_s)
        wire.cut()
        wire.mend()
        assert await asked(opened, "SELECT 1") == 1


async def test_a_closed_one_says_so() -> None:
    """Whoever tries again meanwhile is about to end as well."""
    async with connections() as (opened, _):
        pass
    with pytest.raises(StoreUnavailable) as caught:
        await asked(opened, "SELECT 1")
    assert caught.value.code == "closed"


async def test_no_error_of_a_login_tells_the_password() -> None:
    """Not the text, and nothing that hangs on it: a server that is away, and a password that is wrong."""
    secret = "not-the-password;{}"  # noqa: S105  # it opens nothing
    for text, kind in (
        (dsn(PWD=secret), StoreError),
        (dsn(Server="127.0.0.1,1", PWD=secret), StoreUnavailable),
    ):
        opened = Connections(text, "there", Limits(login_s=2))
        with pytest.raises(kind) as caught:
            await opened.open()
        assert secret not in repr(caught.value) + repr(caught.value.__cause__)
        await opened.close()


async def test_a_password_of_any_characters_gets_through() -> None:
    """What a connection string has its own use for, spaces at the ends, and letters of all kinds."""
    secret = " ;{a}=}};b'\"ñ\u00e9 Aa1!"  # noqa: S105  # of a login made here
    async with made_login(secret) as login:
        opened = Connections(dsn(UID=login, PWD=secret), "there", PATIENT)
        try:
            assert await asked(opened, "SELECT SUSER_NAME()") == login
        finally:
            await opened.close()


def test_the_driver_managers_own_pool_is_off() -> None:
    """It would hand out connections that are long gone, where odbcinst.ini turns it on."""
    assert driver.pyodbc().pooling is False
