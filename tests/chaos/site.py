"""A site for chaos: a broker, a database, gateway, workers and sinks of its own, each started again when it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, time
from typing import Any

import msgspec

from streamproc import topics
from streamproc.dev.process import Process
from streamproc.errors import BrokerError
from streamproc.kafka.broker import HOST, Broker, Installation, free_port
from streamproc.settings.connection import Connection
from tests.chaos.plan import Plan

#: A supervisor's pause before it starts a process again; doubled while the process ends at once, up to the longest.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 4.0
#: A process that has run for so long was well.
STEADY_S = 10.0
#: What SIGTERM may take; the promise is 5 s on an idle machine, which the report tells.
STOP_S = 30.0

Tell = Callable[[str], None]


@dataclass(slots=True)
class Ended:
    """A process that ended though nobody ended it."""

    name: str
    at: float
    code: int
    reason: str


class Kept:
    """One process, kept running unless it is held down."""

    def __init__(
        self, name: str, environment: dict[str, str], directory: Path, arguments: tuple[str, ...]
    ) -> None:
        self.name, self.environment, self.arguments = name, environment, arguments
        self.log = directory / f"{name}.log"
        self.ends: list[Ended] = []
        self.stops: list[tuple[int, float]] = []
        self.process: Process | None = None
        self._wanted = asyncio.Event()
        self._expected = False
        self._since = 0
        self._task = asyncio.create_task(self._keep())
        self._wanted.set()

    async def _keep(self) -> None:
        pause = FIRST_PAUSE_S
        while True:
            await self._wanted.wait()
            self._since = self.log.stat().st_size if self.log.exists() else 0
            began = monotonic()
            command = [sys.executable, "-m", "streamproc", *self.arguments]
            self.process = await Process.start(command, self.environment, self.log)
            code = await self.process.wait()
            self.process = None
            if not self._expected:
                self.ends.append(Ended(self.name, time(), code, self._reason()))
            self._expected = False
            pause = FIRST_PAUSE_S if monotonic() - began > STEADY_S else min(2 * pause, LONGEST_PAUSE_S)
            await asyncio.sleep(pause)

    def _told(self) -> Iterator[dict[str, Any]]:
        """What this run of it has logged, as far as it is whole lines."""
        if self.log.exists():
            for line in self.log.read_bytes()[self._since :].splitlines(keepends=True):
                if line.startswith(b"{") and line.endswith(b"}\n"):
                    yield msgspec.json.decode(line)

    def _reason(self) -> str:
        """The last line of the first error's traceback, else the last line logged."""
        lines = list(self._told())
        errors = [str(line["exception"]) for line in lines if "exception" in line]
        if errors:
            return errors[0].strip().splitlines()[-1][:300]
        return str(lines[-1].get("event")) if lines else ""

    def kill(self) -> None:
        """End it as a crash of the machine would; it is started again."""
        if self.process is not None:
            self._expected = True
            self.process.kill()

    def hold(self) -> None:
        """Do not start it again until `release`."""
        self._wanted.clear()

    def release(self) -> None:
        """Have it run again."""
        self._wanted.set()

    async def terminate(self) -> None:
        """Ask it to end, and note how long that took and its exit code."""
        process = self.process
        if process is None:
            return
        self._expected = True
        began = monotonic()
        await process.stop(STOP_S)
        self.stops.append((await process.wait(), monotonic() - began))

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self.process is not None:
            os.kill(self.process.pid, number)

    async def close(self) -> None:
        """End it for good."""
        self._task.cancel()
        await asyncio.wait([self._task])
        if self.process is not None:
            self.process.kill()
            await self.process.wait()

    def assigned(self) -> list[int]:
        """The partitions of `readings` that this run of it has told last: a worker's numbers, or of a sink's TOPIC/NUMBER."""
        told = [line["assigned"] for line in self._told() if line.get("event") == "partitions"]
        if self.process is None or not told:
            return []
        places = [str(place).rpartition("/") for place in told[-1]]
        return [int(number) for topic, _, number in places if not topic or topic.endswith("-readings")]


