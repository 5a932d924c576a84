"""The made signals and faults, the fleet, and how a device delivers."""

import asyncio
import statistics
from collections.abc import Callable
from random import Random

import orjson
import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from streamproc.core.codec import Packet, parse
from streamproc.dev.faults import Signal, When, drift, drop_out, noise, spike, stuck, wave
from streamproc.dev.fleet import (
    MADE_PERIOD_S,
    SERIES_SENSOR,
    Device,
    made_devices,
    series_device,
    water_flow,
)
from streamproc.dev.simulator import MEMORY_S, Play, deliver, simulate
from streamproc.kafka.broker import free_port

SOON_S = 20.0
HEALTHY = wave(50, 2, 60, 0.5)
WHEN = When(first_s=20, every_s=100, lasts_s=10)
FAULTS: dict[str, Signal] = {
    "spike": spike(HEALTHY, WHEN, 30),
    "drift": drift(HEALTHY, WHEN, 2),
    "stuck": stuck(HEALTHY, WHEN),
    "drop-out": drop_out(HEALTHY, WHEN),
    "noise": noise(HEALTHY, WHEN, 20),
}
MOMENTS = st.floats(0, 1e6, allow_nan=False)


def _value(signal: Signal, t: float, seed: int = 1) -> float:
    """What the signal reads at `t`, which must be something."""
    value = signal(t, Random(seed))  # noqa: S311  # a signal, not a secret
    assert value is not None
    return value


@given(st.sampled_from(sorted(FAULTS)), MOMENTS, st.integers(0, 2**32))
def test_a_fault_leaves_healthy_times_alone(name: str, t: float, seed: int) -> None:
    """Where no fault is under way the signal is the healthy one; the same seed gives the same value."""
    fault = FAULTS[name]
    first, again = (fault(t, Random(seed)) for _ in range(2))  # noqa: S311  # a signal, not a secret
    assert first == again
    if WHEN.since(t) is None:
        assert first == _value(HEALTHY, t, seed)


@given(st.floats(0, 9.9), st.integers(0, 50))
def test_faults_are_what_they_are_called(into: float, turn: int) -> None:
    """While it lasts, each fault does to the value what its name says."""
    t = 20 + 100 * turn + into
    healthy = _value(HEALTHY, t)
    assert _value(FAULTS["spike"], t) == pytest.approx(healthy + 30)
    assert _value(FAULTS["drift"], t) == pytest.approx(healthy + 2 * into, abs=1e-6)
    assert FAULTS["drop-out"](t, Random(1)) is None  # noqa: S311  # a signal, not a secret
    assert _value(FAULTS["stuck"], t, seed=1) == _value(FAULTS["stuck"], 20 + 100 * turn, seed=2)


def test_noise_is_noisier() -> None:
    """The deviation during the fault is the noise's, and the level stays."""
    values = [_value(FAULTS["noise"], 25, seed) for seed in range(500)]
    assert statistics.stdev(values) == pytest.approx(20, rel=0.15)
    assert statistics.mean(values) == pytest.approx(_value(HEALTHY, 25), abs=4)


def test_each_fault_shows_within_a_minute() -> None:
    """Of each named fault the fleet has a sensor whose first one begins within a minute, one within 30 s."""
    differing: dict[str, float] = {}
    for device in made_devices():
        for sensor in device.sensors:
            for step in range(120):
                t = step * MADE_PERIOD_S
                if (begun := _first_fault(sensor.signal, t)) is not None:
                    differing.setdefault(sensor.entry.sensor, begun)
    assert set(differing) >= {
        "boiler-2-temperature",
        "boiler-2-pressure",
        "compressor-1-current",
        "greenhouse-3-humidity",
        "compressor-1-vibration",
    }
    assert min(differing.values()) <= 30


def _first_fault(signal: Signal, t: float) -> float | None:
    """`t` where a fault of the signal is under way: its closure knows when."""
    cells = dict(zip(signal.__code__.co_freevars, signal.__closure__ or (), strict=True))
    when = cells["when"].cell_contents if "when" in cells else None
    return t if isinstance(when, When) and when.since(t) is not None else None


def test_the_fleet_reads_well() -> None:
    """Sensors are named for people, have units, and a warning range lies inside its critical one."""
    entries = [sensor.entry for device in made_devices() for sensor in device.sensors]
    assert len({entry.sensor for entry in entries}) == len(entries) >= 6
    for entry in entries:
        assert entry.name
        assert entry.unit
        assert entry.sensor == entry.sensor.lower()
        if entry.warning and entry.critical:
            inner, outer = entry.warning, entry.critical
            assert None not in (inner.low, inner.high, outer.low, outer.high)
            assert (outer.low or 0) < (inner.low or 0) < (inner.high or 0) < (outer.high or 0)


