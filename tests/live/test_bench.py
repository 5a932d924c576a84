"""`streamproc bench` as a process that is asked to end: what it has started and made goes with it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.live.processes import eventually
from tests.store.tsql import databases, on_a_server, variables

pytestmark = [
    pytest.mark.timeout(500),
    pytest.mark.skipif(bool(os.environ.get("KAFKA_BOOTSTRAP")), reason="it is to start its own broker here"),
]

#: `dev` sets up broker, topics and database before its gateway comes; a database on a T-SQL server takes the most.
COME_S = 300.0


def running(directory: Path) -> dict[int, list[str]]:
    """The arguments of each process that has the directory for its temporary files, and so descends from the test's."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if f"TMPDIR={directory}".encode() in (place / "environ").read_bytes().split(b"\0"):
                found[int(place.name)] = (place / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue  # it has ended meanwhile
    return found


def files(directory: Path) -> set[Path]:
    """What the benchmark has put there."""
    return set(directory.glob("streamproc-*"))


@asynccontextmanager
async def measuring(directory: Path, **more: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`streamproc bench latency`, its gateway started, in an environment of its own."""
    command = (sys.executable, "-m", "streamproc", "bench", "latency", "--seconds", "3600", "--rate", "100")
    process = await asyncio.create_subprocess_exec(
        *command, env=os.environ | {"TMPDIR": str(directory)} | more, start_new_session=True
    )
    try:

        async def has_gateway() -> bool:
            assert process.returncode is None
            return any("gateway" in arguments for arguments in running(directory).values())

        await eventually(has_gateway, COME_S)
        yield process
    finally:
        for left in running(directory):
            os.kill(left, signal.SIGKILL)
        await process.wait()


async def test_asked_to_end_it_leaves_nothing(tmp_path: Path) -> None:
    """Neither a process nor a file; the exit code is that of SIGTERM. Ports that others have are none of its."""
    with socket.create_server(("127.0.0.1", 0)) as others:
        port = str(others.getsockname()[1])
        async with measuring(tmp_path, STREAMPROC_STORE="sqlite", CONSOLE_PORT=port) as process:
            await ends_at_once(process, tmp_path)
    assert files(tmp_path) == set()


async def ends_at_once(process: asyncio.subprocess.Process, directory: Path) -> None:
    """Ask it to end: nothing runs any more as soon as it has."""
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 128 + signal.SIGTERM
    assert running(directory) == {}


@on_a_server
async def test_asked_to_end_it_drops_its_database(tmp_path: Path) -> None:
    """The one that `dev` wrote to."""
    async with measuring(tmp_path, **variables("unused")) as process:
        (name,) = {database(number) for number, told in running(tmp_path).items() if "gateway" in told}
        assert name in databases()
        await ends_at_once(process, tmp_path)
    assert name not in databases()


def database(process: int) -> str:
    """The database that a process's environment names."""
    told = Path(f"/proc/{process}/environ").read_bytes().decode().split("\0")
    return dict(line.split("=", 1) for line in told if "=" in line)["DB_NAME"]
