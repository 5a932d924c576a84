"""The console's API over HTTP, from a database of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from shutil import copyfile
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer

from streamproc.console import reading as module
from streamproc.console.app import build
from streamproc.console.live import Live
from streamproc.console.problems import KINDS
from streamproc.console.reading import Reading
from streamproc.monitor import Told
from streamproc.records import Range, SensorEntry, Severity
from streamproc.settings import Settings
from streamproc.store.opening import Database
from streamproc.store.protocol import Batch, Store
from streamproc.store.sqlite.store import SqliteStore
from tests.shell.test_gateway_status import move
from tests.store.builders import GROUP, event, events, readings, save_entries, windows

Client = TestClient[web.Request, web.Application]


@asynccontextmanager
async def served(
    reading: Reading | None = None, live: Live | None = None, **settings: Any
) -> AsyncIterator[Client]:
    """Serve a console on a database, and what comes live."""
    given = Settings.model_validate(settings)
    database = Database(given, "tests")
    asked = reading or Reading(database.opened)
    told = Told("console", lambda: [asked.standing.check()], list)
    async with TestClient(TestServer(build(given, live or Live(10), asked, told))) as client:
        yield client
    await database.close()


async def fill(path: Path) -> None:
    """A database with a sensor in alarm, one in order, one that has sent nothing."""
    store = SqliteStore(path, auto_register=True)
    await store.open()
    await save_entries(
        store,
        [
            SensorEntry("ab/", device="d", name="Boiler", unit="°C", critical=Range(high=95.0)),
            SensorEntry("quiet"),
        ],
    )
    rows = Batch(
        GROUP,
        readings=readings(("ab/", 99.5, 1), ("calm", 1.5, 2), device="d"),
        events=events(
            event("ab/", Severity.WARN, Severity.NORMAL), event("ab/", Severity.CRITICAL, Severity.WARN, 5)
        ),
        windows=windows(*(("ab/", 90.0 + n, 1000 * n) for n in range(3))),
    )
    await store.write(rows)
    await store.close()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fill a database for all tests of the module."""
    path = tmp_path_factory.mktemp("console") / "filled.db"
    asyncio.run(fill(path))
    return path


@pytest.fixture
def database(filled: Path, tmp_path: Path) -> Path:
    """Give a copy of it."""
    return Path(copyfile(filled, tmp_path / "streamproc.db"))


@pytest.fixture
async def client(database: Path) -> AsyncIterator[Client]:
    """Serve it."""
    async with served(database=database) as made:
        yield made


async def told(response: ClientResponse) -> Any:
    """The answer of a request that was well."""
    assert response.status == 200, await response.text()
    assert response.headers["Cache-Control"] == "no-store"
    return await response.json()


async def refused(response: ClientResponse, status: int, kind: str) -> Any:
    """The problem of one that was not."""
    assert response.content_type == "application/problem+json"
    problem = await response.json()
    assert (response.status, problem["status"], problem["type"]) == (
        status,
        status,
        f"urn:streamproc:problem:{kind}",
    )
    assert problem["title"] == KINDS[kind][1]
    return problem


async def test_sensors_the_worst_first(client: Client) -> None:
    """Each with its names, value, times and why it is as it is."""
    answer = await told(await client.get("/api/sensors"))
    assert [(row["sensor"], row["severity"]) for row in answer["sensors"]] == [
        ("ab/", "CRITICAL"),
        ("calm", "NORMAL"),
        ("quiet", "NORMAL"),
    ]
    assert answer["next"] is None
    hot = answer["sensors"][0]
    assert (hot["name"], hot["unit"], hot["device"], hot["last_value"]) == ("Boiler", "°C", "d", 99.5)
    assert (hot["since"], hot["last_seen"]) == ("2023-11-14T22:13:20.005000Z", "2023-11-14T22:13:20.001000Z")
    assert hot["explanation"] == "far above what it may be"


async def test_sensors_in_pages(client: Client) -> None:
    """`next` leads from severity to severity, and each sensor comes once."""
    seen, cursor = list[str](), ""
    for _ in range(3):
        answer = await told(await client.get("/api/sensors", params={"limit": 1, "cursor": cursor}))
        seen += [row["sensor"] for row in answer["sensors"]]
        cursor = answer["next"] or ""
    assert seen == ["ab/", "calm", "quiet"]
    assert not cursor


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("severity=critical", ["ab/"]),
        ("severity=NORMAL", ["calm", "quiet"]),
        ("severity=WARN", []),
        ("search=BOIL", ["ab/"]),
        ("search=zz", []),
        ("severity=NORMAL&cursor=CRITICAL:ab/", []),
        ("severity=&search=&cursor=&limit=500", ["ab/", "calm", "quiet"]),
    ],
)
async def test_sensors_that_are_asked_for(client: Client, query: str, names: list[str]) -> None:
    """By severity, by a part of a name; what is empty asks for nothing."""
    answer = await told(await client.get(f"/api/sensors?{query}"))
    assert [row["sensor"] for row in answer["sensors"]] == names


