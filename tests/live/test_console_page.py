"""The console's page in a real browser: what it shows, follows and bears; by keyboard, on a phone, with the console away."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from streamproc.console.app import build
from streamproc.console.live import Live
from streamproc.console.reading import Reading
from streamproc.kafka.broker import free_port
from streamproc.monitor import Told
from streamproc.records import SensorEntry, Severity
from streamproc.settings import Settings
from streamproc.store.opening import Database
from streamproc.store.protocol import Batch
from streamproc.store.sqlite.store import SqliteStore
from tests.live.browser import CHROMIUM, Page, chromium, opened
from tests.live.processes import eventually
from tests.shell.test_console_live import rows, tell
from tests.shell.test_gateway_status import move
from tests.store.builders import GROUP, event, events, readings, save_entries, windows

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed: the page is not tried here"
)

#: Names as nobody should choose them.
HOSTILE = """<img src=x onerror="document.title='taken'">"""
SHOWN = "[...document.querySelectorAll('#rows tr')].map((row) => row.dataset.sensor)"
STATE = "document.getElementById('state').dataset.state"
REFRESH = "document.dispatchEvent(new Event('visibilitychange'))"
TOKEN = "a token of many lettérs"  # noqa: S105  # no door has it
TAB, ENTER, ESCAPE = ("Tab", 9), ("Enter", 13, "\r"), ("Escape", 27)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a browser for all tests of the module."""
    with chromium(tmp_path_factory.mktemp("chromium")) as address:
        yield address


@pytest.fixture
async def page(browser: str) -> AsyncIterator[Page]:
    """Give a page of it, which nothing may complain of."""
    async with opened(browser) as page:
        yield page
        assert page.complaints == []


@pytest.fixture
async def database(tmp_path: Path) -> Path:
    """Make a database with a sensor in alarm, one in order, and one of a hostile name."""
    path = tmp_path / "streamproc.db"
    store = SqliteStore(path, auto_register=True)
    await store.open()
    await save_entries(
        store, [SensorEntry("hot", device="d", name="Boiler", unit="°C"), SensorEntry('x"]<b>', name=HOSTILE)]
    )
    hot = event("hot", Severity.CRITICAL, Severity.NORMAL, 5)
    values = readings(("hot", 99.5, 1), ("calm", 1.5, 2))
    charted = windows(*(("hot", 90.0 + n, 1000 * n) for n in range(3)))
    await store.write(Batch(GROUP, readings=values, events=events(hot), windows=charted))
    await store.close()
    return path


