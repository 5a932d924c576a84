"""`streamproc bench gateway`: packets that the gateway takes, beside an aiohttp handler that only reads their bodies.

Each server is a process of its own, with a broker behind the gateway, in turn under the same load from a third process.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from statistics import median
from typing import Literal

import msgspec
from aiohttp import ClientError, ClientSession

from streamproc import topics
from streamproc.bench.engine import broker
from streamproc.bench.posting import WARM_UP_S, Order, Outcome
from streamproc.errors import StreamprocError
from streamproc.kafka.broker import free_port
from streamproc.settings.connection import Connection

#: How long a server may take to listen: 40 s where a dozen processes work on two cores.
READY_S = 120.0
#: Between two looks at whether it does.
LOOK_S = 0.05
#: Latencies are those at this part of the load that it can take: at its full load they tell the connections' number alone.
PART = 0.5
#: Memory is told so many times over a long run.
LOOKS = 20

Name = Literal["bare", "gateway"]


@dataclass(frozen=True, slots=True)
class Plan:
    """For each number of connections: `rounds` of `seconds` for each server in turn, then `seconds` at half load."""

    connections: Sequence[int] = (64, 1_000)
    seconds: float = 10.0
    rounds: int = 3
    workers: int = 1
    warm_up_s: float = WARM_UP_S


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs, with the processes that it consists of."""

    port: int
    pids: tuple[int, ...]


