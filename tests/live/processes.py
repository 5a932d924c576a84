"""Real workers and sinks for the live tests: started, killed, stopped, paused and watched."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import aiohttp

from streamproc.dev.process import Process, tail
from streamproc.kafka.broker import Broker
from streamproc.settings.connection import Connection
from tests.store.databases import Database, Sqlite

T = TypeVar("T")

#: Longest that a test waits for what it expects: mostly it is there within a second, on a machine with others' work in ten,
#: and where a dozen others work on two cores, a stage takes 40 s to start.
SOON_S = 120.0
#: The time between two looks; after one that took longer, those who are looked at get as much of the machine, within bounds.
LOOK_S, LONGEST_LOOK_S = 0.02, 0.2
#: Kafka's request 18 in version 0: its length, then key, version, a number to know the answer by, and no client's name.
_API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 1, -1)
#: Short, so that tests have many checkpoints and ticks; windows close soon.
QUICK = {
    "STREAMPROC_CHECKPOINT_INTERVAL_SECONDS": "0.5",
    "STREAMPROC_TICK_INTERVAL_SECONDS": "0.2",
    "STREAMPROC_ALLOWED_LATENESS_MS": "1000",
}


async def eventually(condition: Callable[[], Awaitable[T]], within_s: float = SOON_S) -> T:
    """Look until the condition holds, and give what it gave; raises TimeoutError."""
    pause = asyncio.Event()
    async with asyncio.timeout(within_s):
        began = monotonic()
        while not (found := await condition()):
            took = monotonic() - began
            try:
                await asyncio.wait_for(pause.wait(), min(max(LOOK_S, took), LONGEST_LOOK_S))
            except TimeoutError:
                began = monotonic()
    return found


async def until_ready(url: str) -> None:
    """Wait until what listens there is ready: a gateway listens after two seconds, whether it has found Kafka or not."""
    async with aiohttp.ClientSession() as session:

        async def ready() -> bool:
            try:
                async with session.get(f"{url.rstrip('/')}/ready") as answer:
                    return answer.status == 200
            except aiohttp.ClientConnectionError:
                return False

        await eventually(ready)


async def hang(broker: Broker) -> None:
    """Have the broker stand still (SIGSTOP), and wait until it does: threads at work may finish what they have begun."""
    os.kill(broker.pid, signal.SIGSTOP)
    host, _, port = broker.bootstrap.rpartition(":")
    while await _answers(host, int(port)):
        pass


async def _answers(host: str, port: int) -> bool:
    """Whether the broker answers a request for its versions within a second."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(_API_VERSIONS)
        await asyncio.wait_for(reader.readexactly(4), 1)
    except TimeoutError:
        return False
    finally:
        writer.close()
    return True


