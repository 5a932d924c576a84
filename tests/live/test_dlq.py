"""Dead letters sent again through real Kafka, worker, sink and commands: each row, window count and event once."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from time import time
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete

from streamproc.core.chunk import REDRIVEN
from streamproc.dev.changes import Changes
from streamproc.dlq.found import Filter, read
from streamproc.dlq.index import Index, Line
from streamproc.dlq.redrive import producing
from streamproc.kafka import clients
from streamproc.records import SeverityEvent, WindowRows
from tests.live.feed import packet, send
from tests.live.oracle import Reader, reading
from tests.live.processes import SOON_S, Site, eventually

STRICT = {"STREAMPROC_AUTO_REGISTER": "false"}
#: Readings that are early at first need not be waited for long.
SKEW = {"STREAMPROC_ALLOWED_SKEW_MS": "1000"}
_ROWS = "SELECT uuid, value FROM sensor_readings r JOIN sensors s ON s.id = r.sensor_id ORDER BY 1, 2"

#: A redrive that is killed once its records are sent, and before they are marked.
_KILLED = """
import asyncio, os, signal, sys
from streamproc import settings
from streamproc.dlq.commands import _source
from streamproc.dlq.found import Filter
from streamproc.dlq.index import Index
from streamproc.dlq.redrive import producing, redrive

async def kill(marks):
    assert marks
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    chosen = settings.load()
    index = Index(Filter(prefix=chosen.topic_prefix))
    async with _source(chosen) as source, producing(chosen.kafka) as producer:
        await source.scan(index)
        await redrive(source, index, producer, marker=kill)

