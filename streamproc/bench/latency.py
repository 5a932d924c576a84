"""How long a reading takes from POST to its severity event on the topic, and to its rows in the database.

`streamproc dev --no-simulate` runs as it does for any user, in a directory of its own. Beside a steady load, probe sensors
breach a critical range, once each. All times are by this process's clock. The database is the one that the settings name: a
file in that directory, or a database created on the SQL Server of DB_HOST and dropped afterwards.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import cycle
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import orjson
from aiokafka import AIOKafkaConsumer

from streamproc.errors import StreamprocError
from streamproc.kafka import clients
from streamproc.kafka.broker import free_port
from streamproc.settings import Settings, load
from streamproc.settings.connection import Connection

PACKET_READINGS = 10
DEVICES = 100
#: Prepared bodies; each is sent many times, as readings without a time of their own are always new.
BODIES = 2_000
#: Few connections, as from a few concentrators: one request at a time on each, 500 packets a second in all.
CONNECTIONS = 8
#: Load before the first probe: learners, caches and the database's file are then in use.
WARM_UP_S = 5.0
#: Probes a second: enough for a p99 in half a minute, too few to be load themselves.
PROBES_PER_S = 10.0
#: The limit is 100.
PROBE_VALUE, PROBE_LIMIT = 1_000.0, 100.0
#: Between two looks at the database, in seconds: what the figures for rows may be too high by.
LOOK_S = 0.005
#: After the last probe, for what is still under way.
PATIENCE_S = 10.0
READY_S = 120.0
#: Sent before the load and not counted: what a server makes ready for a sink's first rows may take it many seconds.
FIRST = "probe-first"
#: Between two tries with it: a range counts within a second.
AGAIN_S = 1.0


@dataclass(slots=True)
class Probes:
    """When each probe was sent, acknowledged and seen, in seconds of the monotonic clock."""

    sent: dict[str, float] = field(default_factory=dict)
    answered: dict[str, float] = field(default_factory=dict)
    event: dict[str, float] = field(default_factory=dict)
    event_row: dict[str, float] = field(default_factory=dict)
    reading_row: dict[str, float] = field(default_factory=dict)

    def complete(self) -> bool:
        """Whether everything that was sent has been seen everywhere."""
        return all(len(seen) == len(self.sent) for seen in (self.event, self.event_row, self.reading_row))

    def clear(self) -> None:
        """Forget what was seen."""
        for seen in (self.sent, self.answered, self.event, self.event_row, self.reading_row):
            seen.clear()

    def report(self) -> Iterator[str]:
        """A line a stage: p50, p99 and greatest latency in ms, and how many probes never came."""
        for name in ("answered", "event", "event_row", "reading_row"):
            seen: dict[str, float] = getattr(self, name)
            took = np.array(
                [1e3 * (seen[probe] - sent) for probe, sent in self.sent.items() if probe in seen]
            )
            if not len(took):
                yield f"POST → {LABELS[name]:<28} none of {len(self.sent)} seen"
                continue
            p50, p99 = np.percentile(took, [50, 99])
            missing = len(self.sent) - len(took)
            yield (
                f"POST → {LABELS[name]:<28} p50 {p50:6.1f} ms   p99 {p99:6.1f} ms   max {took.max():6.1f} ms"
                f"   {len(took)} probes, {missing} missing"
            )


#: The rows after the last one seen, with their sensors; SQL Server's tables are in the schema `dbo`.
QUERY = "SELECT r.id, s.uuid FROM {0}{1} r JOIN {0}sensors s ON s.id = r.sensor_id WHERE r.id > ?"
LABELS = {
    "answered": "202",
    "event": "event on its topic",
    "event_row": "row in ml_events",
    "reading_row": "row in sensor_readings",
}


async def run(seconds: float, rate: int) -> None:
    """Measure for `seconds` under `rate` readings a second, and print; raises StreamprocError."""
    names = [f"probe-{number:05d}" for number in range(int(seconds * PROBES_PER_S))]
    with tempfile.TemporaryDirectory(prefix="streamproc-latency-") as directory:
        settings = load(
            data_dir=Path(directory),
            database=Path(directory, "streamproc.db"),
            gateway_port=free_port(),
            console_port=free_port(),
            kafka_port=free_port(),
            kafka_bootstrap="",
        )
        async with _stored(settings) as chosen, _dev(chosen):
            await _register(chosen, [FIRST, *names])
            probes, packets = await _measure(chosen, names, rate)
    reached = packets * PACKET_READINGS / (seconds + WARM_UP_S)
    print(f"database: {'SQL Server' if settings.store == 'sqlserver' else 'SQLite'}")
    print(f"{reached:,.0f} readings/s for {seconds:g} s, {rate:,} wanted")
    for line in probes.report():
        print(line)


@asynccontextmanager
async def _stored(settings: Settings) -> AsyncIterator[Settings]:
    """The settings with a database of the measurement's own, which goes with the block."""
    if settings.store != "sqlserver":
        yield settings  # a file in the directory, which `dev` makes
        return
    from streamproc.bench.database import made  # noqa: PLC0415  # only who has one needs its packages

    async with made(settings) as chosen:
        yield chosen


