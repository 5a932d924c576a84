"""Inflating beside the event loop: what is small at once, what is large in a thread, within the same bounds."""

from __future__ import annotations

import asyncio
import gzip
import random

import pytest

from streamproc.gateway.inflation import AT_ONCE_BYTES, Inflation
from streamproc.gateway.problems import Problem

LIMIT = 4 * AT_ONCE_BYTES
#: Noise does not shrink, so that its body is large itself; zeros do.
NOISE = random.Random(1).randbytes(2 * AT_ONCE_BYTES)  # noqa: S311  # not for secrets


async def done_at_once(body: bytes, limit: int = LIMIT) -> tuple[bool, bytes]:
    """Inflate; whether it was done before anything else had its turn, and what it came to."""
    task = asyncio.create_task(Inflation(limit).inflate(body, "gzip"))
    turn = asyncio.get_running_loop().create_future()
    task.get_loop().call_soon(lambda: turn.set_result(task.done()))
    return await turn, await task


@pytest.mark.parametrize(
    ("text", "at_once"),
    [
        (b"", True),
        (b"{}", True),
        (bytes(AT_ONCE_BYTES), True),
        (bytes(AT_ONCE_BYTES + 1), False),
        (NOISE, False),
        (bytes(LIMIT), False),
    ],
    ids=["empty", "small", "most", "more", "noise", "limit"],
)
async def test_large_bodies_go_to_a_thread(text: bytes, at_once: bool) -> None:
    """By what they come to; all are inflated alike."""
    assert await done_at_once(gzip.compress(text)) == (at_once, text)


@pytest.mark.parametrize("limit", [1_024, AT_ONCE_BYTES, LIMIT])
@pytest.mark.parametrize("text", [bytes(LIMIT + 1), NOISE * 3], ids=["zeros", "noise"])
async def test_the_bound_is_that_of_the_settings(limit: int, text: bytes) -> None:
    """Wherever it is inflated."""
    with pytest.raises(Problem, match=f"{limit} bytes") as raised:
        await Inflation(limit).inflate(gzip.compress(text), "gzip")
    assert raised.value.kind == "too-large"


async def test_what_is_broken_is_told_from_a_thread_as_well() -> None:
    """One that is cut off, small or large."""
    for text in (b"a" * 100, NOISE):
        with pytest.raises(Problem, match="too soon"):
            await Inflation(LIMIT).inflate(gzip.compress(text)[:-9], "gzip")