async def test_one_sensor(client: Client) -> None:
    """By its key, whatever its case, or its number: what it is judged by and in which alarm it is."""
    answer = await told(await client.get("/api/sensors/AB%2F"))
    assert (answer["sensor"], answer["severity"], answer["last"]["value"]) == ("ab/", "CRITICAL", 99.5)
    assert answer["event"]["recommended_action"] == "look at it"
    assert answer["critical"] == {"high": 95.0}
    assert await told(await client.get(f"/api/sensors/{answer['sensor_id']}")) == answer


async def test_windows_of_a_sensor(client: Client) -> None:
    """Newest first; `next` is the time before which the others are."""
    answer = await told(await client.get("/api/sensors/ab%2F/windows?size=1s&limit=2"))
    assert [window["mean"] for window in answer["windows"]] == [92.0, 91.0]
    rest = await told(await client.get("/api/sensors/ab%2F/windows", params={"before": answer["next"]}))
    assert ([window["mean"] for window in rest["windows"]], rest["next"]) == ([90.0], None)
    assert (await told(await client.get("/api/sensors/ab%2F/windows?size=10s")))["windows"] == []


async def test_events(client: Client) -> None:
    """Of all sensors or one, newest first, in pages, of a severity or a time."""
    everything = await told(await client.get("/api/events"))
    assert [row["severity"] for row in everything["events"]] == ["CRITICAL", "WARN"]
    assert everything["events"][0]["name"] == "Boiler"
    for path in ("/api/sensors/AB%2F/events", "/api/events?sensor=AB%2F"):
        assert await told(await client.get(path)) == everything
    for path in ("/api/sensors/ab%2F/events", "/api/events"):
        first = await told(await client.get(path, params={"limit": 1}))
        second = await told(await client.get(path, params={"limit": 1, "cursor": first["next"]}))
        assert [*first["events"], *second["events"]] == everything["events"]
    for query in ("severity=warn", "until=1700000000.005", "until=2023-11-14T22:13:20.005Z"):
        assert [
            row["severity"] for row in (await told(await client.get(f"/api/events?{query}")))["events"]
        ] == ["WARN"]
    late = await told(await client.get("/api/events?since=2023-11-14T22:13:20.006"))
    assert late["events"] == []


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/api/sensors?limit=0", "limit"),
        ("/api/sensors?limit=501", "limit"),
        ("/api/sensors?limit=٣", "limit"),
        ("/api/sensors?severity=BAD", "severity"),
        ("/api/sensors?cursor=BAD:x", "cursor"),
        ("/api/sensors?serch=x", "serch"),
        ("/api/sensors?search=" + "x" * 257, "search"),
        ("/api/sensors/quiet?limit=1", "limit"),
        ("/api/sensors/quiet/windows?size=2s", "size"),
        ("/api/sensors/quiet/windows?before=yesterday", "before"),
        ("/api/sensors/quiet/events?sensor=quiet", "sensor"),
        ("/api/events?since=nan", "since"),
        ("/api/events?since=1e300", "since"),
        ("/api/events?until=0001-01-01", "until"),
        ("/api/events?cursor=7:999999999999999", "cursor"),
        ("/api/events?cursor=-1", "cursor"),
        ("/api/live?size=2s", "size"),
        ("/api/live?" + "&".join(f"sensor={n}" for n in range(101)), "sensor"),
    ],
)
async def test_a_wrong_parameter_is_named(client: Client, path: str, field: str) -> None:
    """With what it should be; nothing that is misspelt is passed over."""
    problem = await refused(await client.get(path), 400, "parameter")
    assert problem["field"] == field
    assert len(problem["detail"]) < 600


@pytest.mark.parametrize("name", ["nobody", "0", "x" * 300, "%00", "%ff", "..%2F"])
@pytest.mark.parametrize("rest", ["", "/windows", "/events"])
async def test_unknown_sensors(client: Client, name: str, rest: str) -> None:
    """A name that no sensor has gets 404, whatever is in it."""
    await refused(await client.get(f"/api/sensors/{name}{rest}"), 404, "unknown-sensor")


