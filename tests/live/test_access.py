"""Who may write, with the real topic `registry`: what is edited there holds within a second."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
import pytest
import trustme
from aiohttp import ClientSession
from aiokafka import AIOKafkaProducer
from structlog.testing import capture_logs

from streamproc.gateway.access.keys import digest
from streamproc.records import DEVICE_PREFIX, DeviceEntry, DeviceKey, SensorEntry
from streamproc.settings.connection import Connection
from tests.live.processes import Site, eventually
from tests.live.test_gateway import gateway, records
from tests.shell.test_access import KEY, OTHER, packet
from tests.shell.test_tls import answers, is_trusted, issue
from tests.slowness import in_time


class Edits:
    """Edits of the registry, as they come onto its topic."""

    def __init__(self, producer: AIOKafkaProducer, topic: str) -> None:
        self._producer, self._topic = producer, topic

    async def device(self, name: str, *keys: str, enabled: bool = True) -> None:
        """Have the device have these keys."""
        made = tuple(DeviceKey(key[4:12], digest(key).hex(), 0) for key in keys)
        entry = msgspec.json.encode(DeviceEntry(name, enabled=enabled, keys=made))
        await self._producer.send_and_wait(self._topic, key=(DEVICE_PREFIX + name).encode(), value=entry)

    async def sensor(self, name: str, device: str | None) -> None:
        """Have the sensor be this device's."""
        entry = msgspec.json.encode(SensorEntry(name, device=device))
        await self._producer.send_and_wait(self._topic, key=name.encode(), value=entry)


@pytest.fixture
async def edits(topics: str, producer: AIOKafkaProducer) -> Edits:
    """A registry with d1 (KEY; s1) and d2 (no key; s3)."""
    made = Edits(producer, topics + "registry")
    await made.device("d1", KEY)
    await made.device("d2")
    await made.sensor("s1", "d1")
    await made.sensor("s3", "d2")
    return made


async def status(client: ClientSession, key: str = KEY, body: bytes | None = None) -> int:
    """Post a packet of d1 with this key."""
    headers = {"X-Device-Key": key}
    async with client.post("/ingest/packets", data=body or packet(), headers=headers) as response:
        return response.status


async def until(client: ClientSession, wanted: int, key: str = KEY, body: bytes | None = None) -> float:
    """Post until the answer is this one; the seconds that it took."""
    began = monotonic()

    async def comes() -> bool:
        return await status(client, key, body) == wanted

    await eventually(comes)
    return monotonic() - began