class Stage:
    """A running stage, with its log in a file."""

    def __init__(self, process: Process, log: Path) -> None:
        self._process, self.log = process, log

    @property
    def pid(self) -> int:
        """Its process id: that of the command itself, which takes the place of what starts it."""
        return self._process.pid

    def memory_bytes(self) -> int:
        """How much memory it has resident."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        (resident,) = [line.split() for line in lines if line.startswith("VmRSS")]
        return int(resident[1]) * 1024

    def kill(self) -> None:
        """End it as a crash of the machine would (SIGKILL)."""
        self._process.kill()

    def interrupt(self) -> None:
        """Have it end as by Ctrl-C (SIGINT)."""
        os.kill(self._process.pid, signal.SIGINT)

    def pause(self) -> None:
        """Have it stand still (SIGSTOP)."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Have it run again (SIGCONT)."""
        os.kill(self._process.pid, signal.SIGCONT)

    async def ended(self) -> int:
        """Its exit code, or the negative number of the signal."""
        return await asyncio.wait_for(self._process.wait(), SOON_S)

    async def terminate(self) -> tuple[int, float]:
        """Ask it to end (SIGTERM); its exit code, and the seconds it took."""
        began = monotonic()
        await self._process.stop(SOON_S)
        return await self._process.wait(), monotonic() - began

    async def _runs(self) -> bool:
        try:
            await asyncio.wait_for(self._process.wait(), LOOK_S)
        except TimeoutError:
            return True
        return False

    def told(self, event: str) -> list[dict[str, Any]]:
        """The log's lines of this event so far; one of which only a part is written does not count yet."""
        lines, word = self.log.read_text(errors="replace").splitlines(keepends=True), json.dumps(event)
        told = [line for line in lines if word in line and line.startswith("{") and line.endswith("}\n")]
        parsed = [json.loads(line) for line in told]
        return [line for line in parsed if line.get("event") == event]

    async def until_told(self, event: str, like: Callable[[dict[str, Any]], bool] = bool) -> dict[str, Any]:
        """Wait until the last line of this event is like that; fails at once where the stage has ended."""

        async def line() -> dict[str, Any] | None:
            runs = await self._runs()  # asked first: its last line may be what is waited for
            lines = self.told(event)
            if lines and like(lines[-1]):
                return lines[-1]
            assert runs, "\n".join(tail(self.log, lines=30))
            return None

        found = await eventually(line)
        assert found
        return found

    async def until_assigned(self, partitions: int | None = None) -> None:
        """Wait until it has so many partitions (any, without): a group's first answers may leave topics or members out."""

        def has(line: dict[str, Any]) -> bool:
            count = len(line["assigned"])
            return count == partitions if partitions is not None else count > 0

        await self.until_told("partitions", has)


@dataclass
class Site:
    """Where stages run: a broker, a prefix for topics and groups of their own, a database of their own.

    That is a SQLite file in the directory, unless `held` is made another.
    """

    bootstrap: Connection
    prefix: str
    directory: Path
    stages: list[Stage] = field(default_factory=list)
    #: Settings of all stages that are started from now on.
    variables: dict[str, str] = field(default_factory=dict)
    #: What the site's sinks write to.
    held: Database = field(init=False)

    def __post_init__(self) -> None:
        """The file, at first."""
        self.held = Sqlite(self.database)

    @property
    def database(self) -> Path:
        """The SQLite file of the site's sinks, unless they have another database."""
        return self.directory / "streamproc.db"

    def environment(self, **variables: str) -> dict[str, str]:
        """What a process of the site has for an environment."""
        return (
            os.environ
            | QUICK
            | {
                **self.bootstrap.variables(),
                "STREAMPROC_TOPIC_PREFIX": self.prefix,
                "STREAMPROC_AUTO_REGISTER": "true",
                # Tests put entries on the topic that the database does not have: no sink is to take them for edits.
                "SENSOR_MAP_TTL_SECONDS": "86400",
            }
            | self.held.variables
            | self.variables
            | variables
        )

    async def start(self, name: str, *arguments: str, **variables: str) -> Stage:
        """Start `python ARGUMENTS`, or else `streamproc NAME`, and give it at once; `variables` go to its environment."""
        command = [sys.executable, *(arguments or ("-m", "streamproc", name))]
        log = self.directory / f"{name}-{len(self.stages)}.log"
        process = await Process.start(command, self.environment(**variables), log)
        stage = Stage(process, log)
        self.stages.append(stage)
        return stage

    async def worker(self, **variables: str) -> Stage:
        """Start a worker and wait until it has its partitions."""
        stage = await self.start("worker", **variables)
        await stage.until_assigned()
        return stage

    async def sink(self, **variables: str) -> Stage:
        """Start a sink and wait until it has its partitions."""
        stage = await self.start("sink", **variables)
        await stage.until_assigned()
        return stage


@asynccontextmanager
async def running(bootstrap: Connection, prefix: str, directory: Path) -> AsyncIterator[Site]:
    """A site whose stages end with the block."""
    site = Site(bootstrap, prefix, directory)
    try:
        yield site
    finally:
        for stage in site.stages:
            stage.kill()
        for stage in site.stages:
            await stage.ended()
