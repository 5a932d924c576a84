"""Plays devices against a gateway, as devices do: packets over HTTP, sent again until they are accepted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp
import orjson
import structlog
from aiokafka.errors import KafkaError

from streamproc.dev.fleet import Device, made_devices, series_device, water_flow
from streamproc.dev.place import reachable
from streamproc.kafka import clients
from streamproc.kafka.diagnosis import failure
from streamproc.records import SensorEntry
from streamproc.registry import put
from streamproc.settings import Settings
from streamproc.store import connect
from streamproc.store.edits import Registered, topic_key

log = structlog.get_logger(__name__)

#: A device keeps what it could not send for so long, as one with a small memory does.
MEMORY_S = 300.0
#: One attempt to send; longer than the gateway's wait for Kafka (10 s unless set), so its answer is heard.
TIMEOUT_S = 15.0
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True)
class Play:
    """One run of the simulator: where to, since when (epoch seconds), under which name, from which seed."""

    gateway: str
    started_at: float
    name: str
    seed: int = 1
    api_key: str | None = None

    def packet(self, device: Device, step: int) -> bytes | None:
        """The packet of a device's reading number `step`; None where nothing was read."""
        readings = device.read(step, self.seed)
        if not readings:
            return None
        return orjson.dumps(
            {
                "device_uuid": device.uuid,
                "readings": [{"sensor_uuid": sensor, "value": value} for sensor, value in readings],
                "ts": round(self.started_at + step * device.period_s, 3),
                "packet_id": f"{self.name}-{step}",
            }
        )

    def next_step(self, device: Device, step: int, now: float) -> int:
        """`step`, or the oldest that the device still remembers."""
        oldest = int((now - self.started_at - MEMORY_S) / device.period_s)
        return max(step, oldest)


async def run(settings: Settings, speed: float, stop: asyncio.Event) -> None:
    """Register the fleet, then play it against the gateway of the settings until `stop` is set."""
    devices = [*made_devices(), series_device(water_flow(), speed)]
    await register(settings, [sensor.entry for device in devices for sensor in device.sensors])
    started_at = time.time()
    play = Play(gateway_url(settings), started_at, f"{started_at:.3f}", api_key=settings.ingest_api_key)
    playing = asyncio.create_task(simulate(devices, play))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({playing, stopping}, return_when=asyncio.FIRST_COMPLETED)
    for task in (playing, stopping):
        task.cancel()
    await asyncio.wait({playing, stopping})
    if not playing.cancelled():
        playing.result()


async def register(settings: Settings, entries: Sequence[SensorEntry]) -> None:
    """Save and send the entries of sensors that have none yet; what a user has edited or removed stays so."""
    store = connect(settings, process="simulate")
    await store.open()
    producer = clients.producer(settings.kafka, acks="all")
    try:
        known = await store.registry()
        try:
            await producer.start()
        except KafkaError as error:
            raise await failure(settings.kafka, error) from error
        new = [entry for entry in entries if _is_new(entry, known)]
        await put(store, producer, new, settings.topic("registry"))
    finally:
        await producer.stop()
        await store.close()


def _is_new(entry: SensorEntry, known: Registered) -> bool:
    """Whether nobody has written, or removed, the sensor or its device; one that readings have registered has no name."""
    if entry.device and known.get(topic_key("device", entry.device), True) is None:
        return False
    if entry.sensor not in known:
        return True
    there = known[entry.sensor]
    return isinstance(there, SensorEntry) and there.name is None


def gateway_url(settings: Settings) -> str:
    """The gateway's address, as a client on this machine calls it."""
    scheme = "https" if settings.tls_certificate else "http"
    return f"{scheme}://{reachable(settings.gateway_host)}:{settings.gateway_port}"


async def simulate(devices: Sequence[Device], play: Play) -> None:
    """Play all devices until cancelled."""
    headers = {"X-API-Key": play.api_key} if play.api_key else {}
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with (
        aiohttp.ClientSession(play.gateway, headers=headers, timeout=timeout) as session,
        asyncio.TaskGroup() as group,
    ):
        for device in devices:
            group.create_task(_play_device(session, device, play))


async def _play_device(session: aiohttp.ClientSession, device: Device, play: Play) -> None:
    step = 0
    while True:
        await asyncio.sleep(play.started_at + step * device.period_s - time.time())
        packet = play.packet(device, step)
        if packet is not None:
            await deliver(session, packet)
        step = play.next_step(device, step + 1, time.time())


async def deliver(session: aiohttp.ClientSession, packet: bytes) -> None:
    """Post a packet until it is accepted, the same each time, so that it counts once; drop a refused one."""
    pause = FIRST_PAUSE_S
    while not await _accepted(session, packet):
        await asyncio.sleep(pause)
        pause = min(LONGEST_PAUSE_S, pause * 2)


async def _accepted(session: aiohttp.ClientSession, packet: bytes) -> bool:
    """Whether the packet need not be sent again."""
    try:
        async with session.post("/ingest/packets", data=packet, headers=_JSON) as answer:
            text = await answer.text()
            status = answer.status
    except (aiohttp.ClientError, TimeoutError) as error:
        log.warning("gateway did not answer", error=str(error) or type(error).__name__)
        return False
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
        log.warning("gateway asks to try again", status=status)
        return False
    if status >= HTTPStatus.BAD_REQUEST:
        log.error("gateway refused a packet", status=status, answer=text[:500], packet=packet[:500].decode())
    return True


_JSON = {"Content-Type": "application/json"}