async def test_edits_hold_within_a_second(bootstrap: Connection, topics: str, edits: Edits) -> None:
    """A new key, a revoked one, a device locked out, a sensor that changes hands; and after a restart at once."""
    async with gateway(bootstrap, topics, device_keys="required", auto_register=False) as client:
        assert await status(client) == 202
        assert await status(client, OTHER) == 403
        took = []
        await edits.device("d1", KEY, OTHER)
        took.append(await until(client, 202, OTHER))
        await edits.device("d1", OTHER)
        took.append(await until(client, 403, KEY))
        assert await status(client, OTHER) == 202
        await edits.device("d1", OTHER, enabled=False)
        took.append(await until(client, 403, OTHER))
        await edits.device("d1", OTHER)
        took.append(await until(client, 202, OTHER))
        await edits.sensor("s3", "d1")
        took.append(await until(client, 202, OTHER, packet("d1", "s3")))
        assert in_time(sorted(took)[len(took) // 2], 1.0), took
    async with gateway(bootstrap, topics, device_keys="required", auto_register=False) as client:
        assert await status(client, KEY) == 403
        assert await status(client, OTHER) == 202


async def test_how_old_the_view_is(bootstrap: Connection, topics: str, edits: Edits) -> None:
    """/ready has a check of the registry, and /metrics its age and what is in it."""
    assert edits
    async with gateway(bootstrap, topics, auto_register=False) as client:
        async with client.get("/ready") as response:
            checks = {check["name"]: check for check in (await response.json())["checks"]}
        assert checks["registry"]["ok"]
        async with client.get("/metrics") as response:
            text = await response.text()
    assert "streamproc_gateway_registry_read 1.0" in text
    assert 'streamproc_gateway_registry_entries{kind="keys"} 1.0' in text
    assert 'streamproc_gateway_registry_entries{kind="sensors"} 2.0' in text
    age = re.search(r"^streamproc_gateway_registry_age_seconds (\S+)", text, re.MULTILINE)
    assert age
    assert in_time(float(age[1]), 20)


async def test_a_registry_that_cannot_be_read(bootstrap: Connection, topic_prefix: str) -> None:
    """Without its topic the gateway runs, says 503, and is not ready; nothing is let in unchecked."""
    async with gateway(bootstrap, topic_prefix, ready=False, device_keys="required") as client:
        assert await status(client) == 503
        async with client.get("/ready") as response:
            assert response.status == 503


async def test_nothing_of_a_key_is_told(bootstrap: Connection, topics: str, edits: Edits) -> None:
    """Neither a log line nor a metric nor a record has a key or its hash."""
    assert edits
    with capture_logs() as lines:
        async with gateway(bootstrap, topics, device_keys="required") as client:
            assert await status(client) == 202
            assert await status(client, OTHER) == 403
            async with client.get("/metrics") as response:
                told = await response.text()
    found = await records(bootstrap, topics + "readings")
    told += str(lines) + str([(record.key, record.value, record.headers) for record in found])
    assert "key_refused" in told
    assert len(found) == 1
    for secret in (KEY, OTHER, KEY[-20:], OTHER[-20:], digest(KEY).hex(), digest(OTHER).hex()):
        assert secret not in told


@pytest.mark.parametrize(
    ("given", "warned"),
    [
        ({"gateway_host": "0.0.0.0"}, True),  # noqa: S104  # that is the point
        ({"gateway_host": "0.0.0.0", "ingest_api_key": "key"}, False),  # noqa: S104
        ({"gateway_host": "0.0.0.0", "device_keys": "required"}, False),  # noqa: S104
        ({}, False),
    ],
)
async def test_an_open_gateway_is_warned_of(
    bootstrap: Connection, topics: str, given: dict[str, Any], warned: bool
) -> None:
    """Who lets other machines write without any key is told so at the start."""
    with capture_logs() as lines:
        async with gateway(bootstrap, topics, **given):
            pass
    assert ("gateway_open_to_all" in [line["event"] for line in lines]) is warned


async def test_a_new_certificate_on_a_signal(site: Site, tmp_path: Path) -> None:
    """The gateway's process reads its certificate again on SIGHUP, and goes on with the one it has where that is wrong."""
    authority, other = trustme.CA(), trustme.CA()
    paths = issue(tmp_path, authority)
    names = {f"GATEWAY_{name.upper()}": str(path) for name, path in paths.items()}
    stage = await site.start("gateway", GATEWAY_PORT="0", **names)
    line = await stage.until_told("gateway_listening")
    url = line["url"].replace("127.0.0.1", "localhost")
    await answers(url, authority)
    issue(tmp_path, other)
    os.kill(stage.pid, signal.SIGHUP)
    await stage.until_told("tls_renewed")
    assert await is_trusted(url, other)
    paths["tls_key"].write_text("nonsense")
    os.kill(stage.pid, signal.SIGHUP)
    await stage.until_told("tls_not_renewed")
    assert await is_trusted(url, other)
    assert (await stage.terminate())[0] == 0


async def test_a_wrong_certificate_is_refused_at_the_start(site: Site, tmp_path: Path) -> None:
    """In one line that names the setting, with exit code 2."""
    absent = str(tmp_path / "absent.pem")
    stage = await site.start("gateway", GATEWAY_TLS_CERTIFICATE=absent, GATEWAY_TLS_KEY=absent)
    assert await stage.ended() == 2
    assert f"GATEWAY_TLS_CERTIFICATE: cannot read {absent}" in stage.log.read_text()
