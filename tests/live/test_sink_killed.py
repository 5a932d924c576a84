"""The writer in a process that is killed, on a real SQLite file."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from streamproc.store.sqlite import SqliteStore
from tests.live.processes import SOON_S
from tests.shell.test_sink_writer import Bench
from tests.store.builders import GROUP, PLACE

_FOR_EVER = """
import asyncio, sys
from pathlib import Path
from streamproc.settings import Settings
from streamproc.sink.writer import Writer
from streamproc.store.sqlite import SqliteStore
from tests.shell.test_sink_writer import singles
from tests.store.builders import PLACE

async def main():
    writer = Writer(SqliteStore(Path(sys.argv[1]), auto_register=True), Settings(), None)
    following = (await writer.positions([PLACE])).get(PLACE, 0)
    while True:
        await writer.write([singles(following, 50)])
        following += 50
        print(following, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("kills", [3])
async def test_killed_at_any_time_each_row_is_there_once(tmp_path: Path, kills: int) -> None:
    """However often it is killed, its rows are those before the database's offset, each once."""
    bench = Bench(tmp_path / "s.db", SqliteStore(tmp_path / "s.db"))
    told = 0
    for _ in range(kills):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _FOR_EVER, str(bench.path), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        for _ in range(20):
            told = int(await asyncio.wait_for(process.stdout.readline(), SOON_S))
        process.kill()
        await asyncio.wait_for(process.communicate(), SOON_S)
    following = (await bench.store.offsets(GROUP))[PLACE]
    assert following >= told > 0
    expected = [(float(i), i) for i in range(following)]
    assert bench.rows("SELECT value, kafka_offset FROM sensor_readings ORDER BY value") == expected
    await bench.store.close()
