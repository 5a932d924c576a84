"""Who may write, over HTTP, with a Kafka in memory and a registry that the test tells."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
import structlog
from aiohttp.test_utils import TestClient
from multidict import CIMultiDict

from streamproc.core.codec import Single, parse
from streamproc.gateway.access.following import Following
from streamproc.gateway.access.gate import Gate
from streamproc.gateway.access.keys import digest
from streamproc.gateway.access.metrics import Counts
from streamproc.gateway.app import build
from streamproc.records import DeviceEntry, DeviceKey, SensorEntry
from streamproc.settings import Settings
from tests.shell.served import BULK, PACKETS, READINGS, Client, MemoryPublisher, Served, metrics, problem

KEY = "sp1_aaaaaaaa_0123456789012345678901234567890123456789012"
OTHER = "sp1_bbbbbbbb_0123456789012345678901234567890123456789012"
WRONG = "sp1_cccccccc_0123456789012345678901234567890123456789012"


def packet(device: str = "d1", *sensors: str) -> bytes:
    """Make a packet of this device with a reading of each of these sensors."""
    readings = [{"sensor_uuid": sensor, "value": 1} for sensor in sensors or ("s1",)]
    return msgspec.json.encode({"device_uuid": device, "readings": readings})


def device(name: str, *keys: str, enabled: bool = True, expires_at: int | None = None) -> DeviceEntry:
    """Make a device with these keys."""
    made = tuple(DeviceKey(key[4:12], digest(key).hex(), 0, expires_at) for key in keys)
    return DeviceEntry(name, enabled=enabled, keys=made)


@dataclass
class Door:
    """A gateway, its registry and its clock."""

    client: Client
    following: Following
    publisher: MemoryPublisher
    now: list[float]

    def put(self, *entries: DeviceEntry) -> None:
        """Have the registry tell these devices."""
        for entry in entries:
            self.following.known.put_device(entry.device, entry)

    async def post(self, path: str, body: bytes, **headers: str) -> Any:
        """Post the body; `X_Device_Key` as a header's name stands for X-Device-Key."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post(path, data=body, headers=named)


@asynccontextmanager
async def door(*, read: bool = True, **more: Any) -> AsyncIterator[Door]:
    """Serve a gateway whose registry has d1 (key, s1, s2, id 7), d2 (other key, s3) and s4, which is nobody's."""
    settings = Settings.model_validate({"gateway_port": 0, **more})
    following, publisher, now = Following(settings), MemoryPublisher(), [1_000.0]
    following.known.read = read
    for sensor in (
        SensorEntry("s1", device="d1", sensor_id=7),
        SensorEntry("s2", device="D1"),
        SensorEntry("s3", device="d2", sensor_id=8),
        SensorEntry("s4", sensor_id=9),
    ):
        following.known.sensors.put(sensor.sensor, sensor)
    counts = Counts()
    gate = Gate(settings, following.known, counts, lambda: now[0])
    app = build(settings, publisher, gate, following, counts)
    async with TestClient(Served(app, settings)) as client:
        made = Door(client, following, publisher, now)
        made.put(device("D1", KEY), device("d2", OTHER))
        yield made


async def test_a_device_writes_with_its_key() -> None:
    """With a key of the packet's device it is taken; the device's name is taken in any case."""
    async with door(device_keys="required") as gateway:
        answer = await gateway.post(PACKETS, packet("D1", "S1", "s2"), X_Device_Key=KEY)
        assert answer.status == 202
        assert len(gateway.publisher.sent) == 1


async def test_without_a_key_or_with_a_wrong_one() -> None:
    """No key gets 401 that says which header; a key of nobody 403; the API key is none for packets."""
    async with door(device_keys="required", ingest_api_key="api") as gateway:
        response = await gateway.post(PACKETS, packet())
        await problem(response, 401, "key-missing")
        assert "X-Device-Key" in response.headers["WWW-Authenticate"]
        await problem(await gateway.post(PACKETS, packet(), X_API_Key="api"), 401, "key-missing")
        for wrong in (WRONG, KEY + " x", "", "ñ", KEY[:-1]):
            await problem(await gateway.post(PACKETS, packet(), X_Device_Key=wrong), 403, "key-wrong")
        assert not gateway.publisher.sent


