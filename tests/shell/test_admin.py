"""The admin API over HTTP, with a real database and a topic in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from aiokafka.errors import KafkaConnectionError
from multidict import CIMultiDict
from pydantic import ValidationError

from streamproc.errors import KafkaUnavailable
from streamproc.gateway.access.callers import Callers
from streamproc.gateway.access.metrics import Counts
from streamproc.gateway.admin.access import Doorkeeper
from streamproc.gateway.admin.routes import Admin
from streamproc.gateway.guard import guard
from streamproc.gateway.load import Load
from streamproc.gateway.metrics import Metrics
from streamproc.gateway.problems import KINDS
from streamproc.records import ActionEntry, DeviceEntry, SensorEntry
from streamproc.registry.keys import hashed
from streamproc.registry.service import Service
from streamproc.settings import Settings
from streamproc.store.edits import PutSensor
from streamproc.store.protocol import Store
from streamproc.store.sqlite.store import SqliteStore
from streamproc.store.thresholds import Threshold
from tests.shell.served import MemoryPublisher, application
from tests.shell.test_mending import Limited

Client = TestClient[web.Request, web.Application]
KEY = "an admin's own key"
HEADERS = {"X-Admin-Key": KEY}


@dataclass
class Memory:
    """The services, with a topic in memory; `away`: there is no Kafka, `lost`: it goes after the database's turn."""

    kept: Store
    topic: dict[str, bytes | None] = field(default_factory=dict)
    away: bool = False
    lost: bool = False

    @asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        """The database."""
        yield self.kept

    @asynccontextmanager
    async def service(self) -> AsyncIterator[Service]:
        """An editor."""
        if self.away:
            raise KafkaUnavailable("Kafka is not reached, so nothing was changed")
        yield Service(self.kept, self.send)

    async def send(self, records: Mapping[str, bytes | None]) -> None:
        """Keep the records."""
        if self.lost:
            raise KafkaConnectionError("gone")
        self.topic |= records

    async def close(self) -> None:
        """Let go of the database."""
        await self.kept.close()


@pytest.fixture
async def memory(tmp_path: Path) -> Memory:
    """The services on a new database."""
    return Memory(SqliteStore(tmp_path / "s.db"))


@pytest.fixture
async def client(memory: Memory) -> AsyncIterator[Client]:
    """A client of the admin API."""
    async with served(memory) as started:
        yield started


@asynccontextmanager
async def served(memory: Memory) -> AsyncIterator[Client]:
    """Serve the admin API over these services."""
    app = web.Application(middlewares=[guard(Metrics(Load(1, 1), MemoryPublisher()))])
    Admin(Doorkeeper(KEY, Callers(Settings(), Counts())), memory, body_seconds=5).add_to(app)
    async with TestClient(TestServer(app)) as started:
        yield started


@asynccontextmanager
async def doorkept(now: list[float], **more: Any) -> AsyncIterator[Client]:
    """Serve who has the key the address that the audit would name, by the clock `now`."""
    door = Doorkeeper(KEY, Callers(Settings.model_validate(more), Counts(), lambda: now[0]))

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=door.admit(request))

    app = web.Application(middlewares=[guard(Metrics(Load(1, 1), MemoryPublisher()))])
    app.router.add_get("/", answer)
    async with TestClient(TestServer(app)) as started:
        yield started