asyncio.run(main())
"""


@pytest.fixture
async def reader(site: Site) -> AsyncIterator[Reader]:
    """Reads the topics that are looked at here."""
    async with reading(
        site.bootstrap, site.prefix, "readings", "windows", "events", "late", "dead-letter"
    ) as reader:
        yield reader


async def run(site: Site, *arguments: str) -> tuple[int, str, str]:
    """Run `python ARGUMENTS` at the site to its end; its exit code, standard output and standard error."""
    environment = os.environ | {
        **site.bootstrap.variables(),
        "STREAMPROC_TOPIC_PREFIX": site.prefix,
        "STREAMPROC_DATABASE": str(site.database),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), SOON_S)
    assert process.returncode is not None
    return process.returncode, out.decode(errors="surrogateescape"), err.decode()


async def dlq(site: Site, *arguments: str, code: int = 0) -> str:
    """What `streamproc dlq ARGUMENTS` writes; fails if it ends with another code."""
    ended, out, err = await run(site, "-m", "streamproc", "dlq", *arguments)
    assert ended == code, out + err
    return out + err


async def listed(site: Site, *arguments: str) -> dict[str, Any]:
    """What `dlq list` tells programs."""
    told: dict[str, Any] = json.loads(await dlq(site, "list", "--json", *arguments))
    return told


async def until_letters(reader: Reader, site: Site, waiting: int, topic: str | None = None) -> list[Line]:
    """Wait until so many letters (about records of a topic) wait to be sent again, and give all of them."""

    async def come() -> list[Line] | None:
        records = (await reader.read("dead-letter"))[0]
        with closing(Index(Filter(topic=topic, prefix=site.prefix))) as index:
            index.add(map(read, records))
            return index.newest(1_000) if index.total()[1] == waiting else None

    found = await eventually(come)
    assert found
    return found


def rows(site: Site, query: str = _ROWS) -> list[tuple[Any, ...]]:
    """What the database gives to a query."""
    with closing(sqlite3.connect(site.database)) as opened:
        return opened.execute(query).fetchall()


def execute(site: Site, statement: str) -> None:
    """Change the database."""
    with closing(sqlite3.connect(site.database)) as opened, opened:
        opened.execute(statement)


async def until_sunk(site: Site, reader: Reader, topic: str = "readings") -> None:
    """Wait until the sink has taken in all that is on a topic."""
    query = f"SELECT partition, next_offset FROM stream_offsets WHERE topic = '{site.prefix}{topic}'"  # noqa: S608  # the test's own

    async def reached() -> bool:
        held = await reader.read(topic)
        at: dict[int, int] = dict(rows(site, query))
        return all(at.get(number, 0) > records[-1].offset for number, records in held.items() if records)

    await eventually(reached)


async def counts(reader: Reader, sensor: str) -> int:
    """Readings of a sensor that the engine has counted in windows of 1 s that are closed."""
    told: dict[int, int] = {}
    for value in await reader.values("windows"):
        made = msgspec.json.decode(value, type=WindowRows)
        if made.size_ms == 1000:
            told |= {
                start: count
                for name, start, count in zip(made.sensor, made.start, made.count, strict=True)
                if name == sensor
            }
    return sum(told.values())


async def until_counted(reader: Reader, sensor: str, readings: int) -> None:
    """Wait until windows hold as many readings of a sensor; fails if they hold more."""

    async def reached() -> bool:
        found = await counts(reader, sensor)
        assert found <= readings
        return found == readings

    await eventually(reached)


async def until_closed(reader: Reader, producer: AIOKafkaProducer, prefix: str, readings: int = 1) -> None:
    """Wait until windows are closed that were open before: a later reading of the device `d` has come in one."""
    name = f"closer-{readings}"
    await (await send(producer, f"{prefix}readings", "d", packet("d", name, 1.0, time())))
    await until_counted(reader, name, 1)


async def register(site: Site, tmp_path: Path, *sensors: dict[str, Any]) -> None:
    """Run `streamproc registry import`."""
    file = tmp_path / "sensors.json"
    file.write_text(json.dumps(sensors))
    code, out, err = await run(site, "-m", "streamproc", "registry", "import", str(file))
    assert code == 0, out + err


def timeless(sensor: str, *values: float) -> bytes:
    """A packet that only its place on the topic tells from another of the same values."""
    items = [{"sensor_uuid": sensor, "value": value} for value in values]
    return json.dumps({"device_uuid": "d", "readings": items}).encode()


async def test_an_unknown_sensor_is_registered_and_its_readings_sent_again(
    site: Site, producer: AIOKafkaProducer, reader: Reader, tmp_path: Path
) -> None:
    """They are rows with the times of their first arrival, once, and no window counts them twice."""
    await asyncio.gather(site.worker(), site.sink(**STRICT))
    topic = f"{site.prefix}readings"
    first = await (await send(producer, topic, "d", timeless("s", 1.0, 2.0)))
    await until_counted(reader, "s", 2)
    (line,) = await until_letters(reader, site, 1, "readings")
    told = await listed(site, "--topic", "readings")
    (group,) = told["groups"]
    assert (group["stage"], group["code"], group["letters"]) == ("sink", "unknown-sensor", 1)
    (letter,) = told["newest"]
    assert letter["id"] == str(line.place)
    shown = await dlq(site, "show", letter["id"])
    assert "registry import" in shown
    assert '"value": 1.0' in shown
    assert letter["id"] in await dlq(site, "redrive", "--reason", "unknown-sensor", "--dry-run")
    assert rows(site) == []

    await register(site, tmp_path, {"sensor": "s"})
    assert "1 sent again" in await dlq(site, "redrive", letter["id"], "--yes")
    await until_sunk(site, reader)
    assert rows(site) == [("s", 1.0), ("s", 2.0)]
    stamps = rows(site, "SELECT DISTINCT timestamp FROM sensor_readings")
    assert [round(datetime.fromisoformat(stamp).timestamp() * 1000) for (stamp,) in stamps] == [
        first.timestamp
    ]
    assert "no letter waits" in await dlq(site, "redrive", letter["id"], "--yes")
    assert (await listed(site, "--topic", "readings"))["redriven"] == 1
    assert "no new letter has come of it" in await dlq(site, "show", letter["id"])
    await until_closed(reader, producer, site.prefix)  # the worker has taken in by then what was sent again
    assert await counts(reader, "s") == 2
    assert await reader.values("late") == []


async def test_what_is_no_json_fails_again_and_is_told(
    site: Site, producer: AIOKafkaProducer, reader: Reader
) -> None:
    """With the same bytes, also those that are no text; each attempt is a letter that names the first."""
    await site.worker()
    topic = f"{site.prefix}readings"
    bad = [b'{"sensor_uuid": ', b"\xff\x00\x1b[2J"]
    places = [await (await send(producer, topic, "d", value)) for value in bad]
    for attempt in (1, 2):
        lines = await until_letters(reader, site, len(bad))
        assert {line.attempt for line in lines} == set(range(attempt))
        await dlq(site, "redrive", "--all", "--yes")
        records = [record for held in (await reader.read("readings")).values() for record in held]
        again = [record for record in records if any(name == REDRIVEN for name, _ in record.headers)]
        assert sorted(record.value for record in again) == sorted(bad * attempt)
        assert {record.partition for record in again} == {place.partition for place in places}
    await until_letters(reader, site, len(bad))
    told = await listed(site)
    assert [line["attempt"] for line in told["newest"]] == [0, 0, 1, 1, 2, 2]
    assert (told["letters"], told["groups"][0]["attempts"]) == (6, 2)
    first, last = told["newest"][1]["id"], told["newest"][-1]["id"]
    shown = await dlq(site, "show", last)
    assert f"sent again 2 times before; the first letter is {first}" in shown
    assert "\\xff\\x00\\x1b[2J" in shown
    assert f"refused again  {told['newest'][3]['id']}, {last}" in await dlq(site, "show", first)
    _, raw, _ = await run(site, "-m", "streamproc", "dlq", "show", last, "--payload")
    assert raw.encode(errors="surrogateescape") == bad[1]


async def test_a_record_too_large_for_its_letter_is_fetched_while_it_is_there(
    site: Site, reader: Reader, tmp_path: Path
) -> None:
    """Its bytes come from the topic that it is on; once they are gone, the command says so and ends with 1."""
    await site.sink(**STRICT)
    topic = f"{site.prefix}readings"
    async with producing(site.bootstrap) as producer:
        for sensor in ("s", "t"):
            body = timeless(sensor, *[float(value) for value in range(28_000)])
            assert len(body) > 1_000_000
            place = await (await send(producer, topic, "d", body))
    first, second = [str(line.place) for line in await until_letters(reader, site, 2)]
    assert "read from its topic" in await dlq(site, "show", first)
    await register(site, tmp_path, {"sensor": "s"}, {"sensor": "t"})
    await dlq(site, "redrive", first, "--yes")
    await until_sunk(site, reader)
    assert rows(site, "SELECT count(*), count(DISTINCT value) FROM sensor_readings") == [(28_000, 28_000)]

    admin = clients.admin(site.bootstrap)
    await admin.start()
    try:
        gone = RecordsToDelete(before_offset=place.offset + 1)
        await admin.delete_records({TopicPartition(topic, place.partition): gone})
    finally:
        await admin.close()
    text = await dlq(site, "redrive", "--all", "--yes", code=1)
    assert f"it is gone from {topic}/{place.partition} at offset {place.offset}" in text
    assert "gone from its topic" in await dlq(site, "show", second)
    await until_letters(reader, site, 1)


async def test_a_refused_row_is_written_once_its_rule_is_gone(
    site: Site, producer: AIOKafkaProducer, reader: Reader
) -> None:
    """The other rows of its packet are there already, and stay as they are; the windows count each reading once."""
    await asyncio.gather(site.worker(), site.sink())
    execute(
        site,
        "CREATE TRIGGER cold BEFORE INSERT ON sensor_readings WHEN NEW.value = -273"
        " BEGIN SELECT RAISE(ABORT, 'too cold'); END",
    )
    await (await send(producer, f"{site.prefix}readings", "d", timeless("s", 1.0, -273.0, 1.0)))
    (line,) = await until_letters(reader, site, 1)
    assert (line.reason, line.code) == ("too cold", "refused")

    async def others_stored() -> bool:  # a letter goes out before the transaction
        return rows(site) == [("s", 1.0), ("s", 1.0)]

    await eventually(others_stored)
    execute(site, "DROP TRIGGER cold")
    await dlq(site, "redrive", "--reason", "too cold", "--yes")
    await until_sunk(site, reader)
    assert rows(site) == [("s", -273.0), ("s", 1.0), ("s", 1.0)]
    await until_counted(reader, "s", 3)
    await until_closed(reader, producer, site.prefix)
    assert await counts(reader, "s") == 3
    assert await reader.values("late") == []


async def test_an_event_sent_again_is_shown_to_nobody_twice(
    site: Site, producer: AIOKafkaProducer, reader: Reader, tmp_path: Path
) -> None:
    """It is a row then; who follows the topic passes it over, and sees the next one."""
    await asyncio.gather(site.worker(), site.sink())
    await register(site, tmp_path, {"sensor": "s", "device": "d", "critical": {"high": 50}})
    execute(
        site, "CREATE TRIGGER no BEFORE INSERT ON ml_events BEGIN SELECT RAISE(ABORT, 'no events today'); END"
    )
    topic = f"{site.prefix}readings"

    async def alarmed() -> bool:  # once the worker knows the range
        await (await send(producer, topic, "d", packet("d", "s", 99.0, time())))
        return bool(await reader.values("events"))

    await eventually(alarmed)
    await until_letters(reader, site, 1, "events")
    execute(site, "DROP TRIGGER no")
    changes = Changes(site.bootstrap, f"{site.prefix}events")
    seen: list[SeverityEvent] = []
    await changes.start()
    following = asyncio.create_task(changes.follow(seen.append))
    try:
        await dlq(site, "redrive", "--topic", "events", "--yes")
        await until_sunk(site, reader, "events")
        first, again = (
            msgspec.json.decode(value, type=SeverityEvent) for value in await reader.values("events")
        )
        assert first == again
        assert rows(site, "SELECT event_id, status FROM ml_events") == [(first.event_id, "active")]

        async def calm() -> bool:
            await (await send(producer, topic, "d", packet("d", "s", 1.0, time())))
            return bool(seen)

        await eventually(calm)
        assert first.event_id not in {event.event_id for event in seen}
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await changes.stop()


async def test_killed_between_sending_and_marking_nothing_counts_twice(
    site: Site, producer: AIOKafkaProducer, reader: Reader, tmp_path: Path
) -> None:
    """By kill -9: the next redrive sends the records again, and rows, windows and events are there once.

    One is of the engine: too early when it came, and taken once its time has come. The other is of the sink.
    """
    await asyncio.gather(site.worker(**SKEW), site.sink(**SKEW, **STRICT))
    await register(site, tmp_path, {"sensor": "early", "device": "d", "critical": {"high": 50}})
    topic = f"{site.prefix}readings"
    due = time() + 10  # more than the skew of 1 s ahead when it comes, on a slow machine as well
    await (await send(producer, topic, "d", packet("d", "early", 99.0, due)))
    await (await send(producer, topic, "d", timeless("new", 1.0)))
    await until_letters(reader, site, 2, "readings")
    await register(site, tmp_path, {"sensor": "new"}, {"sensor": "closer-1"})

    async def come() -> bool:
        return time() > due

    await eventually(come)
    code, out, err = await run(site, "-c", _KILLED)
    assert code == -9, out + err
    await until_letters(reader, site, 2, "readings")
    await dlq(site, "redrive", "--all", "--yes")
    await until_letters(reader, site, 0)
    records = [record for held in (await reader.read("readings")).values() for record in held]
    again = [record.value for record in records if any(name == REDRIVEN for name, _ in record.headers)]
    assert sorted(again.count(value) for value in set(again)) == [2, 2]
    await until_counted(reader, "early", 1)
    await until_counted(reader, "new", 1)
    await until_closed(reader, producer, site.prefix)
    await until_sunk(site, reader)
    assert [row for row in rows(site) if row[0] != "closer-1"] == [("early", 99.0), ("new", 1.0)]
    assert (await counts(reader, "early"), await counts(reader, "new")) == (1, 1)
    events = [msgspec.json.decode(value, type=SeverityEvent) for value in await reader.values("events")]
    assert [event.sensor for event in events if event.severity] == ["early"]


async def test_commands_refuse_what_they_cannot_do(site: Site) -> None:
    """In a line that says what to do, with exit code 2."""
    for arguments, told in {
        ("redrive",): "say --all",
        ("redrive", "17", "--yes"): "PARTITION:OFFSET",
        ("redrive", "0:17", "--yes"): "there is no letter 0:17",
        ("show", "0:17"): "there is no letter 0:17",
        ("list", "--since", "yesterday"): "'yesterday' is no time",
        ("list", "--since", "1700000000000"): "'1700000000000' is no time",
    }.items():
        text = await dlq(site, *arguments, code=2)
        assert told in text
        assert len(text.splitlines()) == 1
    assert "0 letters" in await dlq(site, "list", "--since", "2h")
    assert "no letter waits" in await dlq(site, "redrive", "--all")