async def test_whatever_else_is_refused_is_a_problem(client: Client) -> None:
    """Nothing is written by any method, and what is not there is told to be so."""
    await refused(await client.get("/api/nothing"), 404, "not-found")
    await refused(await client.get("/page/..%2Fapp.py"), 404, "not-found")
    for method in ("POST", "PUT", "DELETE"):
        response = await client.request(method, "/api/sensors")
        await refused(response, 405, "method-not-allowed")
        assert response.headers["Allow"] == "GET,HEAD"


TOKEN = "a token of 20 letters"  # noqa: S105  # no door has it


@pytest.mark.parametrize("path", ["/api/sensors", "/api/sensors/quiet", "/api/events", "/api/live"])
async def test_a_token_is_wanted_where_one_is_set(database: Path, path: str) -> None:
    """In the header alone; the page and the health check, which tell nothing, want none."""
    async with served(database=database, console_token=TOKEN) as client:
        response = await client.get(path)
        await refused(response, 401, "token-missing")
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
        for header in (f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, "Bearer", "Bearer \udcff"):
            answer = await client.get(path, headers={"Authorization": header})
            problem = await refused(answer, 401, "token-wrong")
            assert TOKEN not in str(problem)
        async with client.get(path, headers={"Authorization": f"bearer {TOKEN}"}) as answer:
            assert answer.status == 200
        for free in ("/", "/page/console.js", "/health", "/metrics"):
            assert (await client.get(free)).status == 200


async def test_another_sites_name_is_refused_on_this_machine_alone(database: Path) -> None:
    """A name of theirs that leads here shows nothing to their page; where others may come, names are theirs."""
    async with served(database=database) as client:
        for name in ("evil.example", "evil.example:8002", "127.0.0.1.evil.example", ""):
            await refused(await client.get("/api/sensors", headers={"Host": name}), 421, "host")
        for name in ("localhost", "LOCALHOST:8002", "127.0.0.1:8002", "[::1]:8002"):
            assert (await client.get("/api/sensors", headers={"Host": name})).status == 200
    for host in ("0.0.0.0", "10.0.0.1"):  # noqa: S104  # nothing listens there
        async with served(database=database, console_host=host) as client:
            assert (await client.get("/api/sensors", headers={"Host": "console.example"})).status == 200


async def test_the_database_away_and_back(database: Path) -> None:
    """Without one the answer is 503 that tells nothing of its place, and makes no file; with it there, all is well."""
    away = move(database, database.with_name("elsewhere.db"))
    async with served(database=database) as client:
        response = await client.get("/api/sensors")
        problem = await refused(response, 503, "database-unavailable")
        assert str(database) not in str(problem)
        assert response.headers["Retry-After"] == str(problem["retry_after"])
        ready = await client.get("/ready")
        assert (ready.status, (await ready.json())["checks"][0]["name"]) == (503, "database")
        move(away, database)
        assert (await client.get("/api/sensors")).status == 200
        assert (await client.get("/ready")).status == 200


async def test_those_who_wait_are_bounded() -> None:
    """While the database hangs so many wait, the next is refused at once, and one who waited is told in the end."""

    @asynccontextmanager
    async def hung() -> AsyncIterator[Store]:
        await asyncio.Event().wait()
        yield SqliteStore(Path())

    def opened() -> AbstractAsyncContextManager[Store]:
        return hung()

    reading = Reading(opened, answer_s=0.3)
    async with served(reading) as client:
        answers = await asyncio.gather(*(client.get("/api/sensors") for _ in range(module.WAITING + 6)))
        kinds = [(await response.json())["type"].rpartition(":")[2] for response in answers]
        assert {response.status for response in answers} == {503}
        assert set(kinds) == {"busy", "database-unavailable"}
        assert kinds.count("database-unavailable") >= module.WAITING
        assert reading.waiting == 0
        assert (await client.get("/ready")).status == 503
        assert (await client.get("/health")).status == 200


async def test_it_counts(client: Client) -> None:
    """By route, never by what is in a URL."""
    await client.get("/api/sensors/quiet")
    await client.get("/api/sensors/nobody")
    metrics = await (await client.get("/metrics")).text()
    for status in (200, 404):
        assert f'streamproc_console_requests_total{{path="/api/sensors/{{id}}",status="{status}"}}' in metrics
    assert "nobody" not in metrics