@asynccontextmanager
async def served(live: Live, port: int = 0, **settings: Any) -> AsyncIterator[str]:
    """Serve a console, and give its address."""
    given = Settings.model_validate(settings)
    database = Database(given, "tests")
    reading = Reading(database.opened)
    runner = web.AppRunner(
        build(given, live, reading, Told("console", list, list)), access_log=None, shutdown_timeout=0.5
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()
        await database.close()


def begun() -> Live:
    """What comes live, from the begin of both partitions on."""
    live = Live(10)
    live.begin({0: 0, 1: 0})
    live.stand(is_live=True)
    return live


def text(selector: str) -> str:
    """What an element says, as an expression."""
    return f"document.querySelector({json.dumps(selector)}).innerText"


async def test_it_shows_what_is_and_what_comes(page: Page, database: Path) -> None:
    """The worst first; changes and values as they come, in the list and in the detail; names are text, whatever they are."""
    live = begun()
    async with served(live, database=database) as url:
        await page.open(url)
        await page.until(f"{STATE} === 'live'")
        assert await page.until(SHOWN) == ["hot", "calm", 'x"]<b>']
        assert HOSTILE in await page.run(text("#rows"))
        zone = "Intl.DateTimeFormat().resolvedOptions().timeZone"
        assert await page.run(f"{text('#zone')}.includes({zone})")
        tell(live, 0, 0, "calm")
        await page.until(f"{text('#changes')}.includes('calm')")
        await page.until(f"{text('#rows tr:nth-child(2) .severity')} === 'warning'")
        assert await page.run(SHOWN) == ["hot", "calm", 'x"]<b>']
        await page.run("document.querySelector('#rows tr:nth-child(3) button').click()")
        await page.until(f"{text('#detail-title')} === {json.dumps(HOSTILE)}")
        live.windows(rows('x"]<b>', "hot"))
        await page.until(f"{text('#rows tr:nth-child(3) .number')} === '0'")
        await page.until("document.querySelector('#chart polyline')")
        assert await page.run("document.title") == "streamproc console"


async def test_by_keyboard_alone(page: Page, database: Path) -> None:
    """A sensor is opened and put away, and who goes on is where they were."""
    async with served(begun(), database=database) as url:
        await page.open(url)
        await page.until(f"{SHOWN}.length === 3")
        for _ in range(4):  # past the link that skips, and the two fields
            await page.press(*TAB)
        await page.until("document.activeElement.innerText === 'Boiler'")
        await page.press(*ENTER)
        await page.until("document.activeElement.id === 'detail'")
        assert "95" not in await page.run(text("#facts"))
        await page.press(*ESCAPE)
        await page.until("document.getElementById('detail').hidden")
        await page.until("document.activeElement.innerText === 'Boiler'")


async def test_a_fault_is_told_for_as_long_as_it_lasts(page: Page, database: Path) -> None:
    """While the database is away, what is shown is not of now; once it is back, nothing says so any more."""
    away, live = move(database, database.with_name("elsewhere.db")), begun()
    async with served(live, database=database) as url:
        await page.open(url)
        await page.until(f"{STATE} === 'stale' && {text('#state')}.includes('database')")
        await eventually(lambda: _one_follows(live))  # so that nothing is read anew for it
        move(away, database)
        await page.run(REFRESH)
        await page.until(f"{SHOWN}.length === 3 && {text('#changes')}.includes('Boiler')")
        await page.until(f"{STATE} === 'live'")


async def test_what_was_asked_for_stays(page: Page, database: Path) -> None:
    """More than a page of the API, when all is read anew; another search begins with fewer again."""
    store = SqliteStore(database)
    await save_entries(store, [SensorEntry(f"s{number:03}") for number in range(800)])
    await store.close()
    async with served(begun(), database=database) as url:
        await page.open(url)
        for many in range(100, 700, 100):
            await page.until(f"{SHOWN}.length === {many}")
            await page.run("document.getElementById('more').click()")
        await page.until(f"{SHOWN}.length === 700")
        asked = (
            "performance.getEntriesByType('resource').filter((each) => each.name.includes('cursor=')).length"
        )
        before = await page.run(asked)
        await page.run(REFRESH)
        await page.until(f"{asked} > {before}")
        await page.until(f"{STATE} === 'live'")
        assert await page.run(f"{SHOWN}.length") == 700
        await page.run(
            "document.getElementById('search').value = 's0'; document.getElementById('filter').requestSubmit()"
        )
        await page.until(f"{SHOWN}.length === 100 && {SHOWN}.every((each) => each.startsWith('s0'))")


async def test_the_console_away_and_back(page: Page, database: Path) -> None:
    """The page says so, tries again, and then has what happened meanwhile."""
    port = free_port()  # which nobody else is given meanwhile
    async with served(begun(), port, database=database) as url:
        await page.open(url)
        await page.until(f"{STATE} === 'live'")
    await page.until(f"{STATE} === 'away'")
    again = begun()
    tell(again, 0, 0, "calm")
    async with served(again, port, database=database):
        await page.until(f"{STATE} === 'live'")
        await page.until(f"{text('#changes')}.includes('calm')")


async def test_tabs_that_nobody_looks_at_leave_their_connection_to_others(page: Page, database: Path) -> None:
    """They follow again once somebody does, and miss nothing."""
    live = begun()

    def look(state: str) -> str:
        given = (
            f"Object.defineProperty(document, 'visibilityState', {{ value: '{state}', configurable: true }})"
        )
        return f"{given}; {REFRESH}"

    async with served(live, database=database) as url:
        await page.open(url)
        await page.until(f"{STATE} === 'live'")
        await page.run(look("hidden"))
        await eventually(lambda: _none_follow(live))
        tell(live, 0, 0, "calm")
        await page.run(look("visible"))
        await page.until(f"{text('#changes')}.includes('calm')")
        assert len(live.clients) == 1


async def _one_follows(live: Live) -> bool:
    """Whether a stream is open."""
    return len(live.clients) == 1


async def _none_follow(live: Live) -> bool:
    """Whether the console holds no stream open."""
    tell(live, 1, live.reached[1], "other")  # that the other end is gone is seen when something is written
    return not live.clients


async def test_long_names_are_followed(page: Page, tmp_path: Path) -> None:
    """As many of them as a URL may name."""
    path, names = tmp_path / "long.db", [f"{number:03}{'ñ' * 125}" for number in range(100)]
    store = SqliteStore(path)
    await store.open()
    await save_entries(store, [SensorEntry(name) for name in names])
    await store.close()
    live = begun()
    async with served(live, database=path) as url:
        await page.open(url)
        await page.until(f"{STATE} === 'live' && {SHOWN}.length === 100")
        live.windows(rows("x", names[0]))
        await page.until(f"{text('#rows .number')} === '1'")


async def test_the_token_is_asked_for_until_it_is_right(page: Page, database: Path) -> None:
    """Nothing is shown before, whatever is pressed; letters that no header has are no obstacle."""
    async with served(begun(), database=database, console_token=TOKEN) as url:
        await page.open(url)
        for _ in range(3):
            await page.until("document.getElementById('ask').open")
            await page.press(*ESCAPE)
        for token in ("wrong €", TOKEN):
            await page.until("document.getElementById('ask').open")
            assert await page.run(SHOWN) == []
            await page.run(f"document.getElementById('token').value = {json.dumps(token)}")
            await page.run("document.getElementById('ask-form').requestSubmit()")
        await page.until(f"{STATE} === 'live' && {SHOWN}.length === 3")


@pytest.mark.parametrize(
    ("width", "scheme"), [(360, "light"), (360, "dark"), (1000, "light"), (1280, "dark")]
)
async def test_on_any_screen(page: Page, database: Path, width: int, scheme: str) -> None:
    """Nothing is wider than its place, however long a name; light and dark are so; a sensor that is opened is in view."""
    store = SqliteStore(database)
    await save_entries(store, [SensorEntry("x" * 128, device="d" * 128, site="s" * 100, unit="µm/m²·h")])
    await store.write(Batch(GROUP, readings=readings(("x" * 128, -123_456.789, 20))))
    await store.close()
    await page.resize(width, 740)
    await page.prefer(scheme)
    async with served(begun(), database=database) as url:
        await page.open(url)
        await page.until(f"{SHOWN}.length === 4")
        assert await page.run("document.documentElement.scrollWidth") <= width
        assert "-123,456.8" in await page.run(text("#rows"))
        right = "getBoundingClientRect().right"
        assert await page.run(
            f"document.querySelector('table').{right} <= document.getElementById('sensors').{right}"
        )
        await page.run(f"document.querySelector('#rows tr[data-sensor={'x' * 128}] button').click()")
        await page.until("document.activeElement.id === 'detail'")
        assert await page.run("document.documentElement.scrollWidth") <= width
        assert await page.run("document.getElementById('detail').getBoundingClientRect().top < innerHeight")
        ground = await page.run("getComputedStyle(document.documentElement).colorScheme")
        assert ground == "light dark"
        ink = await page.run("getComputedStyle(document.querySelector('td button')).color")
        assert ink == {"light": "rgb(11, 92, 173)", "dark": "rgb(127, 184, 245)"}[scheme]


async def test_without_a_sensor(page: Page, tmp_path: Path) -> None:
    """It says that there are none, and how they come."""
    store = SqliteStore(tmp_path / "empty.db")
    await store.open()
    await store.close()
    async with served(begun(), database=tmp_path / "empty.db") as url:
        await page.open(url)
        await page.until(f"{STATE} === 'live' && {text('#shown')}.startsWith('No sensors yet')")
