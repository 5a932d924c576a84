"""Pages for people to look at, asked of each kind of database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from streamproc.records import SensorEntry, Severity
from streamproc.store.edits import RemoveSensor, by_streamproc
from streamproc.store.protocol import Batch, Store
from streamproc.store.views import EventPlace, EventsAsked, SensorsAsked, WindowsAsked
from tests.store.builders import GROUP, START, event, events, readings, save_entries, windows
from tests.store.databases import Database

BEGAN = datetime.fromtimestamp(START / 1000, UTC)


def after(ms: int) -> datetime:
    """So many milliseconds after START."""
    return BEGAN + timedelta(milliseconds=ms)


async def fill(store: Store) -> None:
    """Have sensors of each severity, one that was in alarm, one that has sent nothing and one that has gone."""
    await save_entries(
        store,
        [
            SensorEntry("hot", device="d", name="Boiler", unit="°C", site="Hall 100%"),
            SensorEntry("quiet"),
            SensorEntry("gone"),
        ],
    )
    changes = (
        event("hot", Severity.WARN, Severity.NORMAL, 10),
        event("hot", Severity.CRITICAL, Severity.WARN, 20),
        event("calm", Severity.CRITICAL, Severity.NORMAL, 30),
        event("calm", Severity.NORMAL, Severity.CRITICAL, 40),
        event("warm", Severity.WARN, Severity.NORMAL, 50),
        event("gone", Severity.CRITICAL, Severity.NORMAL, 60),
    )
    values = readings(("hot", 1.5, 9), ("hot", 7.5, 3), ("calm", 2.5, 2), ("warm", 8.0, 50))
    await store.write(Batch(GROUP, readings=values, events=events(*changes)))
    await store.edit_registry([RemoveSensor("gone")], by_streamproc())


async def names(store: Store, asked: SensorsAsked) -> list[str]:
    """The keys of a page."""
    return [row.sensor for row in await store.sensors_page(asked)]


async def test_sensors_by_how_they_stand(store: Store) -> None:
    """Each registered sensor is in the list of one severity, whichever it had before; one that was removed in none."""
    await fill(store)
    assert await names(store, SensorsAsked("CRITICAL")) == ["hot"]
    assert await names(store, SensorsAsked("WARN")) == ["warm"]
    assert await names(store, SensorsAsked("NORMAL")) == ["calm", "quiet"]


async def test_a_sensor_tells_how_it_stands(store: Store) -> None:
    """Its names, the change it is in, and the reading that was measured last; nothing where there is nothing."""
    await fill(store)
    (hot,) = await store.sensors_page(SensorsAsked("CRITICAL"))
    assert (hot.name, hot.unit, hot.device, hot.site, hot.kind) == ("Boiler", "°C", "d", "Hall 100%", None)
    assert (hot.severity, hot.since, hot.cause) == ("CRITICAL", after(20), "critical_range")
    assert hot.explanation == "far above what it may be"
    assert (hot.last_value, hot.last_seen) == (1.5, after(9))
    calm, quiet = await store.sensors_page(SensorsAsked("NORMAL"))
    assert (calm.severity, calm.since, calm.last_value) == ("NORMAL", after(40), 2.5)
    assert (quiet.severity, quiet.since, quiet.last_value, quiet.last_seen) == ("NORMAL", None, None, None)
    assert (quiet.name, quiet.device) == (None, None)


async def test_a_withdrawn_change_is_none(database: Database, store: Store) -> None:
    """The sensor is where it was before it, if that still stands."""
    await fill(store)
    database.execute("UPDATE ml_events SET status = 'superseded' WHERE severity = 'CRITICAL'")
    database.execute("UPDATE ml_events SET status = 'active' WHERE severity = 'WARN'")
    assert await names(store, SensorsAsked("CRITICAL")) == []
    assert await names(store, SensorsAsked("WARN")) == ["hot", "warm"]
    assert len((await store.events_page(EventsAsked())).events) == 3


async def test_an_alarm_that_another_program_has_acknowledged_stays(database: Database, store: Store) -> None:
    """Its sensor is in the list of its severity, told as it stands, and among the alarms."""
    await fill(store)
    database.execute("UPDATE ml_events SET status = 'acknowledged' WHERE status = 'active'")
    for asked, sensors in (
        (SensorsAsked("CRITICAL"), ["hot"]),
        (SensorsAsked("WARN"), ["warm"]),
        (SensorsAsked("NORMAL"), ["calm", "quiet"]),
    ):
        found = await store.sensors_page(asked)
        assert [(row.sensor, row.severity) for row in found] == [(name, asked.severity) for name in sensors]
    assert [alarm.sensor for alarm in await store.alarms()] == ["hot", "warm"]


async def test_sensors_come_in_pages(store: Store) -> None:
    """Each page goes on behind the last one of the page before."""
    await save_entries(store, [SensorEntry(f"s{number}") for number in range(5)])
    assert await names(store, SensorsAsked("NORMAL", limit=2)) == ["s0", "s1"]
    assert await names(store, SensorsAsked("NORMAL", "s1", limit=2)) == ["s2", "s3"]
    assert await names(store, SensorsAsked("NORMAL", "s3", limit=2)) == ["s4"]
    assert await names(store, SensorsAsked("NORMAL", "s4", limit=2)) == []


@pytest.mark.parametrize("search", ["boil", "BOILER", "hot", "d", "hall 100%", "%"])
async def test_sensors_are_found_by_a_part_of_a_name(store: Store, search: str) -> None:
    """Of name, key, device or site, whatever its case; no letter stands for others."""
    await fill(store)
    assert await names(store, SensorsAsked("CRITICAL", search=search)) == ["hot"]


@pytest.mark.parametrize("search", ["ático", "ÁTICO", "Ático", "NORTE", "ñandú"])
async def test_letters_beyond_ascii_have_cases_too(store: Store, search: str) -> None:
    """Names are in people's languages."""
    await save_entries(store, [SensorEntry("a", name="Ático norte"), SensorEntry("b", site="NORTE Ñandú")])
    found = await names(store, SensorsAsked("NORMAL", search=search))
    assert found == {"NORTE": ["a", "b"], "ñandú": ["b"]}.get(search, ["a"])


