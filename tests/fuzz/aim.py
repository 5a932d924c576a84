"""What is fuzzed: a gateway's process with a database, open to all or with keys and the admin API."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import ClientSession

from streamproc.store.sqlite.store import SqliteStore
from tests.live.processes import Site, Stage, eventually, until_ready

ADMIN_KEY = "an admin's key of more than sixteen"


@dataclass
class Target:
    """A gateway's process, where it listens, and the headers that let one in."""

    stage: Stage
    url: str
    keys: dict[str, str]

    @property
    def place(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 0


async def aim(site: Site, *, keyed: bool) -> Target:
    """Start a gateway on a new database; `keyed`: with devices' keys, the admin API, and the device `d`."""
    store = SqliteStore(site.database, auto_register=True)
    await store.open()
    await store.close()
    more = {"STREAMPROC_DEVICE_KEYS": "required", "STREAMPROC_ADMIN_API_KEY": ADMIN_KEY} if keyed else {}
    stage = await site.start("gateway", GATEWAY_PORT="0", STREAMPROC_BODY_TIMEOUT_SECONDS="2", **more)
    url = (await stage.until_told("gateway_listening"))["url"]
    await until_ready(url)
    return Target(stage, url, await _keys(url) if keyed else {})


async def _keys(url: str) -> dict[str, str]:
    """Register the device `d` with its sensor `d`, and wait until its key counts."""
    admin = {"X-Admin-Key": ADMIN_KEY}
    async with ClientSession(url, headers=admin, raise_for_status=True) as client:
        await client.put("/admin/sensors/d", json={"device": "d"})
        made = await (await client.post("/admin/devices/d/keys")).json()
    keys = admin | {"X-Device-Key": made["key"]}
    packet = {"device_uuid": "d", "readings": [{"sensor_uuid": "d", "value": 1}]}
    async with ClientSession(url, headers=keys) as client:

        async def counts() -> bool:
            async with client.post("/ingest/packets", json=packet) as answer:
                return answer.status == 202

        await eventually(counts)
    return keys
