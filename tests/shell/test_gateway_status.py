"""`GET /sensors/{id}/status` over HTTP, from a database of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from msgspec.structs import replace

from streamproc.gateway import status as module
from streamproc.gateway.access import Writer
from streamproc.gateway.answers import Fault
from streamproc.gateway.problems import Problem
from streamproc.gateway.status import Sensors
from streamproc.records import DEVICE_SILENT, FLAPPING, Range, SensorEntry, Severity
from streamproc.records.alerting import HandlingEntry, SilenceEntry
from streamproc.settings import Settings
from streamproc.store.documents import AlertingEntry, PutDocument
from streamproc.store.edits import Author
from streamproc.store.protocol import Batch, Store
from streamproc.store.sqlite.connection import connection
from streamproc.store.sqlite.store import SqliteStore
from tests.shell.served import ANYONE, CALLERS, Client, MemoryPublisher, application, problem
from tests.store.builders import GROUP, event, events, readings, save_entries, windows

SENSOR = "ab%2F"
ALARM = event("ab/", Severity.CRITICAL, Severity.NORMAL)


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[Client]:
    """Serve a gateway."""
    app = application(Settings.model_validate(settings), MemoryPublisher())
    async with TestClient(TestServer(app)) as client:
        yield client


@pytest.fixture
async def database(tmp_path: Path) -> Path:
    """Give a database that has a sensor in alarm, and one that has sent nothing."""
    path = tmp_path / "streamproc.db"
    store = SqliteStore(path, auto_register=True)
    await store.open()
    rows = Batch(
        GROUP,
        readings=readings(("ab/", 99.5, 1), device="d"),
        events=events(ALARM),
        windows=windows(("ab/", 98.5, 0)),
    )
    await save_entries(
        store, [SensorEntry("ab/", unit="°C", critical=Range(high=95.0)), SensorEntry("quiet")]
    )
    await store.write(rows)
    await store.close()
    return path


async def test_status_tells_all(database: Path) -> None:
    """Value, time, severity, window and range of the sensor, whatever the case of its name."""
    async with serving(database=database) as client:
        response = await client.get("/sensors/AB%2F/status")
        assert (response.status, response.headers["Cache-Control"]) == (200, "no-store")
        told = await response.json()
    assert told["last"] == {
        "value": 99.5,
        "ts": "2023-11-14T22:13:20.001000Z",
        "received_at": "2023-11-14T22:13:20.006000Z",
    }
    assert (told["severity"], told["since"]) == ("CRITICAL", "2023-11-14T22:13:20Z")
    assert (told["sensor"], told["device"], told["unit"]) == ("ab/", "d", "°C")
    assert told["event"]["recommended_action"] == "look at it"
    assert [(window["size_ms"], window["mean"]) for window in told["windows"]] == [(1000, 98.5)]
    assert (told["critical"], told["warning"]) == ({"high": 95.0}, None)


async def test_status_by_number_and_of_silence(database: Path) -> None:
    """A sensor_id finds it, too; a sensor that has sent nothing is normal since never."""
    async with serving(database=database) as client:
        told = await (await client.get("/sensors/quiet/status")).json()
        assert (told["severity"], told["since"], told["last"], told["windows"]) == ("NORMAL", None, None, [])
        by_number = await (await client.get(f"/sensors/{told['sensor_id']}/status")).json()
        assert by_number == told


NOW = time.time_ns() // 1_000_000


async def order(path: Path, *documents: AlertingEntry) -> None:
    """Put documents of the registry."""
    store = SqliteStore(path)
    await store.edit_registry([PutDocument(document) for document in documents], Author("ann", NOW))
    await store.close()


async def attention(path: Path, sensor: str) -> dict[str, Any]:
    """What the status of a sensor says of who attends to it, those things that are so."""
    async with serving(database=path) as client:
        told = await (await client.get(f"/sensors/{sensor}/status")).json()
    return {name: value for name, value in told["attention"].items() if value}


async def test_status_tells_who_handles_the_alarm(database: Path) -> None:
    """While it is acknowledged or snoozed; nothing of a snooze that is over, or of an alarm that was another one."""
    assert await attention(database, SENSOR) == {}
    said = HandlingEntry("ab/", ALARM.event_id, acknowledged=True, note="Mine.", by="ann", at=1_000)
    await order(database, said)
    handled = {"by": "ann", "note": "Mine.", "at": "1970-01-01T00:00:01Z"}
    assert await attention(database, SENSOR) == {"acknowledged": True, **handled}
    await order(database, replace(said, acknowledged=False, snoozed_until=4_102_444_800_000))
    assert await attention(database, SENSOR) == {"snoozed_until": "2100-01-01T00:00:00Z", **handled}
    await order(database, replace(said, acknowledged=False, snoozed_until=NOW - 1))
    assert await attention(database, SENSOR) == {}
    await order(database, replace(said, event_id="of-before"), HandlingEntry("quiet", "e", acknowledged=True))
    assert await attention(database, SENSOR) == await attention(database, "quiet") == {}


async def test_status_tells_what_silences_the_sensor(database: Path) -> None:
    """Those in force, the longest first; of what is graver than they say not, and of one that is NORMAL too."""
    await order(
        database,
        SilenceEntry("works", device="d", end=4_102_444_800_000, maintenance=True, reason="burner", by="bob"),
        SilenceEntry("open", sensor="ab/"),
        SilenceEntry("mild", all_sensors=True, up_to=Severity.WARN),
        SilenceEntry("over", all_sensors=True, end=NOW),
        SilenceEntry("other", site="south"),
    )
    found = await attention(database, SENSOR)
    assert [(each["silence"], each["until"]) for each in found["silences"]] == [
        ("open", None),
        ("works", "2100-01-01T00:00:00Z"),
    ]
    assert found["maintenance"]
    told = {"up_to": "CRITICAL", "maintenance": True, "reason": "burner", "by": "bob"}
    assert found["silences"][1].items() >= told.items()
    quiet = await attention(database, "quiet")
    assert [(each["silence"], each["up_to"]) for each in quiet.pop("silences")] == [("mild", "WARN")]
    assert quiet == {}


async def test_status_tells_of_flapping_and_of_silent_devices(database: Path) -> None:
    """As the event's lineage marks them; another program's payload marks nothing."""
    lineage = replace(ALARM.lineage, scores={"seconds": 60.0, DEVICE_SILENT: 1.0})
    hidden = replace(event("quiet", Severity.WARN, Severity.NORMAL), cause="silence", lineage=lineage)
    flaps = replace(ALARM, event_id="f", at=ALARM.at + 1, lineage=replace(lineage, scores={FLAPPING: 1.0}))
    store = SqliteStore(database)
    await store.write(Batch(GROUP, events=events(hidden, flaps)))
    await store.close()
    marks = []
    async with serving(database=database) as client:
        for sensor in (SENSOR, "quiet"):
            told = (await (await client.get(f"/sensors/{sensor}/status")).json())["event"]
            marks.append((told["flapping"], told["device_silent"]))
        opened = connection(database)
        opened.execute("UPDATE ml_events SET payload = '[1]'")
        opened.close()
        told = (await (await client.get(f"/sensors/{SENSOR}/status")).json())["event"]
    assert marks == [(True, False), (False, True)]
    assert not told["flapping"]


@pytest.mark.parametrize("name", ["nobody", "0", "x" * 129, "%00", "%F0%9F%8C%A1", "9" * 40, "%ff", "..%2F"])
async def test_unknown_sensors(database: Path, name: str) -> None:
    """A name that no sensor has gets 404, whatever is in it."""
    async with serving(database=database) as client:
        await problem(await client.get(f"/sensors/{name}/status"), 404, "unknown-sensor")


async def test_the_key_is_wanted(database: Path) -> None:
    """Who may not write may not look either."""
    async with serving(database=database, ingest_api_key="k") as client:
        await problem(await client.get("/sensors/quiet/status"), 401, "key-missing")
        answer = await client.get("/sensors/quiet/status", headers={"X-API-Key": "k"})
        assert answer.status == 200


def move(path: Path, to: Path) -> Path:
    """Rename a file where there is none of that name: asking has made none."""
    assert not to.exists()
    return path.rename(to)


async def test_the_database_away_and_back(database: Path) -> None:
    """Without a database the answer is 503 that tells nothing of its place; with it there, the next one is right."""
    away = move(database, database.with_name("elsewhere.db"))
    async with serving(database=database) as client:
        response = await client.get("/sensors/quiet/status")
        told = await problem(response, 503, "database-unavailable")
        assert str(database) not in str(told)
        assert response.headers["Retry-After"] == str(told["retry_after"])
        assert (await client.post("/ingest/readings", data=b'{"sensor_id":1,"value":1}')).status == 202
        move(away, database)
        assert (await client.get("/sensors/quiet/status")).status == 200


class Device:
    """Admits a device that has one sensor."""

    callers = CALLERS

    def admit(self, _request: web.Request) -> Writer:
        """Let it in, as itself."""
        return Writer(lambda _, name: None if name in {"quiet", "1"} else Fault("key-wrong", "not yours"))


async def test_a_device_sees_its_own_sensors(database: Path) -> None:
    """What a writer may not write, it may not see, by its number neither."""
    app = application(Settings.model_validate({"database": database}), MemoryPublisher(), Device())
    async with TestClient(TestServer(app)) as client:
        assert (await client.get("/sensors/quiet/status")).status == 200
        await problem(await client.get(f"/sensors/{SENSOR}/status"), 403, "key-wrong")
        await problem(await client.get("/sensors/1/status"), 403, "key-wrong")


class Anyone:
    """Admits all."""

    callers = CALLERS

    def admit(self, _request: web.Request) -> Writer:
        """Let it in."""
        return ANYONE


async def test_those_who_wait_are_bounded() -> None:
    """While the database hangs so many wait, the next is refused at once, and one who waited is told in the end."""
    reached = asyncio.Event()

    @asynccontextmanager
    async def hung() -> AsyncIterator[Store]:
        reached.set()
        await asyncio.Event().wait()
        yield SqliteStore(Path())

    app = web.Application()
    sensors = Sensors(Anyone(), hung, wait_s=0.5)

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await sensors.status(request)
        except Problem as found:
            return found.response()

    app.router.add_get("/sensors/{id}/status", answer)
    async with TestClient(TestServer(app)) as client:
        answers = await asyncio.gather(*(client.get("/sensors/1/status") for _ in range(module.WAITING + 6)))
        kinds = [(await response.json())["type"].rpartition(":")[2] for response in answers]
    assert {response.status for response in answers} == {503}
    assert set(kinds) == {"busy", "database-unavailable"}
    assert kinds.count("database-unavailable") >= module.WAITING
