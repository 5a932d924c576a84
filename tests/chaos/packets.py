"""The packets that devices send: good ones, odd ones and poison. Pure: time and chance are arguments."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

from streamproc.records import Range, SensorEntry
from tests.chaos.orders import KINDS, rules
from tests.chaos.plan import Device, Plan

#: Every so-manieth sensor has ranges.
LIMITED = 5
#: What is told of a reading beyond the skew.
_AHEAD = "ms ahead of its record"


@dataclass(frozen=True, slots=True)
class Post:
    """One body to be sent. `again_s` tells after how many seconds it is sent once more, though it was taken (None: not).

    `reason` is what its dead letter says, None where nothing is wrong with it. `key` is the record's, for direct producers.
    """

    body: bytes | None
    key: str
    again_s: float | None = None
    reason: str | None = None
    headers: tuple[tuple[str, bytes], ...] = ()

    @property
    def single(self) -> bool:
        """Whether it is a reading by itself and not a packet."""
        return self.body is not None and b'"readings"' not in self.body


def entries(plan: Plan) -> list[SensorEntry]:
    """The registry: ranges for some sensors, which the made values leave now and then, and rules of all kinds for others."""
    names = [(sensor, device) for device in plan.devices for sensor in device.sensors]
    every = (_entry(number, sensor, device) for number, (sensor, device) in enumerate(names))
    return [entry for entry in every if entry.warning or entry.rules]  # the others nobody has heard of


def _entry(number: int, sensor: str, device: Device) -> SensorEntry:
    its = rules(number, device)
    if number % LIMITED:
        return SensorEntry(sensor, device=device.name, kind=KINDS[number % len(KINDS)], rules=its)
    ranges = Range(high=40.0, clear_high=30.0), Range(low=-50.0, high=80.0)
    return SensorEntry(sensor, device=device.name, warning=ranges[0], critical=ranges[1], rules=its)


def edit(plan: Plan, chance: Random) -> tuple[str, SensorEntry | None]:
    """An edit of the registry: another range and rules for a sensor, or device, or its entry is taken away."""
    device = chance.choice(plan.devices)
    sensor = chance.choice(device.sensors)
    if chance.random() < 0.2:
        return sensor, None
    high = chance.choice((19.5, 30.0, 80.0, 200.0))
    others = neighbours(plan, device)
    owner = chance.choice(others) if others and chance.random() < 0.3 else device
    its = rules(chance.randrange(100), device)
    return sensor, SensorEntry(
        sensor, device=owner.name, kind="pump", critical=Range(high=high), rules=its, version=2
    )


def neighbours(plan: Plan, device: Device) -> list[Device]:
    """The devices that may speak for this one's sensors, where neither comes over HTTP: the gateway would refuse that.

    They have its partition: of one sensor's windows in two partitions the database could hold but one.
    """
    if device.way == "http":
        return []
    return [
        other
        for other in plan.devices
        if other.way != "http" and other.home == device.home and other != device
    ]


def stray(device: Device, other: Device, now: float, chance: Random) -> Post:
    """A packet of a device with a reading of its own, and one of another's sensor, which is foreign if that has an owner."""
    values = {
        sensor: _value(sensor, now, chance) for sensor in (device.sensors[0], chance.choice(other.sensors))
    }
    return Post(json.dumps(_body(device, values, now, "packet", chance)).encode(), device.name)


def post(device: Device, now: float, chance: Random) -> Post:
    """A device's next packet at `now` (seconds); one in some ten is odd in its time, its form or its retries."""
    values = {sensor: _value(sensor, now, chance) for sensor in device.sensors}
    ts = (
        now
        + chance.choices(
            (0.0, -0.4, -1.2, -6.0, 1.5, 30.0, -86_400.0, -10.0), (88, 4, 3, 2, 2, 0.05, 0.3, 0.5)
        )[0]
    )
    form = chance.choices(
        ("packet", "iso", "each", "timeless", "id", "timeless-id", "single", "equal"),
        (60, 8, 6, 8, 6, 5, 4, 3),
    )[0]
    body = _body(device, values, ts, form, chance)
    again = chance.uniform(0, 8) if form != "timeless" and chance.random() < 0.05 else None
    return Post(json.dumps(body).encode(), device.name, again)


def _value(sensor: str, now: float, chance: Random) -> float:
    """About 20; now and then some seconds beyond the warning or the critical range."""
    phase = (int(now) // 6 + sum(sensor.encode())) % 17
    return chance.gauss({3: 60.0, 9: 120.0}.get(phase, 20.0), 1)


def _body(device: Device, values: dict[str, float], ts: float, form: str, chance: Random) -> dict[str, Any]:
    readings: list[dict[str, Any]] = [{"sensor_uuid": name, "value": value} for name, value in values.items()]
    packet: dict[str, Any] = {"device_uuid": device.name, "readings": readings, "ts": ts}
    match form:
        case "iso":
            packet["ts"] = datetime.fromtimestamp(ts, UTC).isoformat()
        case "each":
            for index, item in enumerate(readings):
                item["ts"] = ts - 0.05 * index
            del packet["ts"]
        case "equal":
            packet["readings"] = readings + [{**item, "value": item["value"] + 0.5} for item in readings]
        case "timeless":
            del packet["ts"]
        case "id":
            packet["packet_id"] = f"p{chance.getrandbits(60):x}"
        case "timeless-id":
            packet["packet_id"] = f"p{chance.getrandbits(60):x}"
            del packet["ts"]
        case "single":
            return {**readings[0], "device_uuid": device.name.upper(), "ts": ts}
    return packet


def poison(device: Device, now: float, chance: Random) -> Post:
    """A record that nobody can use, or that looks odd and can be."""
    reading = {"sensor_uuid": device.sensors[0], "value": chance.gauss(20, 1)}
    good = json.dumps({"device_uuid": device.name, "readings": [reading], "ts": now}).encode()
    one = f'{{"sensor_id": "{device.sensors[0]}", "value": %s}}'
    kinds = (
        Post(b"{", device.name, reason="truncated"),
        Post(b"\xff\xfe\x00", device.name, reason=""),
        Post(b"[1, 2]", device.name, reason="Expected `object`"),
        Post((one % "NaN").encode(), device.name, reason="NaN is not a number"),
        Post((one % '1, "colour": "red"').encode(), device.name, reason="unknown field"),
        Post(b'{"value": 1.0}', device.name, reason="required field"),
        Post((one % f'1, "note": "{"x" * 1_000_000}"').encode(), device.name, reason="unknown field"),
        Post(None, device.name, reason="no value"),
        Post(
            (one % f'1, "device_uuid": "{device.name}", "ts": {now + 600}').encode(),
            device.name,
            reason=_AHEAD,
        ),
        Post(good, f"other-{chance.randrange(100)}"),
        Post(good, device.name, headers=(("traceparent", b"00-\xff"), ("x", b""))),
    )
    return chance.choice(kinds)
