"""Real processes tell the truth of themselves while Kafka or the database is away, and end in time all the same."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, time
from typing import Any

import aiohttp
import pytest
from aiokafka import AIOKafkaProducer

from streamproc.kafka.broker import Broker, Installation, free_port
from streamproc.process import CUT_SHORT
from streamproc.topics import apply, load, plan
from tests.live.feed import packet, send
from tests.live.oracle import PARTITIONS
from tests.live.pipeline import device_in
from tests.live.processes import Site, Stage, eventually, hang, running
from tests.slowness import in_time

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
PORTS = {
    "worker": "STREAMPROC_WORKER_PORT",
    "sink": "STREAMPROC_SINK_PORT",
    "gateway": "GATEWAY_PORT",
    "notify": "STREAMPROC_NOTIFY_PORT",
    "console": "CONSOLE_PORT",
    "jobs": "STREAMPROC_JOBS_PORT",
}
#: What a stop may take in all.
STOP_S = 5.0
#: Within which a broker that is away has to show.
SHOWN_S = 15.0


@dataclass
class Watched:
    """A stage with its endpoint."""

    stage: Stage
    url: str
    client: aiohttp.ClientSession

    async def get(self, path: str) -> tuple[int, str]:
        """The status and body of an answer; 0 where nothing listens yet."""
        try:
            async with self.client.get(self.url + path) as response:
                return response.status, await response.text()
        except aiohttp.ClientConnectorError:
            return 0, ""

    async def failing(self) -> set[str] | None:
        """The names of the checks that are not passed; None where nothing listens yet."""
        status, body = await self.get("/ready")
        if not status:
            return None
        names = {check["name"] for check in json.loads(body)["checks"] if not check["ok"]}
        assert status == (503 if names else 200)
        return names

    async def until(self, failing: set[str]) -> None:
        """Wait until just these checks fail; it is alive all the while."""

        async def so() -> bool:
            return await self.failing() == failing

        await eventually(so)
        assert (await self.get("/health"))[0] == 200


@asynccontextmanager
async def watching(site: Site, *names: str, **variables: str) -> AsyncIterator[list[Watched]]:
    """Start these stages with endpoints, and give them once they are ready; `variables` go to their environment."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as client:
        watched = []
        for name in names:
            port = free_port()
            stage = await site.start(name, **{PORTS[name]: str(port)}, **variables)
            watched.append(Watched(stage, f"http://127.0.0.1:{port}", client))
        await asyncio.gather(*(one.until(set()) for one in watched))
        yield watched


@asynccontextmanager
async def own_broker(installation: Installation, tmp_path: Path) -> AsyncIterator[tuple[Broker, Site]]:
    """A broker of the test's own, with all topics, and a site on it; it ends whether it hangs or not."""
    broker = await Broker.start(installation, tmp_path / "kafka")
    try:
        await apply(broker.connection, await plan(broker.connection, load()))
        (tmp_path / "site").mkdir()
        async with running(broker.connection, "", tmp_path / "site") as site:
            yield broker, site
    finally:
        with suppress(ProcessLookupError):
            os.kill(broker.pid, signal.SIGCONT)
        await broker.stop()


def assert_whole(stage: Stage) -> None:
    """Each line of the log is JSON with a time, a level, a logger and an event, and no kind floods it."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in stage.log.read_text().splitlines()]
    assert all({"timestamp", "level", "logger", "event"} <= line.keys() for line in lines)
    assert len(lines) < 200


async def test_what_is_scraped_is_what_is_documented(site: Site, producer: AIOKafkaProducer) -> None:
    """Over all stages, after a reading and a record that is none."""
    await (await send(producer, f"{site.prefix}readings", "d", packet("d", "s", 1.0, time())))
    await (await send(producer, f"{site.prefix}readings", "d", b"{"))
    names: set[str] = set()
    # Of a gateway's processes there is a metric only where they are several.
    async with watching(
        site, "worker", "sink", "gateway", "notify", "console", "jobs", STREAMPROC_GATEWAY_WORKERS="2"
    ) as stages:
        worker = stages[0]

        async def counted() -> bool:
            return 'rejected_total{partition="' in (await worker.get("/metrics"))[1]

        await eventually(counted)
        for stage in stages:
            text = (await stage.get("/metrics"))[1]
            names |= set(re.findall(r"^# TYPE (streamproc_\w+) ", text, re.MULTILINE))
            assert re.search(r"^process_cpu_seconds_total[ {]", text, re.MULTILINE)
    documented = set(re.findall(r"^\| `(streamproc_\w+)` \|", OPERATIONS.read_text(), re.MULTILINE))
    assert {name for name in names if not name.endswith("_created")} == documented


async def snapshots_told(worker: Watched) -> tuple[dict[int, float], dict[int, float]]:
    """Size and time of the last snapshot by partition, as the worker's metrics have them."""
    text = (await worker.get("/metrics"))[1]
    size, taken = (
        re.findall(rf'^streamproc_engine_snapshot_{name}{{partition="(\d+)"}} (\S+)$', text, re.MULTILINE)
        for name in ("bytes", "timestamp")
    )
    return {int(n): float(value) for n, value in size}, {int(n): float(value) for n, value in taken}