async def ask(client: Client, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    """Status and answer of a request with the key; refusals are problems of a known kind."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.request(method, path, json=body, headers=HEADERS | named) as answer:
        text = await answer.read()
        told: Any = msgspec.json.decode(text) if text else None
        assert answer.headers.get("Cache-Control") == "no-store" or answer.status >= 400
        if answer.status >= 400:
            kind = told["type"].removeprefix("urn:streamproc:problem:")
            assert KINDS[kind][0] == answer.status == told["status"]
            return answer.status, (kind, told["detail"])
        if answer.headers.get("ETag"):
            assert answer.headers["ETag"] == f'"{told["version"]}"'
        return answer.status, told


async def test_headers_that_are_there_twice_are_refused(client: Client, memory: Memory) -> None:
    """A key, or the version that an edit is for: which of both counts would be a guess."""
    for header, first, second in (("X-Admin-Key", KEY, KEY), ("If-Match", '"1"', '"2"')):
        headers = CIMultiDict(HEADERS | {header: first})
        headers.add(header, second)
        async with client.put("/admin/sensors/s", json={"unit": "K"}, headers=headers) as answer:
            told = await answer.json(content_type=None)
            assert (answer.status, told["field"]) == (400, header)
    assert not memory.topic


async def test_a_sensor_is_put_changed_and_removed(client: Client, memory: Memory) -> None:
    """Each change is on the topic when it is answered, and audited in the name of the admin."""
    entry = {
        "device": "D",
        "warning": {"low": 1, "high": 9, "clear_high": 8.5},
        "rules": [
            {"rule": "delta_spike", "absolute": 3},
            {"rule": "rate_of_change", "per_second": 0.5, "window": "5s", "for_windows": 2},
            {"rule": "no_data", "seconds": 60, "severity": 2},
            {"rule": "stuck_value", "seconds": 600, "tolerance": 0.1, "clear_windows": 3},
            {"rule": "expression", "expression": "mean_10s > 8 and not trend_1s < 0"},
        ],
    }
    status, made = await ask(client, "PUT", "/admin/sensors/S", entry)
    assert (status, made["sensor"], made["device"], made["version"]) == (201, "s", "d", 1)
    assert msgspec.json.decode(memory.topic["s"] or b"", type=SensorEntry) == msgspec.convert(
        made, SensorEntry
    )
    assert memory.topic["device/d"] is not None
    assert await ask(client, "GET", "/admin/sensors/s") == (200, made)
    status, changed = await ask(client, "PUT", "/admin/sensors/s", {**made, "unit": "V"})
    assert (status, changed) == (200, {**made, "unit": "V", "version": 2})
    status, same = await ask(client, "PUT", "/admin/sensors/s", {**made, "unit": "V"})
    assert (status, same["version"]) == (200, 2)
    assert await ask(client, "DELETE", "/admin/sensors/s") == (204, None)
    assert memory.topic["s"] is None
    assert (await ask(client, "GET", "/admin/sensors/s"))[1][0] == "entry-unknown"
    assert (await ask(client, "DELETE", "/admin/sensors/s"))[0] == 404
    _, told = await ask(client, "GET", "/admin/audit?kind=sensor&name=s")
    assert [line["action"] for line in told["audit"]] == ["remove", "change", "create"]
    assert {line["actor"] for line in told["audit"]} == {"admin@127.0.0.1"}
    _, told = await ask(client, "GET", "/admin/audit?limit=1")
    assert (len(told["audit"]), told["before"]) == (1, told["audit"][0]["id"])


async def test_an_update_is_not_lost(client: Client) -> None:
    """If-Match names the version that is changed, If-None-Match: * wants that there is none."""
    assert (await ask(client, "PUT", "/admin/sensors/s", {}, If_None_Match="*"))[0] == 201
    assert (await ask(client, "PUT", "/admin/sensors/s", {}, If_None_Match="*"))[0] == 412
    assert (await ask(client, "PUT", "/admin/sensors/s", {"unit": "V"}, If_Match='"1"'))[0] == 200
    for tag in ('"1"', '"other"', "W/1", '"99999999999"'):
        for method in ("PUT", "DELETE"):
            status, (kind, _) = await ask(client, method, "/admin/sensors/s", {"unit": "A"}, If_Match=tag)
            assert (status, kind) == (412, "entry-changed")
    assert (await ask(client, "GET", "/admin/sensors/s"))[1]["unit"] == "V"
    assert (await ask(client, "DELETE", "/admin/sensors/s", If_Match='"2"'))[0] == 204
    status, (kind, _) = await ask(client, "PUT", "/admin/sensors/s", {}, If_Match="*")
    assert (status, kind) == (412, "entry-changed")
    assert (await ask(client, "PUT", "/admin/sensors/s", {}))[0] == 200
    assert (await ask(client, "PUT", "/admin/sensors/s", {"unit": "V"}, If_Match="*"))[0] == 200


@pytest.mark.parametrize(
    "path", ["sensors/s", "devices/s", "actions/pump/stuck", "policies/pump", "silences/s"]
)
async def test_an_entry_is_not_emptied_by_no_body(client: Client, path: str) -> None:
    """An entry is put whole: who sends no body at all has forgotten it."""
    status, (kind, _) = await ask(client, "PUT", f"/admin/{path}")
    assert (status, kind) == (400, "malformed")


async def test_a_name_that_is_there_twice_is_refused(client: Client) -> None:
    """Which of the two is meant nobody knows."""
    text = b'{"unit": "V", "critical": {"low": 1, "low": 2}}'
    async with client.put("/admin/sensors/s", data=text, headers=HEADERS) as answer:
        problem = await answer.json()
    assert (answer.status, problem["detail"]) == (400, "'low' is there twice")
    assert (await ask(client, "GET", "/admin/sensors/s"))[0] == 404


async def test_head_stands_for_get(client: Client) -> None:
    """With the key, as on the gateway's other paths."""
    assert (await ask(client, "PUT", "/admin/sensors/s", {"unit": "V"}))[0] == 201
    async with client.head("/admin/sensors/s", headers=HEADERS) as answer:
        assert (answer.status, answer.headers["ETag"], await answer.read()) == (200, '"1"', b"")
    async with client.head("/admin/sensors/s") as answer:
        assert answer.status == 401


async def test_ranges_that_will_not_last_are_told(tmp_path: Path) -> None:
    """Limits of other programs overrule those of a sensor that has some: the answer says which."""
    store = Limited(tmp_path / "limited.db")
    store.limits = (Threshold("s", "greater_than", 90.0, None, "critical"),)
    async with served(Memory(store)) as client:
        for name, entry, told in (
            ("s", {"warning": {"high": 50}}, "alert_thresholds; critical"),
            ("s", {"warning": {"high": 50}, "critical": {"high": 90}}, None),
            ("t", {"critical": {"high": 95}}, None),
        ):
            async with client.put(f"/admin/sensors/{name}", json=entry, headers=HEADERS) as answer:
                assert answer.status in {200, 201}
                assert answer.headers.get("Ranges-Overruled-By") == told


async def test_a_device_and_its_keys(client: Client, memory: Memory) -> None:
    """A key is told once; what is kept, and sent, is its hash. Two may live, a revoked one is gone from the topic."""
    assert (await ask(client, "POST", "/admin/devices/d/keys"))[0] == 404
    status, made = await ask(client, "PUT", "/admin/devices/D", {"name": "Pump"})
    assert (status, made["device"], made["enabled"]) == (201, "d", True)
    status, first = await ask(client, "POST", "/admin/devices/d/keys")
    assert (status, first["key"].startswith(f"sp1_{first['key_id']}_")) == (201, True)
    status, second = await ask(client, "POST", "/admin/devices/d/keys", {"expires_at": 4_000_000_000_000})
    assert (status, second["expires_at"]) == (201, 4_000_000_000_000)
    status, (kind, detail) = await ask(client, "POST", "/admin/devices/d/keys")
    assert (status, kind) == (409, "entry-refused")
    assert "revoke" in detail
    entry = msgspec.json.decode(memory.topic["device/d"] or b"", type=DeviceEntry)
    assert [key.sha256 for key in entry.keys] == [hashed(first["key"]), hashed(second["key"])]
    assert first["key"].encode() not in (memory.topic["device/d"] or b"")
    assert await ask(client, "DELETE", f"/admin/devices/d/keys/{first['key_id']}") == (204, None)
    entry = msgspec.json.decode(memory.topic["device/d"] or b"", type=DeviceEntry)
    assert [key.key_id for key in entry.keys] == [second["key_id"]]
    _, told = await ask(client, "GET", "/admin/audit")
    assert not [line for line in told["audit"] if "sha256" in str(line) or hashed(first["key"]) in str(line)]
    assert (await ask(client, "DELETE", "/admin/devices/d/keys/none"))[0] == 404


async def test_a_device_is_removed_with_its_sensors_if_that_is_meant(client: Client, memory: Memory) -> None:
    """Not by mistake."""
    await ask(client, "PUT", "/admin/sensors/s", {"device": "d"})
    assert (await ask(client, "DELETE", "/admin/devices/d"))[0] == 409
    assert (await ask(client, "DELETE", "/admin/devices/d?sensors=true"))[0] == 204
    assert memory.topic == {"s": None, "device/d": None}


async def test_lists_are_narrowed_down_and_turned_over(client: Client) -> None:
    """By name, a page at a time."""
    for name in "cab":
        await ask(
            client, "PUT", f"/admin/sensors/{name}", {"device": "d" if name < "c" else "e", "site": name}
        )
    _, told = await ask(client, "GET", "/admin/sensors?limit=2")
    assert ([row["sensor"] for row in told["sensors"]], told["after"]) == (["a", "b"], "b")
    _, told = await ask(client, "GET", "/admin/sensors?limit=2&after=b")
    assert ([row["sensor"] for row in told["sensors"]], told["after"]) == (["c"], None)
    _, told = await ask(client, "GET", "/admin/sensors?device=d&site=b")
    assert [row["sensor"] for row in told["sensors"]] == ["b"]
    await ask(client, "PUT", "/admin/sensors/e", {"device": "d", "site": "North", "kind": "Pump"})
    for query in ("site=north", "kind=pump&site=NORTH", "device=D&site=North"):
        _, told = await ask(client, "GET", f"/admin/sensors?{query}")
        assert [row["sensor"] for row in told["sensors"]] == ["e"]
    _, told = await ask(client, "GET", "/admin/devices")
    assert [row["device"] for row in told["devices"]] == ["d", "e"]
    for limit in ("0", "x", "10001", "9" * 40, "0" * 19 + "1" + "9" * 40):
        for path in ("sensors", "audit", "alarms"):
            assert (await ask(client, "GET", f"/admin/{path}?limit={limit}"))[0] == 422


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("sensors/s", {"sensor": "t"}, "entry-invalid"),
        ("sensors/s", {"colour": "red"}, "entry-invalid"),
        ("sensors/s", {"warning": {"low": 5, "high": 1}}, "entry-invalid"),
        ("sensors/s", [], "entry-invalid"),
        ("sensors/s", {"sensor_id": -1}, "entry-invalid"),
        ("sensors/device%2Fs", {}, "entry-invalid"),
        ("sensors/" + "s" * 129, {}, "entry-invalid"),
        ("devices/d", {"keys": [{"key_id": "a", "sha256": "b", "created_at": 1}]}, "entry-invalid"),
        ("devices/d", {"enabled": "maybe"}, "entry-invalid"),
    ],
)
async def test_a_wrong_entry_is_refused(
    client: Client, memory: Memory, path: str, body: Any, kind: str
) -> None:
    """With what is wrong, and nothing is changed."""
    status, (told, detail) = await ask(client, "PUT", f"/admin/{path}", body)
    assert (told, bool(detail)) == (kind, True)
    assert status == 422
    assert await memory.kept.registry() == {}
    assert memory.topic == {}


