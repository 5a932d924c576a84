"""The broker killed, stopped and away for a minute, under a gateway, a worker and a sink that a supervisor keeps running."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp
import pytest

from streamproc.dev.process import Process
from streamproc.dev.supervisor import Child, Ended, Notice, Supervisor
from streamproc.kafka.broker import Broker, Installation, free_port
from streamproc.topics import apply, load, plan, prefixed
from tests.live.feed import producing
from tests.live.oracle import OUTPUTS, committed, reading
from tests.live.pipeline import Pipeline, device_in, hour_ago, rows
from tests.live.processes import QUICK, Site, Stage, eventually, hang, running

#: What a test here may take: a broker's start, its minute away, and the pauses of a supervisor in between.
pytestmark = pytest.mark.timeout(400)
#: All readings are of the same minutes, however long the broker is away: none is late.
LATENESS_MS = 300_000
#: Packets of a thousand readings that wait for a worker: some seconds' work.
BACKLOG = 1_200
VARIABLES = QUICK | {"STREAMPROC_ALLOWED_LATENESS_MS": str(LATENESS_MS), "STREAMPROC_AUTO_REGISTER": "true"}


@dataclass
class Plant:
    """A broker of its own, and stages that are started again when they end, as `streamproc dev` has them."""

    installation: Installation
    directory: Path
    broker: Broker
    supervisor: Supervisor
    notices: list[Notice] = field(default_factory=list)

    @property
    def site(self) -> Site:
        """Where the stages run."""
        return Site(self.broker.connection, "", self.directory)

    async def keep(self, name: str, **variables: str) -> None:
        """Have a stage run from now on."""
        log = self.directory / f"{name}.log"
        environment = os.environ | VARIABLES | variables
        environment |= {
            "KAFKA_BOOTSTRAP": self.broker.bootstrap,
            "STREAMPROC_DATABASE": str(self.site.database),
            "STREAMPROC_GROUP_INSTANCE_ID": name,
        }
        command = (sys.executable, "-m", "streamproc", name)
        await self.supervisor.add(Child(name, partial(Process.start, command, environment, log), log))

    async def restart(self) -> None:
        """Start the broker again where it was."""
        port = int(self.broker.bootstrap.rpartition(":")[2])
        self.broker = await Broker.start(self.installation, self.directory / "kafka", port)

    @property
    def ended(self) -> list[Ended]:
        """Which stages have ended by themselves, and why."""
        return [notice for notice in self.notices if isinstance(notice, Ended)]


@asynccontextmanager
async def plant(installation: Installation, directory: Path) -> AsyncIterator[Plant]:
    """A broker with its topics, until the block ends."""
    notices: list[Notice] = []
    broker = await Broker.start(installation, directory / "kafka")
    built = Plant(installation, directory, broker, Supervisor(notices.append), notices)
    try:
        await apply(broker.connection, await plan(broker.connection, prefixed(load(), "")))
        yield built
    finally:
        built.supervisor.kill()
        await built.supervisor.stop(1)
        built.broker.kill()
        await built.broker.wait()


class Load:
    """Devices that post a reading each now and then, each again until it is answered 202."""

    def __init__(self, port: int, begin: int) -> None:
        self.url, self.begin = f"http://127.0.0.1:{port}/ingest/packets", begin
        self.accepted: set[tuple[str, float, int]] = set()
        self.wanted = True

    async def run(self, devices: int) -> None:
        """Post until `wanted` is no more."""
        timeout = aiohttp.ClientTimeout(30)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            await asyncio.gather(*(self._device(session, number) for number in range(devices)))

    async def _device(self, session: aiohttp.ClientSession, number: int) -> None:
        value = 0
        while self.wanted:
            value += 1
            reading = {"sensor_uuid": f"s-{number}", "value": float(value)}
            ts = self.begin + value / 100
            packet = {"device_uuid": f"d-{number}", "readings": [reading], "ts": ts}
            await eventually(partial(self._posted, session, packet), within_s=300)
            self.accepted.add((f"s-{number}", float(value), round(ts * 1000)))

    async def _posted(self, session: aiohttp.ClientSession, packet: dict[str, Any]) -> bool:
        try:
            async with session.post(self.url, json=packet) as response:
                return response.status == 202
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def until_more(self, count: int) -> None:
        """Wait until so many more readings were accepted."""
        before = len(self.accepted)

        async def come() -> bool:
            return len(self.accepted) >= before + count

        await eventually(come, within_s=200)


@pytest.mark.parametrize("away_s", [0, 60])
async def test_broker_away_under_load(installation: Installation, tmp_path: Path, away_s: int) -> None:
    """Killed and started again, at once and after a minute: all goes on by itself, and nothing is lost or twice."""
    port = free_port()
    async with plant(installation, tmp_path) as built:
        for name in ("sink", "worker", "gateway"):
            await built.keep(name, GATEWAY_PORT=str(port))
        load = Load(port, hour_ago())
        loading = asyncio.create_task(load.run(devices=8))
        await load.until_more(200)
        built.broker.kill()
        await built.broker.wait()
        gone = monotonic()
        await eventually(partial(_passed, gone + away_s), within_s=away_s + 60)
        await built.restart()
        await load.until_more(200)
        load.wanted = False
        await loading
        async with (
            running(built.broker.connection, "", tmp_path) as site,
            producing(built.broker.connection) as producer,
            reading(built.broker.connection, "", "readings", "registry", *OUTPUTS) as reader,
        ):
            line = Pipeline(site, producer, reader, LATENESS_MS)
            closing = load.begin + LATENESS_MS / 1000 + 600
            for number in range(8):
                await line.send(f"d-{number}", (f"s-{number}", 0.0, closing))
            results = await eventually(line.settled, within_s=200)
            assert results
            assert sum(row[3] for key, row in results.windows.items() if key[1] == 10_000) == len(
                load.accepted
            )
            assert await eventually(partial(_stored, line, len(load.accepted) + 8), within_s=200)
            assert {row for row in rows(site) if row[1]} == load.accepted
            assert len(rows(site)) == len(load.accepted) + 8
        assert all(ended.reason == "ended with exit code 1" for ended in built.ended), built.ended


async def _passed(moment: float) -> bool:
    return monotonic() >= moment


async def _stored(line: Pipeline, count: int) -> bool:
    return len(rows(line.site)) >= count


async def test_a_stuck_partition_ends_the_worker(installation: Installation, tmp_path: Path) -> None:
    """A broker that hangs amid a backlog: the watchdog ends the worker with an error, and a restart does the rest."""
    async with plant(installation, tmp_path) as built, running(built.broker.connection, "", tmp_path) as site:
        begin = hour_ago()
        async with producing(site.bootstrap) as producer, reading(site.bootstrap, "", "windows") as reader:
            for number in range(BACKLOG):
                items = [{"sensor_uuid": f"s-{i}", "value": 1.0, "ts": begin + number} for i in range(1_000)]
                body = json.dumps({"device_uuid": device_in(0), "readings": items}).encode()
                await producer.send("readings", body, partition=0)
            await producer.flush()
            worker = await site.start("worker", STREAMPROC_WATCHDOG_SECONDS="2")
            await eventually(partial(reader.values, "windows"))
        await hang(built.broker)
        assert await worker.ended() == 1
        text = worker.log.read_text()
        assert "records waiting, but none was taken in for" in text
        os.kill(built.broker.pid, signal.SIGCONT)
        await assert_catches_up(await site.start("worker"), site)


async def assert_catches_up(worker: Stage, site: Site) -> None:
    """The worker comes to the end of the backlog, and has it in a checkpoint."""
    await worker.until_told("partitions")

    async def reached() -> bool:
        done = await committed(site.bootstrap, "streamproc-worker", "readings")
        return done.get(0, (0, ""))[0] >= BACKLOG

    await eventually(reached, within_s=200)