async def test_snapshots_are_told_of_the_partitions_that_a_worker_has(
    site: Site, producer: AIOKafkaProducer
) -> None:
    """Size and time as logged; of one that has gone nothing, and whoever has it then knows when the last one was taken."""
    began = time()
    often, never = ({"STREAMPROC_SNAPSHOT_INTERVAL_SECONDS": seconds} for seconds in ("1", "86400"))
    async with watching(site, "worker", **often) as (first,):
        for device in map(device_in, range(PARTITIONS)):
            await (await send(producer, f"{site.prefix}readings", device, packet(device, "s", 1.0, time())))

        async def all_told() -> bool:
            logged = {line["partition"]: line["bytes"] for line in first.stage.told("snapshot")}
            size, taken = await snapshots_told(first)
            return len(logged) == PARTITIONS and size == logged and taken.keys() == logged.keys()

        await eventually(all_told)
        assert all(began - 1 <= at <= time() + 1 for at in (await snapshots_told(first))[1].values())
        async with watching(site, "worker", **never) as (second,):

            async def divided() -> bool:
                (_, one), (_, other) = await snapshots_told(first), await snapshots_told(second)
                return bool(one and other) and sorted([*one, *other]) == list(range(PARTITIONS))

            await eventually(divided)
            size, taken = await snapshots_told(second)
            assert not size
            assert all(began - 1 <= at <= time() + 1 for at in taken.values())


async def test_lines_say_which_records_they_concern(site: Site, producer: AIOKafkaProducer) -> None:
    """Topic, partition and offset of what was rejected, late, sent on or not stored, amid others in the same chunk."""
    topic, now = f"{site.prefix}readings", int(time())
    device = device_in(1)
    good, late = (packet(device, "s", 1.0, ts) for ts in (now, now - 3_600))
    values = {"good": good, "rejected": b"{", "misrouted": packet(device_in(2), "t", 1.0, now), "late": late}
    sent = {name: await producer.send(topic, value, partition=1) for name, value in values.items()}
    await producer.flush()
    offsets = {name: (await acknowledged).offset for name, acknowledged in sent.items()}
    async with watching(site, "worker", "sink", STREAMPROC_AUTO_REGISTER="false") as (worker, sink):
        for name in ("rejected", "misrouted", "late"):
            line = await worker.stage.until_told(name)
            place = {"topic": topic, "partition": 1, "offset": offsets[name], "last_offset": offsets[name]}
            assert line.items() >= (place | {"count": 1, "level": "info"}).items()

        async def refused() -> list[dict[str, Any]]:
            """The lines about readings, once the partition's is there: those of windows may come before it."""
            lines = [line for line in sink.stage.told("records not stored") if line["topic"] == topic]
            return lines if 1 in {line["partition"] for line in lines} else []

        lines = await eventually(refused)
        assert all(
            line["offset"] <= line["last_offset"] and line["count"] and line["reason"] for line in lines
        )


async def test_a_broker_that_hangs_shows_and_is_waited_for(
    installation: Installation, tmp_path: Path
) -> None:
    """Every stage is alive but not ready within 15 s, on account of the broker alone, and ready again once it answers."""
    async with (
        own_broker(installation, tmp_path) as (broker, site),
        watching(site, "worker", "sink", "gateway", "console") as stages,
    ):
        await hang(broker)
        began = monotonic()
        await asyncio.gather(*(stage.until({"broker"}) for stage in stages))
        assert in_time(monotonic() - began, SHOWN_S)
        os.kill(broker.pid, signal.SIGCONT)
        await asyncio.gather(*(stage.until(set()) for stage in stages))
        for stage in stages:
            # The group may be rebalancing, for the time that was lost: then there is no last checkpoint.
            assert (await stage.stage.terminate())[0] in {0, CUT_SHORT}
            assert_whole(stage.stage)


@pytest.mark.parametrize("how", ["hangs", "is killed"])
async def test_all_end_in_time_while_the_broker_is_away(
    installation: Installation, tmp_path: Path, how: str
) -> None:
    """Nothing waits for it beyond 5 s; that not everything was done is told by the exit code, and logs stay whole."""
    async with (
        own_broker(installation, tmp_path) as (broker, site),
        watching(site, "worker", "sink", "gateway", "console") as stages,
    ):
        if how == "hangs":
            await hang(broker)
        else:
            broker.kill()
            await broker.wait()
        began = monotonic()
        await asyncio.gather(*(stage.until({"broker"}) for stage in stages))
        assert in_time(monotonic() - began, SHOWN_S)
        ended = await asyncio.gather(*(stage.stage.terminate() for stage in stages))
    worker, sink, gateway, console = (code for code, _ in ended)
    assert (worker, gateway) == (CUT_SHORT, 0)
    # What the sink has to do at its end is in the database, the console has nothing; what they use may or may not wait.
    assert {sink, console} <= {0, CUT_SHORT}
    assert in_time(max(seconds for _, seconds in ended), STOP_S), ended
    for stage in stages:
        assert_whole(stage.stage)


async def test_a_locked_database_shows_and_is_waited_for(site: Site, producer: AIOKafkaProducer) -> None:
    """An idle sink sees it by itself; it comes back by itself; and while it is locked the sink ends in time, code 0."""
    async with watching(site, "sink") as (sink,):
        with closing(sqlite3.connect(site.database, timeout=30, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await sink.until({"database"})
            await (await send(producer, f"{site.prefix}readings", "d", packet("d", "s", 1.0, time())))
            await sink.stage.until_told("database away, trying again", lambda line: line["code"] == "locked")
            text = (await sink.get("/metrics"))[1]
            assert "streamproc_sink_database_up 0.0" in text
            assert 'streamproc_sink_retries_total{reason="locked"}' in text
            other.execute("ROLLBACK")
            await sink.until(set())
            other.execute("BEGIN IMMEDIATE")
            await (await send(producer, f"{site.prefix}readings", "d", packet("d", "s", 2.0, time())))
            await sink.until({"database"})
            code, seconds = await sink.stage.terminate()
    assert code == 0
    assert in_time(seconds, STOP_S)
    assert_whole(sink.stage)