async def test_what_is_no_json_or_too_large_is_refused(client: Client) -> None:
    """As everywhere in the gateway."""
    for data, status in ((b"{", 400), (b"\xff", 400), (b"[" * 50_000, 400), (b" " * 100_000, 413)):
        async with client.put("/admin/sensors/s", data=BytesIO(data), headers=HEADERS) as answer:
            assert answer.status == status
    headers = HEADERS | {"Content-Encoding": "gzip"}
    async with client.put("/admin/sensors/s", data=b"{}", headers=headers) as answer:
        assert (answer.status, answer.headers["Accept-Encoding"]) == (415, "identity")


async def test_without_kafka_nothing_is_changed(client: Client, memory: Memory) -> None:
    """503, to be tried again; what is there can be read."""
    memory.away = True
    status, (kind, _) = await ask(client, "PUT", "/admin/sensors/s", {})
    assert (status, kind) == (503, "admin-unavailable")
    assert await memory.kept.registry() == {}
    assert (await ask(client, "GET", "/admin/sensors"))[0] == 200


async def test_a_change_that_was_not_sent_is_told_and_sent_by_doing_it_again(
    client: Client, memory: Memory
) -> None:
    """The database has it: the second time it is no change, and is sent all the same."""
    memory.lost = True
    status, (kind, _) = await ask(client, "PUT", "/admin/sensors/s", {})
    assert (status, kind) == (503, "registry-not-sent")
    memory.lost = False
    assert (await ask(client, "PUT", "/admin/sensors/s", {}))[1]["version"] == 1
    assert memory.topic["s"] is not None