@pytest.mark.parametrize("header", ["X-Device-Key", "X-API-Key"])
async def test_a_key_that_is_there_twice(header: str) -> None:
    """Neither of both is looked at, right or wrong."""
    wanted: dict[str, Any] = (
        {"device_keys": "required"} if header == "X-Device-Key" else {"ingest_api_key": KEY}
    )
    async with door(**wanted) as gateway:
        for other in (KEY, WRONG):
            headers = CIMultiDict([(header, KEY), (header, other)])
            answer = await gateway.client.post(PACKETS, data=packet("D1", "S1"), headers=headers)
            assert (await problem(answer, 400, "header-repeated"))["field"] == header
        assert not gateway.publisher.sent


async def test_another_devices_packet_and_sensor() -> None:
    """A key writes for its own device, and for sensors of it; of others nothing is taken."""
    async with door(device_keys="required") as gateway:
        response = await gateway.post(PACKETS, packet("d2", "s3"), X_Device_Key=KEY)
        await problem(response, 403, "foreign-device")
        for sensor in ("s3", "s4"):
            response = await gateway.post(PACKETS, packet("d1", sensor), X_Device_Key=KEY)
            await problem(response, 403, "foreign-sensor")
        response = await gateway.post(PACKETS, packet("d1", "s9"), X_Device_Key=KEY)
        await problem(response, 404, "unknown-sensor")
        assert not gateway.publisher.sent


async def test_two_keys_rotate_and_are_revoked() -> None:
    """Both live keys count; one that was taken away does not from the next request on; one that has expired neither."""
    async with door(device_keys="required") as gateway:
        gateway.put(device("d1", KEY, WRONG))
        for key in (KEY, WRONG):
            assert (await gateway.post(PACKETS, packet(), X_Device_Key=key)).status == 202
        gateway.put(device("d1", WRONG))
        await problem(await gateway.post(PACKETS, packet(), X_Device_Key=KEY), 403, "key-wrong")
        assert (await gateway.post(PACKETS, packet(), X_Device_Key=WRONG)).status == 202
        now_ms = time.time_ns() // 1_000_000
        gateway.put(device("d1", WRONG, expires_at=now_ms + 600_000))
        assert (await gateway.post(PACKETS, packet(), X_Device_Key=WRONG)).status == 202
        gateway.put(device("d1", WRONG, expires_at=now_ms))
        answer = await problem(await gateway.post(PACKETS, packet(), X_Device_Key=WRONG), 403, "key-expired")
        assert "cccccccc" in answer["detail"]


@pytest.mark.parametrize("device_keys", ["required", "off"])
async def test_a_device_that_is_disabled(device_keys: str) -> None:
    """Nothing of it is taken, with keys or without, until it is enabled again."""
    async with door(device_keys=device_keys) as gateway:
        gateway.put(device("d1", KEY, enabled=False))
        response = await gateway.post(PACKETS, packet(), X_Device_Key=KEY)
        await problem(response, 403, "device-disabled")
        gateway.put(device("d1", KEY))
        assert (await gateway.post(PACKETS, packet(), X_Device_Key=KEY)).status == 202


async def test_a_sensor_of_a_disabled_device() -> None:
    """A reading that names no device is not taken either where the sensor's device is locked out."""
    async with door() as gateway:
        gateway.put(device("d1", enabled=False))
        body = b'{"sensor_id": 7, "value": 1}'
        await problem(await gateway.post(READINGS, body), 403, "device-disabled")


async def test_ownership_without_keys() -> None:
    """Also where no key is asked for, a sensor is its device's; one that has no device is anyone's."""
    async with door() as gateway:
        assert (await gateway.post(PACKETS, packet("d1", "s1"))).status == 202
        assert (await gateway.post(PACKETS, packet("d1", "s4"))).status == 202
        await problem(await gateway.post(PACKETS, packet("d2", "s1")), 403, "foreign-sensor")
        await problem(await gateway.post(PACKETS, packet("d1", "s9")), 404, "unknown-sensor")


async def test_auto_registration_takes_unknown_sensors() -> None:
    """What nobody knows is taken then; what is another device's is not."""
    async with door(auto_register=True, read=False) as gateway:
        assert (await gateway.post(PACKETS, packet("d7", "s9"))).status == 202
        await problem(await gateway.post(PACKETS, packet("d7", "s1")), 403, "foreign-sensor")