def test_the_real_series_is_rivers() -> None:
    """All 1,268 hourly values come in their order, one a second at 3,600 times the speed, and then again."""
    flow = water_flow()
    assert len(flow) == 1_268
    assert flow[:3] == [100.59, 100.89, 100.88]
    device = series_device(flow, 3_600)
    assert device.period_s == 1
    assert [device.read(step, 1) for step in (0, 1, 1_268)] == [
        [(SERIES_SENSOR, 100.59)],
        [(SERIES_SENSOR, 100.89)],
        [(SERIES_SENSOR, 100.59)],
    ]
    assert [value for step in range(1_268) for _, value in device.read(step, 1)] == flow


@given(st.integers(0, 10_000), st.sampled_from(made_devices()))
def test_packets_are_what_the_gateway_takes(step: int, device: Device) -> None:
    """A packet parses, names its device, carries its own time and an id that no other step has."""
    play = Play("http://gateway", 1_700_000_000.0, "run")
    body = play.packet(device, step)
    if body is None:
        assert device.read(step, play.seed) == []
        return
    packet = parse(body)
    assert isinstance(packet, Packet)
    assert packet.device_uuid == device.uuid
    assert packet.ts == 1_700_000_000.0 + step * MADE_PERIOD_S
    assert packet.packet_id == f"run-{step}"
    assert play.packet(device, step) == body


def test_a_device_forgets_what_is_too_old() -> None:
    """After a long outage a device goes on with the oldest step it remembers, else with the next."""
    play = Play("http://gateway", 1_000.0, "run")
    device = made_devices()[0]
    assert play.next_step(device, 7, 1_010.0) == 7
    assert play.next_step(device, 7, 1_000.0 + MEMORY_S + 100) == 200


class Gateway:
    """A small HTTP server that answers as told and keeps what it was sent."""

    def __init__(self, answer: Callable[[int], int], port: int | None = None) -> None:
        self.bodies: asyncio.Queue[bytes] = asyncio.Queue()
        self.requests = 0
        self._answer = answer
        app = web.Application()
        app.router.add_post("/ingest/packets", self._ingest)
        self.server = TestServer(app, port=port)

    async def _ingest(self, request: web.Request) -> web.Response:
        self.bodies.put_nowait(await request.read())
        self.requests += 1
        return web.Response(status=self._answer(self.requests))


async def test_a_packet_is_sent_again_until_accepted() -> None:
    """After 503 the same bytes come again, and after 202 no more."""
    gateway = Gateway(lambda request: 503 if request < 3 else 202)
    async with gateway.server, ClientSession(gateway.server.make_url("/")) as session:
        await asyncio.wait_for(deliver(session, b"packet"), SOON_S)
    assert [gateway.bodies.get_nowait() for _ in range(3)] == [b"packet"] * 3
    assert gateway.bodies.empty()


async def test_a_refused_packet_is_dropped() -> None:
    """A packet that the gateway calls wrong is not sent again: it would be wrong for ever."""
    gateway = Gateway(lambda _: 422)
    async with gateway.server, ClientSession(gateway.server.make_url("/")) as session:
        await asyncio.wait_for(deliver(session, b"packet"), SOON_S)
    assert gateway.requests == 1


async def test_a_packet_waits_for_the_gateway() -> None:
    """A packet that finds no gateway is delivered once there is one."""
    port = free_port()
    async with ClientSession(f"http://127.0.0.1:{port}") as session:
        delivery = asyncio.create_task(deliver(session, b"packet"))
        gateway = Gateway(lambda _: 202, port)
        async with gateway.server:
            await asyncio.wait_for(delivery, SOON_S)
    assert gateway.requests == 1


async def test_devices_send_their_steps_in_order() -> None:
    """Each device's packets arrive step by step, its backlog at once, and the key goes along."""
    gateway = Gateway(lambda _: 202)
    async with gateway.server:
        play = Play(str(gateway.server.make_url("/")), 1_000.0, "run", api_key="secret")
        devices = [
            Device("one", 1e-3, made_devices()[0].sensors),
            Device("two", 1e-3, made_devices()[1].sensors),
        ]
        playing = asyncio.create_task(simulate(devices, play))
        packets = [orjson.loads(await asyncio.wait_for(gateway.bodies.get(), SOON_S)) for _ in range(40)]
        playing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await playing
    for device in ("one", "two"):
        ids = [
            int(packet["packet_id"].split("-")[1]) for packet in packets if packet["device_uuid"] == device
        ]
        assert len(ids) > 5
        assert ids[1:] == sorted(set(ids[1:]))