async def test_only_who_has_the_key_gets_in(client: Client) -> None:
    """401 without, 403 with another; nothing of the registry is told, on no path."""
    for path in ("/admin/sensors", "/admin/devices/d", "/admin/audit"):
        async with client.get(path) as answer:
            assert (answer.status, "WWW-Authenticate" in answer.headers) == (401, True)
        async with client.get(path, headers={"X-Admin-Key": KEY + "x"}) as answer:
            assert answer.status == 403
        async with client.get(f"{path}?X-Admin-Key={KEY}") as answer:
            assert answer.status == 401


async def status_of(client: Client, key: str, forwarded: str = "1.2.3.4") -> int:
    """The status of a request with the key, which a proxy says comes from there."""
    headers = {"X-Admin-Key": key, "X-Forwarded-For": forwarded}
    async with client.get("/", headers=headers) as told:
        assert (told.status == 429) == ("Retry-After" in told.headers)
        return told.status


async def test_guessing_is_slowed() -> None:
    """After some wrong keys an address gets no answer to a key, right or wrong, but to one that was right before."""
    now = [0.0]
    async with doorkept(now, trusted_proxies="127.0.0.1", key_failure_limit="3:60") as client:
        assert await status_of(client, KEY, "1.1.1.1") == 200
        for address in ("1.1.1.1", "2.2.2.2"):
            tried = [await status_of(client, f"wrong {number}", address) for number in range(4)]
            assert tried == [403, 403, 403, 429]
        assert await status_of(client, KEY, "1.1.1.1") == 200
        assert await status_of(client, KEY, "2.2.2.2") == 429
        assert await status_of(client, KEY, "3.3.3.3") == 200
        now[0] = 60.0
        assert await status_of(client, KEY, "2.2.2.2") == 200