async def test_legacy_readings_by_id() -> None:
    """A reading by the sensor's id or name needs a sensor that is known; the device is checked where it is named."""
    async with door() as gateway:
        assert (await gateway.post(READINGS, b'{"sensor_id": 7, "value": 1}')).status == 202
        assert (await gateway.post(READINGS, b'{"sensor_uuid": "S1", "value": 1}')).status == 202
        assert (
            await gateway.post(BULK, b'[{"sensor_id": 7, "value": 1}, {"sensor_id": 8, "value": 1}]')
        ).status == 202
        await problem(await gateway.post(READINGS, b'{"sensor_id": 70, "value": 1}'), 404, "unknown-sensor")
        foreign = b'{"sensor_id": 7, "device_uuid": "d2", "value": 1}'
        await problem(await gateway.post(READINGS, foreign), 403, "foreign-sensor")


async def test_a_sensors_number_stands_for_its_name() -> None:
    """What is posted by number is the sensor's own reading, judged by its ranges; a name goes before a number."""
    body = b'[{"sensor_id": 7, "value": 1}, {"sensor_id": "9", "value": 1}, {"sensor_id": "S2", "value": 1}]'
    named = ["s1", "s4", "S2"]
    for auto_register in (False, True):
        async with door(auto_register=auto_register) as gateway:
            assert (await gateway.post(BULK, body)).status == 202
            sent = [parse(message.value) for message, _ in gateway.publisher.sent]
            assert [str(row.sensor_uuid or row.sensor_id) for row in sent if isinstance(row, Single)] == named
            assert [message.key for message, _ in gateway.publisher.sent] == [name.lower() for name in named]
            gateway.following.known.sensors.put("7", SensorEntry("7"))
            assert (await gateway.post(READINGS, b'{"sensor_id": 7, "value": 1}')).status == 202
            assert gateway.publisher.sent[-1][0].key == "7"


async def test_legacy_endpoints_with_keys_required() -> None:
    """They take the API key for all sensors, or a device's key for its own; without an API key set, only the latter."""
    async with door(device_keys="required", ingest_api_key="api") as gateway:
        body = b'{"sensor_id": 7, "value": 1}'
        response = await gateway.post(READINGS, body)
        await problem(response, 401, "key-missing")
        assert "X-API-Key" in response.headers["WWW-Authenticate"]
        assert (await gateway.post(READINGS, body, X_API_Key="api")).status == 202
        assert (await gateway.post(READINGS, body, X_Device_Key=KEY)).status == 202
        await problem(await gateway.post(READINGS, body, X_Device_Key=OTHER), 403, "foreign-sensor")
        await problem(await gateway.post(READINGS, body, X_API_Key="wrong"), 403, "key-wrong")
    async with door(device_keys="required") as gateway:
        await problem(await gateway.post(READINGS, body, X_API_Key="api"), 401, "key-missing")
        assert (await gateway.post(READINGS, body, X_Device_Key=KEY)).status == 202


async def test_api_key_guards_all_without_device_keys() -> None:
    """As it was before there were device keys."""
    async with door(ingest_api_key="api") as gateway:
        await problem(await gateway.post(PACKETS, packet(), X_Device_Key=KEY), 401, "key-missing")
        assert (await gateway.post(PACKETS, packet(), X_API_Key="api")).status == 202


@pytest.mark.parametrize("settings", [{"device_keys": "required", "auto_register": True}, {}])
async def test_a_registry_that_was_never_read(settings: dict[str, Any]) -> None:
    """It is 503 with Retry-After, neither 401 nor 404, and /ready says so; when it is read, all is well."""
    async with door(read=False, **settings) as gateway:
        response = await gateway.post(PACKETS, packet(), X_Device_Key=KEY)
        await problem(response, 503, "registry-unavailable")
        assert "Retry-After" in response.headers
        answer = await problem(await gateway.client.get("/ready"), 503, "registry-unavailable")
        assert "not read" in answer["detail"]
        assert (await gateway.client.get("/health")).status == 200
        gateway.following.known.read = True
        assert (await gateway.post(PACKETS, packet(), X_Device_Key=KEY)).status == 202