@asynccontextmanager
async def _dev(settings: Settings) -> AsyncIterator[None]:
    """`streamproc dev`, ready; stopped at the end of the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "streamproc", "dev", "--no-simulate"),
        env=_environment(settings),
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    drain: asyncio.Task[None] | None = None
    try:
        async with asyncio.timeout(READY_S):
            async for line in process.stdout:
                if line.startswith(b"ready"):
                    break
                print(line.decode(), end="", file=sys.stderr)
            else:
                raise StreamprocError("`streamproc dev` ended before it was ready")
        drain = asyncio.create_task(_drain(process.stdout))
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        if drain is not None:
            await drain


def _environment(settings: Settings) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "KAFKA_BOOTSTRAP"} | {
        "DB_NAME": settings.db_name,
        "GATEWAY_PORT": str(settings.gateway_port),
        "CONSOLE_PORT": str(settings.console_port),
        "KAFKA_PORT": str(settings.kafka_port),
        "STREAMPROC_DATA_DIR": str(settings.data_dir),
        "STREAMPROC_DATABASE": str(settings.database_path),
    }


async def _drain(stream: asyncio.StreamReader) -> None:
    """Read what nobody needs, so that its writer is not held up."""
    while await stream.read(65_536):
        pass


async def _register(settings: Settings, names: list[str]) -> None:
    """Give each probe its critical range, by the command that users have for it."""
    file = settings.data_dir / "probes.json"
    file.write_bytes(orjson.dumps([{"sensor": name, "critical": {"high": PROBE_LIMIT}} for name in names]))
    command = (sys.executable, "-m", "streamproc", "registry", "import", str(file))
    variables = _environment(settings) | {"KAFKA_BOOTSTRAP": _bootstrap(settings)}
    process = await asyncio.create_subprocess_exec(*command, env=variables, stdout=asyncio.subprocess.DEVNULL)
    try:
        code = await process.wait()
    finally:
        if process.returncode is None:  # cancelled
            process.kill()
            await process.wait()
    if code:
        raise StreamprocError("the probes' ranges could not be registered")


def _bootstrap(settings: Settings) -> str:
    return f"127.0.0.1:{settings.kafka_port}"


async def _measure(settings: Settings, names: list[str], rate: int) -> tuple[Probes, int]:
    """Send load and probes; gives what was seen of the probes, and how many packets of load were accepted."""
    probes = Probes()
    done = threading.Event()
    consumer = clients.consumer(
        Connection(_bootstrap(settings)), settings.topic("events"), enable_auto_commit=False
    )
    await consumer.start()
    await consumer.seek_to_end()
    events = asyncio.create_task(_watch_events(consumer, probes))
    rows = asyncio.create_task(asyncio.to_thread(_watch_rows, settings, probes, done))
    try:
        url = f"http://127.0.0.1:{settings.gateway_port}"
        await _begin(url, probes)
        accepted = await _send(url, names, rate, probes)
        await _complete(probes, PATIENCE_S)
    finally:
        done.set()
        events.cancel()
        await asyncio.wait({events, rows})
        await consumer.stop()
    rows.result()
    return probes, accepted


async def _begin(url: str, probes: Probes) -> None:
    """Wait until a first event, and its rows, have come all the way; it is sent again, as its range may count later."""
    deadline = time.monotonic() + READY_S
    async with aiohttp.ClientSession(url) as session:
        await _probe(session, FIRST, probes)
        while not await _complete(probes, AGAIN_S):
            if time.monotonic() > deadline:
                raise StreamprocError(f"a first reading's rows were not in the database after {READY_S:g} s")
            await _probe(session, FIRST, probes)
    probes.clear()


async def _complete(probes: Probes, within_s: float) -> bool:
    """Wait until all that was sent has been seen everywhere; whether it has."""
    deadline = time.monotonic() + within_s
    while not probes.complete() and time.monotonic() < deadline:  # noqa: ASYNC110  # a thread sets it, too
        await asyncio.sleep(LOOK_S)
    return probes.complete()


async def _watch_events(consumer: AIOKafkaConsumer, probes: Probes) -> None:
    """Note when each probe's event arrives."""
    async for record in consumer:
        sensor = orjson.loads(record.value)["sensor"]
        if sensor in probes.sent:
            probes.event.setdefault(sensor, time.monotonic())