async def test_what_an_address_may_ask_is_bounded() -> None:
    """By the limit of all requests; behind a proxy the address is the one that it forwards, in whole for the audit."""
    async with doorkept([0.0], trusted_proxies="127.0.0.1", rate_limit_ip="2:60") as client:
        headers = {"X-Admin-Key": KEY, "X-Forwarded-For": "6.6.6.6, 2001:db8::1:2:3:4"}
        async with client.get("/", headers=headers) as told:
            assert await told.text() == "2001:db8::1:2:3:4"
        assert await status_of(client, "wrong", "2001:db8::9") == 403
        assert await status_of(client, KEY, "2001:db8::8") == 429
        assert await status_of(client, KEY, "1.1.1.1") == 200


async def test_there_is_no_admin_api_without_its_key(tmp_path: Path) -> None:
    """Nor with one that can be guessed."""
    async with (
        TestClient(TestServer(application(Settings(), MemoryPublisher()))) as client,
        client.get("/admin/sensors", headers=HEADERS) as answer,
    ):
        assert answer.status == 404
    with pytest.raises(ValidationError, match="at least 16"):
        Settings.model_validate({"admin_api_key": "short"})
    assert "secret" not in repr(Settings.model_validate({"admin_api_key": "a secret of sixteen"}))
    assert not (tmp_path / "data").exists()


async def test_a_database_that_is_away_is_a_503_and_the_ingest_goes_on(tmp_path: Path) -> None:
    """It is asked for when the first admin comes; once it is there, the next is served."""
    settings = Settings.model_validate(
        {"admin_api_key": KEY, "database": tmp_path / "s.db", "kafka_bootstrap": "127.0.0.1:1"}
    )
    packet = {"device_uuid": "d", "readings": [{"sensor_uuid": "s", "value": 1}], "ts": 1_700_000_000}
    async with TestClient(TestServer(application(settings, MemoryPublisher()))) as client:
        status, (kind, detail) = await ask(client, "GET", "/admin/sensors")
        assert (status, kind) == (503, "admin-unavailable")
        assert "db migrate" in detail or "unable to open" in detail
        async with client.post("/ingest/packets", json=packet) as answer:
            assert answer.status == 202
        made = SqliteStore(tmp_path / "s.db")
        await made.open()
        await made.close()
        assert await ask(client, "GET", "/admin/sensors") == (200, {"sensors": [], "after": None})
        status, (kind, _) = await ask(client, "PUT", "/admin/sensors/s", {})
        assert (status, kind) == (503, "admin-unavailable")


