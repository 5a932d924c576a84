"""The devices that the simulator plays: a real series, and made devices with one named fault each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from streamproc.dev.faults import Signal, When, drift, drop_out, noise, spike, stuck, wave
from streamproc.records import Range, SensorEntry

#: A made device reads its sensors twice a second.
MADE_PERIOD_S = 0.5
#: The real series has one value an hour.
SERIES_PERIOD_S = 3_600.0
SERIES_DEVICE = "waterworks"
SERIES_SENSOR = "waterworks-pipeline-flow"


@dataclass(frozen=True, slots=True)
class Sensor:
    """One sensor: its entry for the registry, and what it reads."""

    entry: SensorEntry
    signal: Signal


@dataclass(frozen=True, slots=True)
class Device:
    """Sensors that are read together every `period_s` seconds and sent in one packet."""

    uuid: str
    period_s: float
    sensors: tuple[Sensor, ...]

    def read(self, step: int, seed: int) -> list[tuple[str, float]]:
        """Sensor and value of reading number `step`; the same for the same `seed` each time."""
        t = step * self.period_s
        readings = []
        for sensor in self.sensors:
            rng = Random(f"{seed} {sensor.entry.sensor} {step}")  # noqa: S311  # a signal, not a secret
            value = sensor.signal(t, rng)
            if value is not None:
                readings.append((sensor.entry.sensor, round(value, 3)))
        return readings


def _made(
    device: str,
    kind: str,
    unit: str,
    signal: Signal,
    warning: tuple[float, float] | None = None,
    critical: tuple[float, float] | None = None,
) -> Sensor:
    entry = SensorEntry(
        sensor=f"{device}-{kind}".replace(" ", "-"),
        device=device,
        name=f"{device} {kind}",
        unit=unit,
        kind=kind,
        warning=Range(*warning) if warning else None,
        critical=Range(*critical) if critical else None,
    )
    return Sensor(entry, signal)


def made_devices() -> tuple[Device, ...]:
    """The made devices; each fault begins within a minute, as a newcomer looks for no longer.

    The noise begins once the learners have warmed up: no range gives it away.
    """
    spiky = spike(wave(68, 1.5, 60, 0.2), When(20, 75, 2), 30)
    drifting = drift(wave(6.0, 0.1, 45, 0.03), When(25, 120, 40), 0.06)
    sticking = stuck(wave(14, 0.8, 30, 0.15), When(40, 150, 40))
    silent = drop_out(wave(48, 3, 90, 0.4), When(30, 110, 25))
    shaking = noise(wave(2.2, 0.1, 40, 0.05), When(55, 130, 20), 1.5)
    cold = drift(wave(-18, 0.5, 120, 0.1), When(60, 200, 45), 0.2)
    parts = {
        "boiler-1": (_made("boiler-1", "temperature", "°C", wave(66, 1.5, 70, 0.2), (55, 80), (45, 95)),),
        "boiler-2": (
            _made("boiler-2", "temperature", "°C", spiky, (55, 80), (45, 95)),
            _made("boiler-2", "pressure", "bar", drifting, (4.5, 7.0), (3.5, 8.0)),
        ),
        "compressor-1": (
            _made("compressor-1", "vibration", "mm/s", shaking),
            _made("compressor-1", "current", "A", sticking),
        ),
        "greenhouse-3": (_made("greenhouse-3", "humidity", "%", silent, (35, 65), (20, 80)),),
        "cold-room-1": (_made("cold-room-1", "temperature", "°C", cold, (-22, -14), (-26, -10)),),
    }
    return tuple(Device(uuid, MADE_PERIOD_S, sensors) for uuid, sensors in parts.items())


def series_device(values: Sequence[float], speed: float) -> Device:
    """River's WaterFlow as a device: hourly values, `speed` times as fast, over and over."""
    period_s = SERIES_PERIOD_S / speed

    def read(t: float, _: Random) -> float:
        return values[round(t / period_s) % len(values)]

    entry = SensorEntry(
        sensor=SERIES_SENSOR, device=SERIES_DEVICE, name="waterworks pipeline flow", unit="l/s", kind="flow"
    )
    return Device(SERIES_DEVICE, period_s, (Sensor(entry, read),))


def water_flow() -> list[float]:
    """River's WaterFlow in litres per second: 1,268 hourly values of spring 2022, four anomalous segments."""
    from river.datasets import WaterFlow  # noqa: PLC0415  # half a second, for the simulator alone

    return [flow for _, flow in WaterFlow()]
