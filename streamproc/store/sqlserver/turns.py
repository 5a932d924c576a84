"""Lets transactions take turns where no row lock would separate them: the second waits until the first has ended."""

from __future__ import annotations

from typing import Any

from streamproc.errors import StoreUnavailable

_TAKE = (
    "SET NOCOUNT ON; DECLARE @turn INT; EXEC @turn = sp_getapplock @Resource = ?, @LockMode = N'Exclusive',"
    " @LockOwner = N'Transaction', @LockTimeout = ?; SELECT @turn"
)


async def take_turn(cursor: Any, resource: str, wait_ms: int, other: str) -> None:
    """Be the only one, until the transaction ends; raises StoreUnavailable, which tells of the `other`, after the wait."""
    await cursor.execute(_TAKE, resource, wait_ms)
    # Where the turn is not had in time, a server may send a result without rows before the one that says so.
    while cursor.description is None and await cursor.nextset():
        pass
    if (await cursor.fetchone())[0] < 0:
        raise StoreUnavailable(other, "locked")
