"""What comes live: handed on in order, resumed where it broke off, bounded for whoever is slow; and over HTTP."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import msgspec
import pytest
from aiohttp import ClientResponse
from aiokafka import ConsumerRecord, TopicPartition

from streamproc.console.following import Following
from streamproc.console.live import KEPT, PIECE, WAITING, Client, Live
from streamproc.console.parameters import places
from streamproc.records import Severity, WindowRows
from streamproc.settings import Settings
from tests.shell.test_console import refused, served
from tests.store.builders import START, event

#: Longer than anything here takes.
SOON_S = 60.0


def parsed(text: bytes) -> list[tuple[str | None, str, Any]]:
    """Messages as (id, event, data)."""
    found = list[tuple[str | None, str, Any]]()
    for block in text.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.splitlines() if re.match(r"\w+: ", line))
        if "event" in fields:
            found.append((fields.get("id"), fields["event"], json.loads(fields["data"])))
    return found


def names(messages: list[tuple[str | None, str, Any]]) -> list[str]:
    """The sensors of changes, and the other messages' events."""
    return [data["sensor"] if name == "change" else name for _, name, data in messages]


def joined(
    live: Live, place: str | None = None, sensors: tuple[str, ...] = (), most: int = WAITING
) -> Client:
    """One who follows, from a place or from now on; so much may wait for him at most."""
    client = Client(sensors, 1_000, most)
    assert live.join(client, places(place))
    return client


async def waiting(client: Client) -> list[tuple[str | None, str, Any]]:
    """What waits for a client at this moment."""
    return parsed(await client.take(0))


def begun(most: int = 10, kept: int = KEPT) -> Live:
    """Two partitions of events, some records in."""
    live = Live(most, kept)
    live.begin({0: 5, 1: 7})
    live.stand(is_live=True)
    return live


def tell(live: Live, partition: int, offset: int, sensor: str) -> None:
    """Have a change come."""
    live.change(partition, offset, event(sensor, Severity.WARN, Severity.NORMAL))


#: A change of the year 31,690,708.
BEYOND = msgspec.json.encode(
    msgspec.structs.replace(event("z", Severity.WARN, Severity.NORMAL), at=1_000_000_000_000_000_000)
)


def record(offset: int, value: bytes) -> Any:
    """A record as aiokafka gives it."""
    return ConsumerRecord("events", 0, offset, 0, 0, None, value, None, 0, len(value), ())


def rows(*sensors: str, start: int = 0, size_ms: int = 1_000) -> WindowRows:
    """Windows of these sensors."""
    many = len(sensors)
    values, ones = [float(at) for at in range(many)], [1] * many
    return WindowRows(
        size_ms=size_ms,
        topic="readings",
        partition=0,
        sensor=list(sensors),
        start=[START + start] * many,
        count=ones,
        mean=values,
        min=values,
        max=values,
        deviation=values,
        first=values,
        last=values,
        trend=values,
        first_offset=ones,
        last_offset=ones,
    )


async def test_changes_are_told_with_the_place_behind_them() -> None:
    """At first how Kafka stands, then each change, with all that the topic says of it but its lineage."""
    live = begun()
    client = joined(live)
    tell(live, 1, 7, "a")
    live.change(0, 5, None)
    tell(live, 0, 6, "b")
    state, first, second = await waiting(client)
    assert state == ("0:5,1:7", "state", {"live": True})
    assert (first[0], second[0]) == ("0:5,1:8", "0:7,1:8")
    assert first[2] == {
        "event_id": event("a", Severity.WARN, Severity.NORMAL).event_id,
        "sensor": "a",
        "severity": "WARN",
        "previous": "NORMAL",
        "at": "2023-11-14T22:13:20Z",
        "cause": "critical_range",
        "explanation": "far above what it may be",
        "recommended_action": "look at it",
        "value": 99.5,
    }