@dataclass(slots=True)
class Found:
    """What came of the rounds with one number of connections."""

    connections: int
    full: dict[Name, list[Outcome]] = field(default_factory=lambda: {"bare": [], "gateway": []})
    half: Outcome | None = None

    def per_cpu_second(self, name: Name) -> float:
        """The middle one of the rounds' packets per CPU-second."""
        return median(outcome.per_cpu_second for outcome in self.full[name])

    def ratio(self) -> float:
        """What part of the bare handler's packets the gateway takes in the same CPU time."""
        return self.per_cpu_second("gateway") / self.per_cpu_second("bare")

    def report(self) -> Iterator[str]:
        """A line a server, one of half the load, and the ratio, of the middle round and of each."""
        for name, outcomes in self.full.items():
            middle = sorted(outcomes, key=lambda outcome: outcome.per_cpu_second)[len(outcomes) // 2]
            yield f"{self.connections:,} connections, {name}: {line(middle)}"
        if self.half is not None:
            yield f"{self.connections:,} connections, gateway at half of that load: {line(self.half)}"
        rounds = zip(self.full["gateway"], self.full["bare"], strict=True)
        each = ", ".join(f"{ours.per_cpu_second / bare.per_cpu_second:.2f}" for ours, bare in rounds)
        yield (
            f"{self.connections:,} connections: per CPU-second {self.ratio():.2f} of the bare handler's"
            f" (rounds: {each})"
        )


def line(outcome: Outcome) -> str:
    """An outcome in one line."""
    accepted = outcome.statuses.get("202", 0)
    other = sum(outcome.statuses.values()) - accepted + outcome.broken
    return (
        f"{outcome.per_second:,.0f} packets/s, {outcome.per_cpu_second:,.0f} per CPU-second,"
        f" p50 {outcome.p50:.1f} ms, p99 {outcome.p99:.1f} ms, max {outcome.greatest:.1f} ms,"
        f" {outcome.rss_before / 1e6:.0f} → {outcome.rss_after / 1e6:.0f} MB, {other} refused or broken"
    )


async def run(plan: Plan) -> list[Found]:
    """Measure on KAFKA_BOOTSTRAP, or on a broker of its own, and print; raises StreamprocError."""
    _needs_proc()
    found: list[Found] = []
    async with broker() as kafka:
        prefix = await _topics(kafka)
        for connections in plan.connections:
            found.append(await _measure(plan, connections, kafka, prefix))
            for text in found[-1].report():
                print(text, flush=True)
    return found


async def soak(minutes: float, connections: int, workers: int) -> None:
    """Load one gateway for so long, and tell its memory over the time."""
    _needs_proc()
    seconds = minutes * 60
    async with broker() as kafka, gateway(kafka, await _topics(kafka), workers) as server:
        order = Order(
            port=server.port,
            connections=connections,
            seconds=seconds,
            pids=server.pids,
            look_s=seconds / LOOKS,
        )
        print(f"{connections:,} connections, gateway for {minutes:g} min: {line(await post(order))}")


def _needs_proc() -> None:
    if not Path("/proc/self/stat").exists():
        raise StreamprocError("bench gateway reads CPU time and memory from /proc: it runs on Linux only")


async def _topics(kafka: Connection) -> str:
    """Make topics of their own; gives their prefix."""
    prefix = f"bench-{os.getpid()}-"
    specs = topics.prefixed(topics.load(), prefix)
    await topics.apply(kafka, await topics.plan(kafka, specs))
    return prefix


async def _measure(plan: Plan, connections: int, kafka: Connection, prefix: str) -> Found:
    found = Found(connections)
    for turn in range(plan.rounds):
        async with bare() as server:
            found.full["bare"].append(await post(_order(plan, connections, server)))
        async with gateway(kafka, prefix, plan.workers) as server:
            outcome = await post(_order(plan, connections, server))
            found.full["gateway"].append(outcome)
            if turn == plan.rounds - 1:
                found.half = await post(_order(plan, connections, server, PART * outcome.per_second))
    return found


def _order(plan: Plan, connections: int, server: Server, rate: float | None = None) -> Order:
    return Order(
        port=server.port,
        connections=connections,
        seconds=plan.seconds,
        pids=server.pids,
        rate=rate,
        warm_up_s=plan.warm_up_s,
    )


async def post(order: Order) -> Outcome:
    """Carry out the order in a process of its own; raises StreamprocError where that fails."""
    command = (sys.executable, "-c", "from streamproc.bench.posting import child; child()")
    process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        output, _ = await process.communicate(msgspec.json.encode(order))
    finally:
        if process.returncode is None:  # cancelled
            process.kill()
            await process.wait()
    if process.returncode:
        raise StreamprocError(f"the load ended with code {process.returncode}")
    return msgspec.json.decode(output, type=Outcome)


@asynccontextmanager
async def bare() -> AsyncIterator[Server]:
    """The handler that only reads the body, listening."""
    port = free_port()
    command = ("-c", f"from streamproc.bench.bare import child; child({port})")
    async with _served(command, port, {}) as server:
        yield server


@asynccontextmanager
async def gateway(kafka: Connection, prefix: str, workers: int = 1) -> AsyncIterator[Server]:
    """The gateway as users run it, listening and connected to Kafka."""
    port = free_port()
    variables = {
        **kafka.variables(),
        "STREAMPROC_CONNECTION_LIMIT_IP": "20000",  # all clients are on this machine
        "STREAMPROC_AUTO_REGISTER": "true",  # their sensors are in no registry
        "STREAMPROC_TOPIC_PREFIX": prefix,
        "GATEWAY_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "STREAMPROC_GATEWAY_WORKERS": str(workers),
        "STREAMPROC_LOG_LEVEL": "warning",
    }
    async with _served(("-m", "streamproc", "gateway"), port, variables) as server:
        yield server


@asynccontextmanager
async def _served(arguments: Sequence[str], port: int, variables: dict[str, str]) -> AsyncIterator[Server]:
    """Run a server; it is ready when /ready is answered with anything but a 5xx: the bare one has no such path."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env={**os.environ, **variables}, stdin=subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(READY_S):
            while not await _ready(port):
                if process.returncode is not None:
                    raise StreamprocError(f"the server ended with code {process.returncode}")
                await asyncio.sleep(LOOK_S)
        yield Server(port, family(process.pid))
    except TimeoutError:
        raise StreamprocError(f"the server did not listen within {READY_S:g} s") from None
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _ready(port: int) -> bool:
    try:
        async with ClientSession() as client, client.get(f"http://127.0.0.1:{port}/ready") as answer:
            return answer.status < HTTPStatus.INTERNAL_SERVER_ERROR
    except ClientError:
        return False


def family(pid: int) -> tuple[int, ...]:
    """A process and its children: the kernel lists them by thread."""
    found = [pid]
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            found += family(int(child))
    return tuple(found)
