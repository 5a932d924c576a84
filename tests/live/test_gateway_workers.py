"""Several gateway processes on one port, as users start them, with a real broker."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping

import msgspec
import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector
from prometheus_client.parser import text_string_to_metric_families

from streamproc.bench.gateway import family
from streamproc.kafka.broker import free_port
from tests.live.processes import Site, Stage, eventually
from tests.slowness import in_time

WORKERS = 2


class Gateway:
    """A parent with its workers, and clients that come anew for each request: any worker may answer."""

    def __init__(self, site: Site) -> None:
        self.site, self.port = site, free_port()
        self.stage: Stage | None = None

    async def start(self) -> Stage:
        """Start it and wait until it is ready."""
        variables = {"GATEWAY_PORT": str(self.port), "STREAMPROC_GATEWAY_WORKERS": str(WORKERS)}
        self.stage = await self.site.start("gateway", **variables)
        await eventually(self.ready)
        return self.stage

    async def get(self, path: str) -> tuple[int, str]:
        """The status and text of an answer; 0 where there is none."""
        try:
            async with client() as session, session.get(f"http://127.0.0.1:{self.port}{path}") as answer:
                return answer.status, await answer.text()
        except ClientError:
            return 0, ""

    async def ready(self) -> bool:
        """Whether /ready says yes."""
        return (await self.get("/ready"))[0] == 200

    async def post(self, value: float) -> None:
        """Send a packet as a device does, again until it is taken: a worker that has just started may have no Kafka yet."""
        body = msgspec.json.encode(
            {"device_uuid": "d", "packet_id": str(value), "readings": [{"sensor_uuid": "s", "value": value}]}
        )
        while True:
            try:
                async with (
                    client() as session,
                    session.post(f"http://127.0.0.1:{self.port}/ingest/packets", data=body) as answer,
                ):
                    if answer.status == 202:
                        return
                    assert answer.status == 503, await answer.text()
            except ClientError:
                continue

    async def samples(self, name: str) -> Mapping[str, float]:
        """What each worker tells of a metric, its other labels summed, by the worker's number."""
        found: dict[str, float] = {}
        for metric in text_string_to_metric_families((await self.get("/metrics"))[1]):
            for sample in metric.samples:
                if sample.name == name:
                    worker = sample.labels["worker"]
                    found[worker] = found.get(worker, 0) + sample.value
        return found


def client() -> ClientSession:
    """A client whose connection is new, so that the kernel deals it to any worker."""
    return ClientSession(connector=TCPConnector(force_close=True), timeout=ClientTimeout(60))


@pytest.fixture
def gateway(site: Site) -> Gateway:
    """A gateway of two workers, not started yet."""
    return Gateway(site)


async def test_all_workers_serve_and_are_told_of(gateway: Gateway) -> None:
    """Requests go to all workers; whichever is asked for metrics tells of all, and SIGTERM ends all in time."""
    stage = await gateway.start()
    accepted = "streamproc_gateway_readings_accepted_total"
    sent = 0
    while not (told := await gateway.samples(accepted)).get("1") or not told.get("2"):
        await gateway.post(sent)
        sent += 1
    agreed = 0
    # In a row, and whoever answers; what a worker tells may be 50 ms old, and one that is slow counts as away.
    while agreed < 10:
        up = await gateway.samples("streamproc_gateway_worker_up")
        told = await gateway.samples(accepted)
        agreed = agreed + 1 if (up, sum(told.values())) == ({"1": 1.0, "2": 1.0}, sent) else 0
    pids = family(stage.pid)
    assert len(pids) == 1 + WORKERS
    code, took_s = await stage.terminate()
    assert code == 0
    assert in_time(took_s, 3)
    assert [pid for pid in pids if exists(pid)] == []
    assert {line["worker"] for line in stage.told("gateway_stopped")} == {1, 2}


async def test_a_dead_worker_is_started_again(gateway: Gateway) -> None:
    """One is killed: the others go on, /ready tells of it or it is there again, and the parent started it."""
    stage = await gateway.start()
    _, *workers = family(stage.pid)
    os.kill(workers[0], signal.SIGKILL)
    for value in range(20):
        await gateway.post(value)
    told = await stage.until_told("gateway_worker_ended")
    assert told["code"] == -signal.SIGKILL

    async def again() -> bool:
        up = await gateway.samples("streamproc_gateway_worker_up")
        return up == {"1": 1.0, "2": 1.0} and await gateway.ready()

    await eventually(again)
    assert len(set(family(stage.pid)) - {stage.pid, *workers}) == 1


async def test_workers_end_with_their_parent(gateway: Gateway) -> None:
    """The parent is killed: the workers answer what is under way and end."""
    stage = await gateway.start()
    _, *workers = family(stage.pid)
    os.kill(stage.pid, signal.SIGKILL)

    async def gone() -> bool:
        return not any(exists(pid) for pid in workers)

    await eventually(gone)
    assert len(stage.told("gateway_stopped")) == WORKERS


async def test_a_port_that_is_taken(gateway: Gateway) -> None:
    """A second gateway on the port is refused, though it could share it: devices would be dealt to both."""
    await gateway.start()
    environment = gateway.site.environment(GATEWAY_PORT=str(gateway.port), STREAMPROC_GATEWAY_WORKERS="2")
    second = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streamproc", "gateway", env=environment, stderr=subprocess.PIPE
    )
    _, text = await second.communicate()
    assert second.returncode == 2
    assert f"{gateway.port}: the port is taken" in text.decode()


def exists(pid: int) -> bool:
    """Whether the process is there, and no zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:  # noqa: PTH123
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # it may end between the opening and the reading
        return False
