"""The writer in a process that is killed, on a real database."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import pytest

from tests.live.processes import SOON_S
from tests.store.builders import GROUP, PLACE
from tests.store.databases import Database

_FOR_EVER = """
import asyncio
from streamproc.registry.following import Whole
from streamproc.settings import load
from streamproc.sink.writer import Writer
from streamproc.store import connect
from tests.shell.sink_bench import singles
from tests.store.builders import PLACE

async def main():
    settings = load(auto_register=True)
    writer = Writer(connect(settings), settings, None, Whole())
    following = (await writer.positions([PLACE])).get(PLACE, 0)
    while True:
        await writer.write([singles(following, 50)])
        following += 50
        print(following, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("kills", [3])
async def test_killed_at_any_time_each_row_is_there_once(held: Database, kills: int) -> None:
    """However often it is killed, its rows are those before the database's offset, each once."""
    told = 0
    for _ in range(kills):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _FOR_EVER, stdout=asyncio.subprocess.PIPE, env=os.environ | held.variables
        )
        assert process.stdout is not None
        for _ in range(20):
            told = int(await asyncio.wait_for(process.stdout.readline(), SOON_S))
        process.kill()
        await asyncio.wait_for(process.communicate(), SOON_S)
    following, stored = await seen(held)
    assert following >= told > 0
    expected = [(float(i), i) for i in range(following)]
    assert stored == expected


async def seen(held: Database) -> tuple[int, list[tuple[Any, ...]]]:
    """The offset and the rows of one moment: a server may still be at what the process asked of it last."""
    store = held.store()
    try:
        while True:
            before = await store.offsets(GROUP)
            rows = held.rows("SELECT value, kafka_offset FROM sensor_readings ORDER BY value")
            if await store.offsets(GROUP) == before:
                return before[PLACE], rows
    finally:
        await store.close()