async def test_rate_of_an_address() -> None:
    """Beyond its rate an address gets 429, told which limit and when to come again; then it may."""
    async with door(rate_limit_ip="2:1,3:60") as gateway:
        for _ in range(2):
            assert (await gateway.post(PACKETS, packet())).status == 202
        response = await gateway.post(PACKETS, packet())
        answer = await problem(response, 429, "rate-limited")
        assert (answer["limit"], answer["retry_after"]) == ("rate_limit_ip", 1)
        assert response.headers["Retry-After"] == "1"
        assert response.headers["RateLimit"] == '"rate_limit_ip";r=0;t=1'
        assert response.headers["RateLimit-Policy"] == '"rate_limit_ip";q=2;w=1, "rate_limit_ip";q=3;w=60'
        gateway.now[0] += 1
        assert (await gateway.post(PACKETS, packet())).status == 202
        answer = await problem(await gateway.post(PACKETS, packet()), 429, "rate-limited")
        assert answer["retry_after"] == 19
        gateway.now[0] += 19
        assert (await gateway.post(PACKETS, packet())).status == 202
        await problem(await gateway.client.get("/metrics"), 429, "rate-limited")
        assert (await gateway.client.get("/health")).status == 200
        gateway.now[0] += 60
        assert 'streamproc_gateway_limited_total{limit="rate_limit_ip"} 3.0' in await metrics(gateway.client)


async def test_rate_of_a_device() -> None:
    """It is counted by packet, of each device by itself, with keys and without; others go on."""
    async with door(rate_limit_device="2:10", device_keys="required") as gateway:
        for _ in range(2):
            assert (await gateway.post(PACKETS, packet(), X_Device_Key=KEY)).status == 202
        response = await gateway.post(PACKETS, packet(), X_Device_Key=KEY)
        answer = await problem(response, 429, "rate-limited")
        assert (answer["limit"], answer["retry_after"]) == ("rate_limit_device", 5)
        assert (await gateway.post(PACKETS, packet("d2", "s3"), X_Device_Key=OTHER)).status == 202
        gateway.now[0] += 5
        assert (await gateway.post(PACKETS, packet(), X_Device_Key=KEY)).status == 202
    async with door(rate_limit_device="1:10") as gateway:
        assert (await gateway.post(PACKETS, packet())).status == 202
        response = await gateway.post(PACKETS, packet("D1"))
        await problem(response, 429, "rate-limited")
        assert response.headers["Retry-After"] == "10"


async def test_rates_behind_a_proxy() -> None:
    """Clients of a proxy have a rate each; what they say of themselves changes nothing, nor does it without proxies."""
    async with door(rate_limit_ip="1:60", trusted_proxies="127.0.0.0/8") as gateway:
        for said in ("1.1.1.1", "2.2.2.2", "9.9.9.9, 3.3.3.3"):
            assert (await gateway.post(PACKETS, packet(), X_Forwarded_For=said)).status == 202
        response = await gateway.post(PACKETS, packet(), X_Forwarded_For="8.8.8.8, 3.3.3.3")
        await problem(response, 429, "rate-limited")
    async with door(rate_limit_ip="1:60") as gateway:
        assert (await gateway.post(PACKETS, packet(), X_Forwarded_For="1.1.1.1")).status == 202
        await problem(await gateway.post(PACKETS, packet(), X_Forwarded_For="2.2.2.2"), 429, "rate-limited")


async def test_keys_are_not_tried_out() -> None:
    """After so many wrong keys an address gets 429, even with a right key; other addresses and later times do not."""
    proxied: dict[str, Any] = {
        "device_keys": "required",
        "key_failure_limit": "3:60",
        "trusted_proxies": "127.0.0.1",
    }
    async with door(**proxied) as gateway:
        bad, good = {"X_Forwarded_For": "6.6.6.6"}, {"X_Forwarded_For": "1.1.1.1"}
        for _ in range(3):
            await problem(await gateway.post(PACKETS, packet(), X_Device_Key=WRONG, **bad), 403, "key-wrong")
        for key in (WRONG, KEY):
            response = await gateway.post(PACKETS, packet(), X_Device_Key=key, **bad)
            answer = await problem(response, 429, "rate-limited")
            assert (answer["limit"], response.headers["Retry-After"]) == ("key_failure_limit", "20")
        assert (await gateway.post(PACKETS, packet(), X_Device_Key=KEY, **good)).status == 202
        gateway.now[0] += 20
        assert (await gateway.post(PACKETS, packet(), X_Device_Key=KEY, **bad)).status == 202