async def test_edits_that_cross_end_alike(tmp_path: Path) -> None:
    """Two processes edit one entry; the one that sends last sends what the database has."""
    store = SqliteStore(tmp_path / "s.db")
    memory = Memory(store)
    held, go_on = asyncio.Event(), asyncio.Event()

    async def slow(records: Mapping[str, bytes | None]) -> None:
        held.set()
        await go_on.wait()
        await memory.send(records)

    first = asyncio.create_task(Service(store, slow).edit([PutSensor(SensorEntry("s", unit="V"))], "one"))
    await held.wait()
    await Service(store, memory.send).edit([PutSensor(SensorEntry("s", unit="A"))], "other")
    go_on.set()
    await first
    assert msgspec.json.decode(memory.topic["s"] or b"", type=SensorEntry).unit == "A"
    await store.close()


async def test_a_recommended_action_is_put_changed_and_removed(client: Client, memory: Memory) -> None:
    """By kind and cause, in the path; each change is on the topic when it is answered."""
    path = "/admin/actions/Air%2FPump/stuck"
    status, made = await ask(client, "PUT", path, {"en": "Look at it."})
    wanted = {"kind": "air/pump", "cause": "stuck", "en": "Look at it.", "es": None, "version": 1}
    assert (status, made) == (201, wanted)
    key = "action/air/pump/stuck"
    assert msgspec.json.decode(memory.topic[key] or b"", type=ActionEntry) == msgspec.convert(
        made, ActionEntry
    )
    assert await ask(client, "GET", path) == (200, made)
    status, changed = await ask(client, "PUT", path, {**made, "es": "Mírelo."}, If_Match='"1"')
    assert (status, changed) == (200, {**made, "es": "Mírelo.", "version": 2})
    assert (await ask(client, "PUT", path, made, If_Match='"1"'))[1][0] == "entry-changed"
    await ask(client, "PUT", "/admin/actions/*/level", {"en": "Look."})
    _, told = await ask(client, "GET", "/admin/actions")
    assert [entry["kind"] for entry in told["actions"]] == ["*", "air/pump"]
    _, told = await ask(client, "GET", "/admin/actions?cause=stuck&limit=1")
    assert told == {"actions": [changed], "after": None}
    assert await ask(client, "DELETE", path) == (204, None)
    assert memory.topic[key] is None
    assert (await ask(client, "GET", path))[1][0] == "entry-unknown"
    _, told = await ask(client, "GET", "/admin/audit?kind=action&name=air/pump/stuck")
    assert [line["action"] for line in told["audit"]] == ["remove", "change", "create"]


@pytest.mark.parametrize(
    ("path", "entry", "reason"),
    [
        ("*/weather", {"en": "Look."}, "cause must be one of"),
        ("*/stuck", {}, "has no text"),
        ("*/stuck", {"en": "two\nlines"}, "en must be a line"),
        ("*/stuck", {"en": "x" * 501}, "en must be a line of 1 to 500"),
        ("*/stuck", {"fr": "Regardez."}, "unknown field `fr`"),
        ("*/stuck", {"en": "Look.", "cause": "level"}, "another cause than the path"),
        ("k" * 101 + "/stuck", {"en": "Look."}, "kind must have 1 to 100"),
    ],
)
async def test_a_wrong_recommended_action_is_refused(
    client: Client, path: str, entry: dict[str, Any], reason: str
) -> None:
    """With what is wrong; nothing is changed."""
    status, (kind, detail) = await ask(client, "PUT", f"/admin/actions/{path}", entry)
    assert (status, kind) == (422, "entry-invalid")
    assert reason in detail
    assert (await ask(client, "GET", "/admin/actions"))[1]["actions"] == []
