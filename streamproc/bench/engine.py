"""`streamproc bench engine`: readings through real Kafka, the Faust agent, windows, learners, outputs and checkpoints."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import structlog

from streamproc import settings, topics
from streamproc.core.chunk import Chunk
from streamproc.core.routing import home
from streamproc.engine.app import Engine
from streamproc.errors import StreamprocError
from streamproc.kafka import clients
from streamproc.kafka.broker import Broker, install
from streamproc.records import DeltaSpike, Expression, NoData, Range, RateOfChange, SensorEntry, StuckValue
from streamproc.registry.sender import sending
from streamproc.settings.connection import Connection

#: Event time of the first reading: that of the peers' data.
EPOCH_S = 1.7e9
#: Records in a batch that is produced: as the Java producer makes them with 50 ms of linger.
BATCH_BYTES = 1_000_000

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Load:
    """`readings` single-reading packets of `sensors` sensors in turn, `rate` readings in a second of event time.

    Where `ruled`, each sensor is registered with a critical range and a rule of each kind.
    """

    readings: int
    sensors: int
    rate: float
    ruled: bool = False


def packets(load: Load) -> Iterator[tuple[int, bytes]]:
    """The number of the sensor and the packet, for each reading of the load: JSON as the peers' producer writes it."""
    names = [f"s{sensor}".encode() for sensor in range(load.sensors)]
    gauss = random.Random(1).gauss  # noqa: S311  # made data, the same in each run
    for i in range(load.readings):
        sensor = i % load.sensors
        value = (names[sensor], gauss(20, 1), EPOCH_S + i / load.rate)
        yield sensor, b'{"sensor_id": "%b", "value": %a, "ts": %a}' % value


async def fill(kafka: Connection, topic: str, partitions: int, load: Load) -> None:
    """Put the load on the topic, each sensor in its own partition."""
    homes = [home(f"s{sensor}", partitions) for sensor in range(load.sensors)]
    keys = [f"s{sensor}".encode() for sensor in range(load.sensors)]
    producer = clients.producer(kafka, max_batch_size=BATCH_BYTES, max_request_size=4 * BATCH_BYTES, acks=1)
    await producer.start()
    try:
        batches = [producer.create_batch() for _ in range(partitions)]
        for sensor, value in packets(load):
            at = homes[sensor]
            if batches[at].append(key=keys[sensor], value=value, timestamp=None) is None:
                await producer.send_batch(batches[at], topic, partition=at)
                batches[at] = producer.create_batch()
                batches[at].append(key=keys[sensor], value=value, timestamp=None)
        for at, batch in enumerate(batches):
            await producer.send_batch(batch, topic, partition=at)
    finally:
        await producer.stop()


def entry(sensor: str, every_s: float) -> SensorEntry:
    """A critical range and a rule of each kind, for a sensor of the load that speaks as often."""
    return SensorEntry(
        sensor,
        critical=Range(10.0, 30.0),
        rules=(
            DeltaSpike(absolute=8.0),
            RateOfChange(20.0),
            NoData(seconds=3 * every_s),
            StuckValue(seconds=10 * every_s),
            Expression("deviation_10s > 4"),
        ),
    )


async def register(kafka: Connection, topic: str, load: Load) -> None:
    """Put the load's sensors on the topic of the registry."""
    every_s = load.sensors / load.rate
    entries = {name: entry(name, every_s) for name in (f"s{sensor}" for sensor in range(load.sensors))}
    async with clients.producer(kafka, acks="all") as producer:
        await sending(producer, topic)({name: msgspec.json.encode(one) for name, one in entries.items()})


class MeteredEngine(Engine):
    """The engine as it is, with a clock that runs from its first chunk until all of the load is in and confirmed."""

    def __init__(self, loaded: settings.Settings, readings: int) -> None:
        super().__init__(loaded)
        self.readings_left, self.total = readings, readings
        self.wall = self.cpu = 0.0

    async def process(self, chunk: Chunk) -> int:
        """Take in a chunk, and report after the last one."""
        if not self.wall:
            self.wall, self.cpu = time.monotonic(), time.process_time()
        readings = await super().process(chunk)
        self.readings_left -= readings
        if self.readings_left <= 0:
            await self._last_checkpoint()
            self._report()
        return readings

    def _report(self) -> None:
        wall, cpu = time.monotonic() - self.wall, time.process_time() - self.cpu
        told = {
            "readings": self.total,
            "wall_s": wall,
            "cpu_s": cpu,
            "sensors": sum(len(held.state.sensors) for held in self.partitions.values()),
            "peak_kb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        }
        os.write(1, json.dumps(told).encode() + b"\n")  # sys.stdout is Faust's
        os._exit(0)  # the stop is not part of the measurement


def child(readings: int) -> None:
    """The process that is measured; its output is its report, so it logs only what goes wrong."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    MeteredEngine(settings.load(), readings).app.serve()


async def prepare(kafka: Connection, load: Load) -> str:
    """Make topics of their own and fill that of the readings; gives the topics' prefix."""
    prefix = f"bench-{os.getpid()}-{time.monotonic_ns()}-"
    specs = topics.prefixed(topics.load(), prefix)
    await topics.apply(kafka, await topics.plan(kafka, specs))
    partitions = next(spec.partitions for spec in specs if spec.name == f"{prefix}readings")
    if load.ruled:
        await register(kafka, f"{prefix}registry", load)
    began = time.monotonic()
    await fill(kafka, f"{prefix}readings", partitions, load)
    _log.info("filled", readings=load.readings, seconds=round(time.monotonic() - began, 1))
    return prefix


async def measure(kafka: Connection, prefix: str, readings: int) -> dict[str, Any]:
    """Run the engine over the prepared topics; gives the child's report, or raises StreamprocError."""
    command = [sys.executable, "-c", f"from streamproc.bench.engine import child; child({readings})"]
    variables = {**os.environ, **kafka.variables(), "STREAMPROC_TOPIC_PREFIX": prefix}
    process = await asyncio.create_subprocess_exec(*command, env=variables, stdout=subprocess.PIPE)
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:  # cancelled
            process.kill()
            await process.wait()
    if process.returncode:
        raise StreamprocError(f"the measured worker ended with {process.returncode}")
    try:
        told: dict[str, Any] = json.loads(output.splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise StreamprocError("the measured worker ended without its figures") from error
    return told


@asynccontextmanager
async def broker() -> AsyncIterator[Connection]:
    """KAFKA_BOOTSTRAP, or a broker of its own for as long as the block takes."""
    loaded = settings.load()
    if loaded.kafka_bootstrap:
        yield loaded.kafka
        return
    with tempfile.TemporaryDirectory(prefix="streamproc-bench-") as folder:
        own = await Broker.start(await install(_log.info), Path(folder))
        try:
            yield own.connection
        finally:
            await own.stop()


async def run(load: Load) -> None:
    """Measure on KAFKA_BOOTSTRAP, or on a broker of its own, and print the figures."""
    async with broker() as kafka:
        told = await measure(kafka, await prepare(kafka, load), load.readings)
    rate, per_cpu = told["readings"] / told["wall_s"], told["readings"] / told["cpu_s"]
    print(
        f"streamproc: {told['readings']} readings, {told['sensors']} sensors: {rate:.0f}/s wall, "
        f"{per_cpu:.0f} per CPU-second, peak {told['peak_kb'] / 1024:.0f} MB"
    )