def _watch_rows(settings: Settings, probes: Probes, done: threading.Event) -> None:
    """Note, in a thread, when each probe's rows can be read; only new rows are looked at."""
    connection, dbo = _reader(settings)
    with closing(connection):
        watched = [("ml_events", probes.event_row, 0), ("sensor_readings", probes.reading_row, 0)]
        while not done.wait(LOOK_S):
            for index, (table, seen, last) in enumerate(watched):
                rows = connection.execute(QUERY.format(dbo, table), (last,)).fetchall()
                now = time.monotonic()
                for _, sensor in rows:
                    if sensor in probes.sent:
                        seen.setdefault(sensor, now)
                watched[index] = (table, seen, max((row for row, _ in rows), default=last))


def _reader(settings: Settings) -> tuple[Any, str]:
    """A connection that only reads, and what the names of its tables begin with."""
    if settings.store != "sqlserver":
        return sqlite3.connect(f"file:{settings.database_path}?mode=ro", uri=True), ""
    from streamproc.bench.database import connection_string  # noqa: PLC0415  # as above
    from streamproc.store.sqlserver import driver  # noqa: PLC0415

    return driver.pyodbc().connect(connection_string(settings), autocommit=True), "dbo."


async def _send(url: str, names: list[str], rate: int, probes: Probes) -> int:
    """Send the load, and after the warm-up the probes; gives how many packets of load were accepted."""
    load_bodies = bodies()
    share = rate / PACKET_READINGS / CONNECTIONS
    connector = aiohttp.TCPConnector(limit=CONNECTIONS + int(PROBES_PER_S))
    async with aiohttp.ClientSession(url, connector=connector) as session:
        load = [
            asyncio.create_task(_load(session, load_bodies[number::CONNECTIONS], share))
            for number in range(CONNECTIONS)
        ]
        started = time.monotonic() + WARM_UP_S
        try:
            async with asyncio.TaskGroup() as group:
                for number, name in enumerate(names):
                    await asyncio.sleep(started + number / PROBES_PER_S - time.monotonic())
                    group.create_task(_probe(session, name, probes))
        finally:
            for task in load:
                task.cancel()
            accepted = await asyncio.gather(*load)
        return sum(accepted)


def bodies() -> list[bytes]:
    """Packets without a time of their own, sensors dealt to devices."""
    rng = random.Random(1)  # noqa: S311  # values, not secrets
    return [
        orjson.dumps(
            {
                "device_uuid": f"device-{number % DEVICES:03d}",
                "readings": [
                    {
                        "sensor_uuid": f"sensor-{number % DEVICES:03d}-{index}",
                        "value": round(rng.gauss(20, 1), 3),
                    }
                    for index in range(PACKET_READINGS)
                ],
            }
        )
        for number in range(BODIES)
    ]


async def _load(session: aiohttp.ClientSession, bodies: list[bytes], per_second: float) -> int:
    """Send packets at an even pace until cancelled, catching up if held up; gives how many were accepted."""
    started = time.monotonic()
    accepted = 0
    with suppress(asyncio.CancelledError):
        for number, body in enumerate(cycle(bodies)):
            await asyncio.sleep(started + number / per_second - time.monotonic())
            async with session.post("/ingest/packets", data=body) as answer:
                accepted += answer.status == HTTPStatus.ACCEPTED
    return accepted


async def _probe(session: aiohttp.ClientSession, name: str, probes: Probes) -> None:
    """Send one probe, from a device of its own, so that all partitions get some."""
    body = orjson.dumps({"device_uuid": name, "readings": [{"sensor_uuid": name, "value": PROBE_VALUE}]})
    probes.sent[name] = time.monotonic()
    async with session.post("/ingest/packets", data=body) as answer:
        await answer.read()
        if answer.status == HTTPStatus.ACCEPTED:
            probes.answered[name] = time.monotonic()