@dataclass(slots=True)
class Site:
    """All processes of one run; `directory` holds all that they write."""

    plan: Plan
    installation: Installation
    directory: Path
    tell: Tell
    prefix: str = "chaos-"
    port: int = 0
    gateway_port: int = 0
    broker: Broker | None = None
    gateways: list[Kept] = field(default_factory=list)
    workers: list[Kept] = field(default_factory=list)
    sinks: list[Kept] = field(default_factory=list)
    guests: list[Kept] = field(default_factory=list)

    @property
    def bootstrap(self) -> Connection:
        """The broker's address, the same whenever it is started."""
        return Connection(f"{HOST}:{self.port}")

    @property
    def gateway(self) -> str:
        """The gateway's address."""
        return f"http://{HOST}:{self.gateway_port}"

    @property
    def database(self) -> Path:
        """The database, in a folder of its own, which can be moved away."""
        return self.directory / "database" / "streamproc.db"

    def topic(self, name: str) -> str:
        """The broker's name of a topic."""
        return self.prefix + name

    def kept(self) -> list[Kept]:
        """All processes but the broker."""
        return [*self.gateways, *self.workers, *self.guests, *self.sinks]

    async def start_broker(self) -> None:
        """Start the broker, anew or on what it has written."""
        broker = await Broker.start(self.installation, self.directory / "kafka", self.port)
        self.broker, self.port = broker, int(broker.bootstrap.rpartition(":")[2])

    async def restart_broker(self) -> None:
        """Start the broker on what it has written; a start that fails is tried again."""
        while True:
            try:
                return await self.start_broker()
            except BrokerError as error:
                self.tell(f"broker: {error}")

    async def start(self) -> None:
        """Start everything and wait until the stages have their partitions."""
        self.directory.mkdir(parents=True, exist_ok=True)
        await self.start_broker()
        specs = topics.prefixed(topics.load(), self.prefix)
        await topics.apply(self.bootstrap, await topics.plan(self.bootstrap, specs))
        self.gateway_port = free_port()

    def run_stages(self) -> None:
        """Start gateway, workers and sinks, and keep them running."""
        self.gateways = [self.keep("gateway")]
        self.workers = [self.keep("worker", number) for number in range(self.plan.workers)]
        self.sinks = [self.keep("sink", number) for number in range(self.plan.sinks)]

    def keep(self, stage: str, number: int = 0, *, guest: bool = False) -> Kept:
        """Start a stage, with a name of its own for the group where the plan says so; a guest has none."""
        name = f"guest-{number}" if guest else f"{stage}-{number}"
        variables = self._environment()
        if self.plan.static and not guest and stage != "gateway":
            variables["STREAMPROC_GROUP_INSTANCE_ID"] = name
        return Kept(name, variables, self.directory / "logs", (stage,))

    def _environment(self) -> dict[str, str]:
        return os.environ | {
            **self.bootstrap.variables(),
            "GATEWAY_HOST": HOST,
            "GATEWAY_PORT": str(self.gateway_port),
            "STREAMPROC_TOPIC_PREFIX": self.prefix,
            "STREAMPROC_STORE": "sqlite",
            "STREAMPROC_DATABASE": str(self.database),
            "STREAMPROC_AUTO_REGISTER": "true",
            # The entries are on the topic alone: no sink is to take the database's rows for edits of them.
            "SENSOR_MAP_TTL_SECONDS": "86400",
            "STREAMPROC_CHECKPOINT_INTERVAL_SECONDS": str(self.plan.checkpoint_s),
            "STREAMPROC_SNAPSHOT_INTERVAL_SECONDS": str(self.plan.snapshot_s),
            "STREAMPROC_TICK_INTERVAL_SECONDS": "0.5",
            "STREAMPROC_WATCHDOG_SECONDS": "30",
        }

    async def close(self) -> None:
        """End all processes."""
        for kept in self.kept():
            await kept.close()
        if self.broker is not None:
            self.broker.kill()
            await self.broker.wait()