async def test_who_comes_back_misses_nothing() -> None:
    """From the place of his last message on, each change once, and those behind it as they come."""
    live = begun()
    for number, sensor in enumerate("abcd"):
        tell(live, number % 2, (5, 7)[number % 2] + number // 2, sensor)
    client = joined(live, "0:6,1:7")
    tell(live, 0, 7, "e")
    assert names(await waiting(client)) == ["state", "b", "c", "d", "e"]


@pytest.mark.parametrize(("place", "placed"), [(None, 0), ("0:8,1:7", 0), ("0:5,1:7", 1), ("0:3,1:7", 1)])
async def test_no_place_is_named_before_what_lies_behind_it(place: str | None, placed: int) -> None:
    """Who is cut off amid what he missed, or before he hears of `reset`, still comes back from where he was."""
    live = begun()
    for number in range(3):
        tell(live, 0, 5 + number, f"s{number}")
    messages = await waiting(joined(live, place))
    assert next(at for at, (name, _, _) in enumerate(messages) if name is not None) == placed
    assert messages[-1][0] == "0:8,1:7"


@pytest.mark.parametrize("place", ["0:4,1:7", "0:5,1:99", "0:5", "0:5,1:7,2:0"])
async def test_who_was_away_too_long_reads_anew(place: str) -> None:
    """So does who comes from other topics: nothing that is missing is passed over in silence."""
    live = begun()
    tell(live, 0, 5, "a")
    assert names(await waiting(joined(live, place))) == ["state", "reset"]


async def test_only_so_much_is_kept() -> None:
    """What is not kept any more is known not to be."""
    live = begun(kept=3)
    for number in range(5):
        tell(live, 0, 5 + number, f"s{number}")
    assert names(await waiting(joined(live, "0:7,1:7"))) == ["state", "s2", "s3", "s4"]
    assert names(await waiting(joined(live, "0:6,1:7"))) == ["state", "reset"]


async def test_a_gap_is_told() -> None:
    """Where Kafka has deleted what was not read, or the topic is another, all are told to read anew."""
    live = begun()
    client = joined(live)
    tell(live, 0, 9, "a")
    assert names(await waiting(client)) == ["state", "reset", "a"]
    live.begin({0: 10, 1: 7})
    assert await waiting(client) == []
    live.begin({0: 2, 1: 7})
    assert names(await waiting(client)) == ["reset"]
    assert names(await waiting(joined(live, "0:10,1:7"))) == ["state", "reset"]


async def test_new_partitions_are_followed() -> None:
    """Those that were there go on as they were."""
    live = begun()
    live.begin({0: 5, 1: 7, 2: 0})
    tell(live, 2, 0, "new")
    assert names(await waiting(joined(live, "0:5,1:7,2:0"))) == ["state", "new"]


async def test_windows_of_the_sensors_that_are_followed() -> None:
    """The newest of each, of the size that is asked for, and of no other sensor."""
    live = begun()
    client = joined(live, sensors=("b", "c"))
    await waiting(client)
    live.windows(rows("a", "b", "c"))
    live.windows(rows("x", "y", "z", "b", start=1_000))
    live.windows(rows("c", size_ms=5_000))
    found = {data["sensor"]: data for _, name, data in await waiting(client) if name == "window"}
    assert {sensor: data["mean"] for sensor, data in found.items()} == {"b": 3.0, "c": 2.0}
    assert found["b"]["start"] == "2023-11-14T22:13:21Z"
    assert (live.follows(1_000), live.follows(5_000)) == (True, False)


async def test_who_is_too_slow_is_cut_off_and_told() -> None:
    """He has no more waiting than may, and hears why; the others go on."""
    live = begun()
    slow, quick = joined(live, most=3), joined(live, most=3)
    for number in range(5):
        await waiting(quick)
        tell(live, 0, 5 + number, f"s{number}")
    assert slow.over
    ((_, name, data),) = await waiting(slow)
    assert (name, "too slow" in data["reason"]) == ("end", True)
    assert (quick.over, names(await waiting(quick))) == (False, ["s4"])


async def test_who_missed_more_than_may_wait_gets_all_of_it() -> None:
    """However much he missed of what is kept, it is no sign that he is slow; what comes behind it has its bound as ever."""
    live = begun()
    for number in range(5):
        tell(live, 0, 5 + number, f"s{number}")
    client = joined(live, "0:5,1:7", most=2)
    tell(live, 0, 10, "s5")
    assert names(await waiting(client)) == ["state", *(f"s{number}" for number in range(6))]
    for number in range(11, 15):
        tell(live, 0, number, "more")
    assert client.over


async def test_much_that_waits_is_handed_on_in_pieces() -> None:
    """Each is small enough for a slow line to take in the time that a write may take; all come, in their order."""
    live = begun()
    for number in range(250):
        tell(live, 0, 5 + number, f"s{number}")
    client = joined(live, "0:5,1:7", sensors=("a",))
    live.windows(rows("a"))
    pieces = [names(await waiting(client)) for _ in range(4)]
    assert max(map(len, pieces)) <= PIECE + 1
    assert [name for piece in pieces for name in piece] == [
        "state",
        *(f"s{number}" for number in range(250)),
        "window",
    ]
    assert pieces[-1] == []


@pytest.mark.parametrize("wrong", [b"no event", b"", b'{"size_ms":1000}', BEYOND])
async def test_what_cannot_be_told_costs_only_itself(wrong: bytes) -> None:
    """A change of a year that there is not, or what is none at all: the next one is told, and none is missing."""
    live = begun()
    client = joined(live)
    right = msgspec.json.encode(event("a", Severity.WARN, Severity.NORMAL))
    following = Following(Settings.model_validate({"kafka_bootstrap": "127.0.0.1:1"}), live)
    following._take(TopicPartition("events", 0), [record(5, wrong), record(6, right)])
    assert names(await waiting(client)) == ["state", "a"]


async def test_windows_of_columns_that_differ_cost_only_themselves() -> None:
    """Nothing of them is told that could be another sensor's, and the next are."""
    live = begun()
    client = joined(live, sensors=("a", "b"))
    cut = msgspec.structs.replace(rows("a", "b"), mean=[1.0])
    following = Following(Settings.model_validate({"kafka_bootstrap": "127.0.0.1:1"}), live)
    values = [msgspec.json.encode(cut), msgspec.json.encode(rows("x", "y", "b"))]
    following._take(TopicPartition("windows", 0), [record(at, value) for at, value in enumerate(values)])
    found = {data["sensor"]: data["mean"] for _, name, data in await waiting(client) if name == "window"}
    assert found == {"b": 2.0}


async def test_so_many_may_follow() -> None:
    """One more is refused until another has left; none may once it stops."""
    live = begun(most=1)
    first = joined(live)
    assert not live.join(Client((), 1_000), None)
    live.leave(first)
    second = joined(live)
    live.close()
    assert names(await waiting(second)) == ["end"]
    live.leave(second)
    assert not live.join(Client((), 1_000), None)


async def until(response: ClientResponse, wanted: str) -> list[tuple[str | None, str, Any]]:
    """The messages of a stream up to the first of this event."""
    text = b""
    async with asyncio.timeout(SOON_S):
        while wanted not in [name for _, name, _ in parsed(text)]:
            chunk = await response.content.readany()
            assert chunk, text
            text += chunk
    return parsed(text)


async def test_a_stream_over_http() -> None:
    """Its kind, its first words, a change and a window as they come, and where to go on."""
    live = begun()
    async with served(live=live) as client:
        async with client.get("/api/live?sensor=A&sensor=b&size=1s") as response:
            assert response.content_type == "text/event-stream"
            assert (response.headers["Cache-Control"], response.headers["X-Accel-Buffering"]) == (
                "no-store",
                "no",
            )
            await until(response, "state")
            tell(live, 0, 5, "a")
            live.windows(rows("a"))
            place = next(at for at, name, _ in await until(response, "window") if name == "change")
        tell(live, 0, 6, "b")
        assert place is not None
        async with client.get("/api/live", headers={"Last-Event-ID": place}) as response:
            messages = await until(response, "change")
            assert names(messages) == ["state", "b"]
        async with client.get("/api/live", headers={"Last-Event-ID": "nonsense"}) as response:
            assert names(await until(response, "state")) == ["state"]


async def test_streams_are_bounded_and_end_with_the_console() -> None:
    """One too many is told to come later; those that follow hear of the end."""
    live = begun(most=1)
    async with served(live=live) as client, client.get("/api/live") as response:
        await until(response, "state")
        full = await client.get("/api/live")
        await refused(full, 503, "busy")
        assert full.headers["Retry-After"]
        assert (await client.head("/api/live")).status == 405
        live.close()
        await until(response, "end")
        async with asyncio.timeout(SOON_S):
            assert await response.content.read() == b""