async def test_devices_beside_one_with_a_wrong_key_go_on() -> None:
    """Behind one address, a key that has been right from there goes on while another device tries a wrong one."""
    async with door(device_keys="required", key_failure_limit="2:60") as gateway:
        assert (await gateway.post(PACKETS, packet(), X_Device_Key=KEY)).status == 202
        for _ in range(5):
            await gateway.post(PACKETS, packet(), X_Device_Key=WRONG)
        assert (await gateway.post(PACKETS, packet(), X_Device_Key=KEY)).status == 202
        gateway.put(device("d1"))
        response = await gateway.post(PACKETS, packet(), X_Device_Key=KEY)
        await problem(response, 403, "key-wrong")


async def test_right_keys_are_not_counted() -> None:
    """Any number of right keys from one address, behind NAT, say, is no attempt at anything."""
    async with door(device_keys="required", key_failure_limit="1:60") as gateway:
        for _ in range(5):
            assert (await gateway.post(PACKETS, packet(), X_Device_Key=KEY)).status == 202
            assert (await gateway.post(PACKETS, packet("d2", "s3"), X_Device_Key=OTHER)).status == 202


async def test_wrong_keys_are_logged_seldom_and_never_told() -> None:
    """A minute has one line for an address, with nothing of any key, nor have metrics or answers."""
    with structlog.testing.capture_logs() as lines:
        async with door(
            device_keys="required", key_failure_limit="3:60", ingest_api_key="sekret-api"
        ) as gateway:
            answers = []
            for minute in range(3):
                gateway.now[0] = 1_000.0 + 60 * minute
                for key in (WRONG, WRONG, WRONG, WRONG, KEY):
                    response = await gateway.post(PACKETS, packet(), X_Device_Key=key)
                    answers.append(await response.text())
            response = await gateway.post(READINGS, b'{"sensor_id": 7, "value": 1}', X_API_Key="sekret-apy")
            answers += [await response.text(), await metrics(gateway.client)]
    assert [line["event"] for line in lines].count("key_refused") == 3
    told = str(lines) + str(answers)
    for secret in (KEY, WRONG, OTHER, digest(KEY).hex(), digest(WRONG).hex(), "sekret"):
        assert secret not in told
    assert 'streamproc_gateway_key_failures_total{reason="wrong"}' in answers[-1]


async def test_of_an_array_what_may_be_written_is() -> None:
    """Another's packet, another's sensor and a packet too many cost themselves alone, unless all are."""
    packets = [packet("d1", "s1", "s3"), packet("d2", "s3"), packet("d1", "s2"), packet("d1", "s1")]
    async with door(device_keys="required", rate_limit_device="2:10") as gateway:
        body = b"[" + b",".join(packets) + b"]"
        response = await gateway.post(PACKETS, body, X_Device_Key=KEY)
        answer = await response.json()
        assert (response.status, answer["accepted"], answer["rejected"]) == (207, 2, 3)
        kinds = [[fault["kind"] for fault in item.get("rejected", [])] for item in answer["results"]]
        assert kinds == [["foreign-sensor"], ["foreign-device"], [], ["rate-limited"]]
        assert len(gateway.publisher.sent) == 2
        gateway.now[0] += 5
        assert (await gateway.post(PACKETS, packets[0], X_Device_Key=KEY)).status == 207
        response = await gateway.post(PACKETS, packets[0], X_Device_Key=KEY)
        await problem(response, 429, "rate-limited")
        assert response.headers["Retry-After"] == "5"


async def test_admins_are_counted_with_all_others_of_their_address_but_for_wrong_keys() -> None:
    """One limit of requests for all of the gateway; a device that guesses keys keeps no admin out."""
    limits: dict[str, Any] = {"rate_limit_ip": "4:60", "key_failure_limit": "1:60"}
    async with door(admin_api_key="a" * 16, device_keys="required", **limits) as gateway:
        await problem(await gateway.post(PACKETS, packet(), X_Device_Key=WRONG), 403, "key-wrong")
        await problem(await gateway.post(PACKETS, packet(), X_Device_Key=WRONG), 429, "rate-limited")
        for status, kind in ((403, "key-wrong"), (429, "rate-limited"), (429, "rate-limited")):
            answer = await gateway.client.get("/admin/audit", headers={"X-Admin-Key": "b" * 16})
            told = await problem(answer, status, kind)
        assert told["limit"] == "rate_limit_ip"