@pytest.mark.parametrize("search", ["b_iler", "boiler'", "\x00", "['"])
async def test_what_is_nowhere_is_not_found(store: Store, search: str) -> None:
    """Letters with a meaning in patterns and statements have none here."""
    await fill(store)
    assert await names(store, SensorsAsked("CRITICAL", search=search)) == []


async def test_events_of_all_newest_first(store: Store) -> None:
    """In pages, each of which says where to go on, until all that was told has been."""
    await fill(store)
    first = await store.events_page(EventsAsked(limit=4))
    assert [(row.sensor, row.severity) for row in first.events] == [
        ("gone", "CRITICAL"),
        ("warm", "WARN"),
        ("calm", "NORMAL"),
        ("calm", "CRITICAL"),
    ]
    second = await store.events_page(EventsAsked(before=first.following, limit=4))
    assert [row.severity for row in second.events] == ["CRITICAL", "WARN"]
    assert second.following is None
    hot = second.events[0]
    assert (hot.sensor, hot.name, hot.device, hot.previous, hot.at) == (
        "hot",
        "Boiler",
        "d",
        "WARN",
        after(20),
    )
    assert (hot.cause, hot.recommended_action) == ("critical_range", "look at it")


async def test_events_that_are_asked_for(store: Store) -> None:
    """Of a severity, of a time (its end exclusive), of one sensor; of an unknown one, none."""
    await fill(store)

    async def times(asked: EventsAsked) -> list[datetime]:
        return [row.at for row in (await store.events_page(asked)).events]

    assert await times(EventsAsked(severity="WARN")) == [after(50), after(10)]
    assert await times(EventsAsked(since=after(30), until=after(50))) == [after(40), after(30)]
    assert await times(EventsAsked("hot")) == [after(20), after(10)]
    assert await times(EventsAsked("hot", severity="WARN", since=after(10))) == [after(10)]
    assert await times(EventsAsked("nobody")) == []
    assert await times(EventsAsked("HOT")) == []
    assert await times(EventsAsked("hot\x00")) == []


@pytest.mark.parametrize("sensor", ["a", None])
async def test_events_in_pages(store: Store, sensor: str | None) -> None:
    """By their times, also where they were stored in another order, or have the same time."""
    ups = [
        replace(event("a", Severity.WARN, Severity.NORMAL, 10 * (number % 3)), event_id=f"e{number}")
        for number in range(7)
    ]
    await store.write(Batch(GROUP, events=events(*ups)))
    seen, place = list[tuple[datetime, str]](), None
    for _ in range(4):
        page = await store.events_page(EventsAsked(sensor, before=place, limit=2, look_through=3))
        seen += [(row.at, row.event_id) for row in page.events]
        place = page.following
    assert place is None
    assert len(set(seen)) == 7
    assert [at for at, _ in seen] == sorted((at for at, _ in seen), reverse=True)


async def test_a_page_looks_through_what_is_of_its_time_alone(store: Store) -> None:
    """However much came since, and whatever was stored in between."""
    late = [event("late", Severity.WARN, Severity.NORMAL, 1_000 + at) for at in range(20)]
    await store.write(Batch(GROUP, events=events(*late)))
    await fill(store)
    page = await store.events_page(EventsAsked(since=after(20), until=after(50), look_through=4))
    assert [row.at for row in page.events] == [after(40), after(30), after(20)]
    assert page.following is None


async def test_a_page_looks_through_so_many(store: Store) -> None:
    """Where few are like what is asked for, a page ends before it is full, and the next goes on there."""
    await fill(store)
    pages, place = list[list[str]](), None
    for _ in range(3):
        page = await store.events_page(EventsAsked(severity="WARN", look_through=2, before=place))
        pages.append([row.sensor for row in page.events])
        place = page.following
        assert place is not None or len(pages) == 3
    assert pages == [["warm"], [], ["hot"]]


async def test_a_place_beyond_all_is_the_beginning(store: Store) -> None:
    """So is one without a time; below the first there is nothing."""
    await fill(store)
    for place in (EventPlace(10**18 - 1, after(60)), EventPlace(7, after(10**9)), EventPlace(7)):
        page = await store.events_page(EventsAsked(before=place, limit=1))
        assert [row.sensor for row in page.events] == ["gone"]
    assert (await store.events_page(EventsAsked(before=EventPlace(0, after(10))))).events == ()


async def test_windows_in_pages(store: Store) -> None:
    """Of one sensor and size, newest first; of an unknown sensor none."""
    await store.write(
        Batch(GROUP, windows=windows(*(("a", float(n), 1000 * n) for n in range(5)), ("b", 9.0, 0)))
    )
    await store.write(Batch(GROUP, windows=windows(("a", 3.0, 0), size_ms=10_000)))
    first = await store.windows_page(WindowsAsked("a", 1_000, None, 3))
    assert [window.mean for window in first] == [4.0, 3.0, 2.0]
    assert first[0].start == after(4000)
    second = await store.windows_page(WindowsAsked("a", 1_000, first[-1].start, 3))
    assert [window.mean for window in second] == [1.0, 0.0]
    assert [window.mean for window in await store.windows_page(WindowsAsked("a", 10_000, None, 3))] == [3.0]
    assert await store.windows_page(WindowsAsked("nobody", 1_000, None, 3)) == []
