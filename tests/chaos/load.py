"""Steady load on a site: devices that post over HTTP, and devices that write to Kafka themselves."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from time import monotonic, time

import aiohttp
import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streamproc.core.routing import home
from streamproc.kafka import clients
from streamproc.records.alerting import Document
from streamproc.settings.connection import Connection
from tests.chaos.journal import Journal
from tests.chaos.moments import now_ms
from tests.chaos.orders import acknowledged, at_last, order
from tests.chaos.packets import Post, edit, neighbours, poison, post, stray
from tests.chaos.plan import Device, Plan
from tests.live.oracle import PARTITIONS

#: Clients that post at the same time, each for its share of the devices.
CLIENTS = 12
#: How long a client goes on with a packet that is not taken: longer than any fault lasts.
PATIENCE_S = 75.0
#: Between two tries of a client.
RETRY_S = 0.3
#: One of so many records of the direct producer is poison.
POISON = 150
#: One of so many has a reading of another device's sensor.
STRAY = 20
#: Unacknowledged records of the direct producer, at most.
IN_FLIGHT = 2_000
#: What producers may take to close when a run has broken off; `asyncio.run` then cancels what they wait for.
ABANDON_S = 10.0
#: The direct producer hands over what is due so often.
BEAT_S = 0.05


class Load:
    """The producers of a site; `journal` has what they were told."""

    def __init__(self, plan: Plan, bootstrap: Connection, prefix: str, gateway: str, database: Path) -> None:
        self.plan, self.journal, self._database = plan, Journal(), database
        #: When (ms) each request that the gateway took was begun, and when it was told so.
        self.taken: list[tuple[int, int]] = []
        self._bootstrap, self._gateway = bootstrap, gateway
        self._topic, self._registry = f"{prefix}readings", f"{prefix}registry"
        self._began = monotonic()
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._room = asyncio.Semaphore(IN_FLIGHT)

    def start(self) -> None:
        """Begin to send."""
        self._began = monotonic()
        devices = self.plan.devices
        http = [device for device in devices if device.way == "http"]
        direct = [device for device in devices if device.way != "http"]
        works = [self._client(number, http[number::CLIENTS]) for number in range(CLIENTS)]
        works += [self._direct(direct), self._edit()]
        self._tasks = [asyncio.create_task(work) for work in works]

    async def stop(self) -> None:
        """Send no more; what was begun is brought to its end. Raises what ended a producer."""
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def abandon(self) -> None:
        """End what still runs, however far it is: a producer whose broker is gone for good would never end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks, timeout=ABANDON_S)

    def elapsed(self) -> float:
        """Seconds since the load began."""
        return monotonic() - self._began

    def runs(self) -> bool:
        """Whether the load is to go on."""
        return self.elapsed() < self.plan.seconds

    def check(self) -> None:
        """Raise what ended a producer, if one has ended too soon."""
        for task in self._tasks:
            if task.done():
                task.result()

    def _silent(self, device: Device) -> bool:
        partition, begin, end = self.plan.silence
        return device.home == partition and begin <= self.elapsed() < end

    async def _each(
        self, name: str, devices: Sequence[Device], hand_on: Callable[[Device, Random], Awaitable[None]]
    ) -> None:
        """Have each device send when its time has come, until the load stops."""
        chance = Random(f"{name} {self.plan.seed}")  # noqa: S311  # made data
        due = {device: chance.uniform(0, device.every_s) for device in devices}
        while not self._stop.is_set():
            for device in devices:
                if due[device] <= self.elapsed():
                    # One in fifty falls silent for as long as closes all of its windows.
                    pause = chance.uniform(15, 25) if chance.random() < 0.002 else device.every_s
                    due[device] = max(due[device] + pause, self.elapsed())
                    if not self._silent(device):
                        await hand_on(device, chance)
            await self._rest(BEAT_S)

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def _edit(self) -> None:
        """Edit the registry now and then, several sensors at a time, as an import does, and what people say of alarms."""
        chance = Random(f"edits {self.plan.seed}")  # noqa: S311  # made data
        producer = await self._producer()
        try:
            while not self._stop.is_set():
                await self._rest(chance.uniform(1, 8))
                for _ in range(chance.randrange(1, 20)):
                    sensor, entry = edit(self.plan, chance)
                    value = None if entry is None else msgspec.json.encode(entry)
                    await producer.send(self._registry, value, sensor.encode())
                said: list[Document | None] = [
                    order(self.plan, chance, now_ms()),
                    acknowledged(self._database, chance, now_ms()),
                ]
                for document in (each for each in said if each is not None):
                    await producer.send(self._registry, msgspec.json.encode(document), document.key.encode())
            for document in at_last():
                await producer.send(self._registry, msgspec.json.encode(document), document.key.encode())
        finally:
            await producer.stop()

    # --- over HTTP

    async def _client(self, number: int, devices: Sequence[Device]) -> None:
        timeout = aiohttp.ClientTimeout(total=15)
        async with (
            aiohttp.ClientSession(self._gateway, timeout=timeout) as session,
            asyncio.TaskGroup() as later,
        ):

            async def hand_on(device: Device, chance: Random) -> None:
                made = post(device, time(), chance)
                await self._post(session, made)
                if made.again_s is not None:
                    self.journal.repeated.add(made.body or b"")
                    later.create_task(self._post_later(session, made, made.again_s))

            await self._each(f"client {number}", devices, hand_on)

    async def _post_later(self, session: aiohttp.ClientSession, made: Post, seconds: float) -> None:
        await self._rest(seconds)
        await self._post(session, made)

    async def _post(self, session: aiohttp.ClientSession, made: Post) -> None:
        """Post until it is taken, or patience ends."""
        end = monotonic() + PATIENCE_S
        path = "/ingest/readings" if made.single else "/ingest/packets"
        while monotonic() < end:
            why = await self._try(session, path, made)
            if why is None:
                return
            self.journal.unsure(made.body, why)
            await asyncio.sleep(RETRY_S)

    async def _try(self, session: aiohttp.ClientSession, path: str, made: Post) -> str | None:
        """None if the gateway has taken it, else why not."""
        begun = now_ms()
        try:
            async with session.post(path, data=made.body) as response:
                if response.status == 202:
                    told = await response.json()
                    self.taken.append((begun, now_ms()))
                    self.journal.add(made.body, told["partition"], told["offset"])
                    return None
                if response.status != 503:
                    raise AssertionError(f"{response.status}: {await response.text()} to {made.body!r}")
                return "503"
        except (aiohttp.ClientError, TimeoutError) as error:
            return type(error).__name__

    # --- straight to Kafka

    async def _direct(self, devices: Sequence[Device]) -> None:
        producer = await self._producer()
        self._direct_producer = producer
        count = 0

        async def hand_on(device: Device, chance: Random) -> None:
            nonlocal count
            count += 1
            made = post(device, time(), chance)
            await self._write(device, made)
            if made.again_s is not None and made.body is not None:
                self.journal.repeated.add(made.body)
                await self._write(device, made)
            if count % POISON == 0:
                await self._write(device, poison(device, time(), chance))
            if count % STRAY == 0 and (others := neighbours(self.plan, device)):
                await self._write(device, stray(device, chance.choice(others), time(), chance))

        await self._each("direct", devices, hand_on)
        for _ in range(IN_FLIGHT):
            await self._room.acquire()
        await self._direct_producer.stop()

    async def _producer(self) -> AIOKafkaProducer:
        producer = clients.producer(
            self._bootstrap,
            acks="all",
            enable_idempotence=True,
            linger_ms=5,
            max_request_size=2_000_000,
        )
        await producer.start()
        return producer

    async def _write(self, device: Device, made: Post) -> None:
        await self._room.acquire()
        partition = home(made.key, PARTITIONS)
        if device.way == "crc32":
            partition = zlib.crc32(made.key.encode()) % PARTITIONS
        try:
            sent = await self._direct_producer.send(
                self._topic, made.body, made.key.encode(), partition=partition, headers=list(made.headers)
            )
        except KafkaError as error:
            self._room.release()
            await self._failed(made, error)
            return
        sent.add_done_callback(lambda told: self._told(made, told))

    def _told(self, made: Post, told: asyncio.Future[object]) -> None:
        self._room.release()
        error = told.exception()
        if error is None:
            place = told.result()
            self.journal.add(made.body, place.partition, place.offset, made.reason)  # type: ignore[attr-defined]
        else:
            self.journal.unsure(made.body, type(error).__name__)

    async def _failed(self, made: Post, error: KafkaError) -> None:
        """Begin anew with another producer, as a device would; what the old one had is unsure."""
        self.journal.unsure(made.body, type(error).__name__)
        if error.retriable:
            return
        with suppress(KafkaError, TimeoutError):
            await asyncio.wait_for(self._direct_producer.stop(), 5)
        while not self._stop.is_set():
            try:
                self._direct_producer = await self._producer()
            except KafkaError:
                await self._rest(1.0)
            else:
                return
