"""What `streamproc replay` tells and asks where something stands in its way, beside a real worker and a real sink."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime
from time import time
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin.records_to_delete import RecordsToDelete

from streamproc.kafka import clients
from streamproc.records import NoData, SensorEntry, Severity
from streamproc.settings.connection import Connection
from tests.live.feed import packet, send
from tests.live.oracle import Reader, committed, reading
from tests.live.pipeline import select
from tests.live.processes import Site, eventually
from tests.live.tampering import content, run
from tests.live.terminal import on_terminal
from tests.live.test_replay import LONG_AGO, feed, fill, kinds, limit, replay, until_written
from tests.live.test_sink import TOPICS
from tests.live.worked import limit as put
from tests.live.worked import until_checkpointed

#: As in test_replay.py.
pytestmark = pytest.mark.timeout(600)
#: One row of each table is refused, or all of one sensor.
_TRIGGERS = {
    "sensor_readings": "NEW.value = 666",
    "sensor_windows": "NEW.size_ms = 5000 AND NEW.sensor_id = (SELECT id FROM sensors WHERE uuid = 'sensor-1')",
    "predictions": "NEW.sensor_id = (SELECT id FROM sensors WHERE uuid = 'sensor-2')",
    "ml_events": "NEW.severity = 'CRITICAL'",
    "alert_notifications": "1",
}


@pytest.fixture
async def reader(site: Site) -> AsyncIterator[Reader]:
    """Reads the sink's topics."""
    async with reading(site.bootstrap, site.prefix, *TOPICS) as reader:
        yield reader


def now() -> str:
    """The time, as --from and --to take it."""
    return datetime.now(UTC).isoformat()


def rows(site: Site) -> dict[str, list[tuple[Any, ...]]]:
    """What a replay may write; how far the sink is, it may not."""
    held = content(site)
    del held["stream_offsets"]
    return held


async def until_schema(site: Site) -> None:
    """Wait until the sink has made the tables."""

    async def made() -> bool:
        return bool(select(site, "SELECT 1 FROM schema_migrations"))

    await eventually(made)


def execute(site: Site, *statements: str) -> None:
    """Change the database's schema, as its administrator would."""
    with closing(sqlite3.connect(site.database, timeout=30)) as other, other:
        for statement in statements:
            other.execute(statement)


async def test_refused_rows_are_told_apart(site: Site, producer: AIOKafkaProducer, reader: Reader) -> None:
    """What is in dead-letter is not lost: it is told with its letter, left to redrive, and there afterwards."""
    await limit(site, "sensor-0", 60)
    await asyncio.gather(site.worker(), site.sink())
    await until_schema(site)
    execute(
        site,
        *(
            f"CREATE TRIGGER refuse_{table} BEFORE INSERT ON {table} WHEN {when}"
            " BEGIN SELECT RAISE(ABORT, 'this row is not wanted'); END"
            for table, when in _TRIGGERS.items()
        ),
    )
    items = [{"sensor_uuid": "sensor-3", "value": value} for value in (1, 666, 2)]
    body = json.dumps({"device_uuid": "device-3", "readings": items, "ts": time() - 3_700}).encode()
    place = await (await send(producer, f"{site.prefix}readings", "device-3", body))
    await feed(site, producer, seconds=60)
    await until_written(site, reader)
    run(site, "DELETE FROM sensor_readings WHERE id = (SELECT max(id) FROM sensor_readings)")
    code, found, text = await replay(site, "--verify")
    assert code == 1, text
    tables = ("readings", "windows", "predictions", "events", "notifications")
    assert set(kinds(found)) == {("readings", "missing"), *((table, "refused") for table in tables)}, text
    assert kinds(found)["readings", "refused"] == kinds(found)["readings", "missing"] == 1
    (refused,) = [line for line in found if (line["table"], line["kind"]) == ("readings", "refused")]
    assert refused["row"]["value"] == 666
    lineage = refused["lineage"]
    assert (lineage["partition"], lineage["first_offset"]) == (place.partition, place.offset)
    assert re.fullmatch(r"\d+:\d+", lineage["letter"])
    assert "readings: 1 refused by the database, in dead-letter" in text
    before = rows(site)
    code, found, text = await replay(site, "--apply", "--yes")
    assert code == 0, text
    assert not re.search(r"refused by the database$", text, re.MULTILINE)  # it has not tried
    after = rows(site)
    assert len(after.pop("sensor_readings")) == len(before.pop("sensor_readings")) + 1
    assert after == before
    execute(site, *(f"DROP TRIGGER refuse_{table}" for table in _TRIGGERS))
    again = await site.start("dlq", "-m", "streamproc", "dlq", "redrive", "--stage", "sink", "--yes")
    assert await again.ended() == 0
    await until_written(site, reader)
    code, found, text = await replay(site)
    assert (code, found) == (0, []), text


async def test_a_row_deleted_beside_a_refused_one_is_missing(
    site: Site, producer: AIOKafkaProducer, reader: Reader
) -> None:
    """A letter is about one reading of its record: where two are missing, none passes for refused."""
    await asyncio.gather(site.worker(), site.sink())
    await until_schema(site)
    execute(
        site,
        "CREATE TRIGGER refuse BEFORE INSERT ON sensor_readings WHEN NEW.value = 666"
        " BEGIN SELECT RAISE(ABORT, 'this row is not wanted'); END",
    )
    items = [{"sensor_uuid": "a", "value": value} for value in (1, 666, 2)]
    body = json.dumps({"device_uuid": "device-3", "readings": items, "ts": time() - 3_700}).encode()
    await (await send(producer, f"{site.prefix}readings", "device-3", body))
    await until_written(site, reader)
    assert (await replay(site))[0] == 0
    run(site, "DELETE FROM sensor_readings WHERE value = 2")
    code, found, text = await replay(site)
    assert (code, kinds(found)) == (1, {("readings", "missing"): 2}), text
    code, _, text = await replay(site, "--apply", "--yes")
    assert code == 1, text
    assert "readings: 1 refused by the database" in text
    assert select(site, "SELECT value FROM sensor_readings") == [(1.0,), (2.0,)]


async def test_another_lateness_shows_what_would_differ(
    site: Site, producer: AIOKafkaProducer, reader: Reader
) -> None:
    """Readings that were late count in their windows; applied, the windows hold them, and the second time nothing changes."""
    await asyncio.gather(site.worker(), site.sink())
    await feed(site, producer, seconds=60)
    await until_written(site, reader)
    until, before = now(), rows(site)
    patient = {"STREAMPROC_ALLOWED_LATENESS_MS": "10000"}
    code, found, text = await replay(site, "--to", until, **patient)
    assert code == 1, text
    assert kinds(found)["windows", "different"] > 0
    assert not {line["table"] for line in found} - {"windows", "predictions", "events", "notifications"}
    counted = [line["columns"]["count"] for line in found if "count" in line["columns"]]
    assert counted
    assert all(stored < given for stored, given in counted)  # late readings come in, none goes
    assert rows(site) == before
    code, _, text = await replay(site, "--to", until, "--apply", "--yes", **patient)
    assert code == 0, text
    changed = rows(site)
    assert changed["sensor_readings"] == before["sensor_readings"]  # late ones were stored already
    assert changed["sensor_windows"] != before["sensor_windows"]
    code, found, text = await replay(site, "--to", until, "--apply", "--yes", **patient)
    assert (code, found) == (0, []), text
    assert rows(site) == changed
    assert (await replay(site, "--to", until))[0] == 1  # the worker's own lateness tells otherwise


async def test_another_skew_shows_what_would_differ(
    site: Site, producer: AIOKafkaProducer, reader: Reader
) -> None:
    """A reading that would have been too early is extra, and stays; one that was is missing, and is written once."""
    await asyncio.gather(site.worker(), site.sink())
    # What was sent a little late is a little less ahead: there is room on both sides.
    for device, ahead_s in (("device-1", 50), ("device-2", 250)):
        value = packet(device, f"{device}-sensor", 1.5, time() + ahead_s)
        await (await send(producer, f"{site.prefix}readings", device, value))
    await feed(site, producer, seconds=20)
    await until_written(site, reader, frozenset({"device-2-sensor"}))
    execute(site, "INSERT INTO sensors (uuid) VALUES ('device-2-sensor')")
    until = now()
    code, found, text = await replay(site, "--to", until, STREAMPROC_ALLOWED_SKEW_MS="1000")
    assert code == 1, text
    readings = [line for line in found if line["table"] == "readings"]
    assert [(line["kind"], line["sensor"]) for line in readings] == [("extra", "device-1-sensor")]
    for times in (1, 2):
        code, found, text = await replay(
            site, "--to", until, "--apply", "--yes", STREAMPROC_ALLOWED_SKEW_MS="400000"
        )
        readings = [line for line in found if line["table"] == "readings"]
        assert code == 0, text
        assert [(line["kind"], line["sensor"]) for line in readings] == [("missing", "device-2-sensor")][
            times - 1 :
        ]
        if times == 1:
            changed = rows(site)
    assert rows(site) == changed


async def test_a_silence_after_the_range_is_not_extra(site: Site, producer: AIOKafkaProducer) -> None:
    """Though its sensor's clock is ahead, and readings of the range have later times: to take it back would end an alarm."""
    await asyncio.gather(site.worker(), site.sink())
    rule = NoData(3.0, severity=Severity.CRITICAL)
    await put(site, producer, SensorEntry("tank", "d", rules=(rule,)))
    value = packet("d", "tank", 20.0, time() + 50)
    last = await (await send(producer, f"{site.prefix}readings", "d", value))
    until = datetime.fromtimestamp((last.timestamp + 1) / 1000, UTC).isoformat()

    async def told() -> bool:
        return ("silence",) in select(site, "SELECT event_code FROM ml_events")

    await eventually(told)
    await until_checkpointed(site)
    for arguments in (("--to", until), ()):
        code, found, text = await replay(site, *arguments)
        assert (code, found) == (0, []), text


async def test_on_a_terminal_it_shows_a_bar_and_asks(site: Site) -> None:
    """A bar with rate and time left; after `n` nothing is written, after `y` what was shown."""
    await fill(site, 200_000)
    (last,) = select(site, "SELECT max(id) FROM sensor_readings")
    run(site, f"DELETE FROM sensor_readings WHERE id = {last[0]}")  # noqa: S608  # a number
    before = rows(site)
    environment = site.environment(STREAMPROC_DATA_DIR=str(site.directory / "data"))
    words = ("-m", "streamproc", "replay", "--from", LONG_AGO, "--apply")
    async with on_terminal(environment, *words) as terminal:
        await terminal.until_shown("Write this to the database?")
        assert re.search(r"comparing, partition \d", terminal.text)
        assert re.search(r"[1-9][\d,]* records/s +\d:\d\d:\d\d", terminal.text), terminal.text
        assert "readings           200,000           1           0           0" in terminal.text
        terminal.type("n")
        assert await terminal.ended() == 1
        assert "nothing was written" in terminal.text
    assert rows(site) == before
    async with on_terminal(environment, *words) as terminal:
        await terminal.until_shown("Write this to the database?")
        assert rows(site) == before
        terminal.type("y")
        await terminal.until_shown("readings: 1 written")
        assert await terminal.ended() == 0
        assert re.search(r"applying, partition \d", terminal.text)
    assert len(rows(site)["sensor_readings"]) == 200_000


async def test_a_cold_start_is_told(
    site: Site, producer: AIOKafkaProducer, reader: Reader, bootstrap: Connection
) -> None:
    """Where the topic's beginning has gone and no snapshot was taken, it says where the learners start; readings compare."""
    await asyncio.gather(site.worker(STREAMPROC_SNAPSHOT_INTERVAL_SECONDS="0"), site.sink())
    await feed(site, producer, seconds=60)
    await until_written(site, reader)
    code, _, text = await replay(site)
    assert code == 0, text
    assert "knowing nothing" not in text
    ends = {
        number: records[-1].offset + 1
        for number, records in (await reader.read("readings")).items()
        if records
    }
    await cut(bootstrap, f"{site.prefix}readings", {number: end // 2 for number, end in ends.items()})
    code, found, text = await replay(site)
    for number, end in ends.items():
        start = f"partition {number}: Kafka has nothing before offset {end // 2}, so the learners start there"
        assert start in text
        assert f"partition {number}: the range reaches back before offset {end // 2}, the first kept" in text
    assert "knowing nothing: results may differ" in text
    assert not [line for line in found if line["table"] == "readings"], text
    assert code in {0, 1}


async def cut(bootstrap: Connection, topic: str, begins: dict[int, int]) -> None:
    """Have Kafka delete what is before these offsets, as its retention does."""
    admin = clients.admin(bootstrap)
    await admin.start()
    try:
        wanted = {TopicPartition(topic, number): RecordsToDelete(begin) for number, begin in begins.items()}
        await admin.delete_records(wanted)
    finally:
        await admin.close()


async def test_what_cannot_be_compared_yet_is_no_success(
    site: Site, producer: AIOKafkaProducer, reader: Reader
) -> None:
    """While the sink or the worker stands still, each partition is told and the exit code is 1; both running, it is 0."""
    worker, sink = await asyncio.gather(site.worker(), site.sink())
    await feed(site, producer, seconds=20)
    await until_written(site, reader)
    assert (await sink.terminate())[0] == 0
    since = now()
    await feed(site, producer, seconds=20, seed=2)
    await eventually(lambda: _processed(site))
    code, found, text = await replay(site, "--from", since)
    assert (code, found) == (1, []), text
    partitions = {number for number, records in (await reader.read("readings")).items() if records}
    told = {int(number) for number in re.findall(r"partition (\d): NOTHING is compared", text)}
    assert told
    assert told <= partitions
    assert text.count("does `streamproc sink` run?") == len(told)
    assert f"NOT COMPARED: {len(told)} of {len(told)} partitions of the range" in text
    sink = await site.sink()
    await until_written(site, reader)
    assert (await replay(site, "--from", since))[0] == 0
    assert (await worker.terminate())[0] == 0
    since = now()
    await feed(site, producer, seconds=20, seed=3)
    await until_written(site, reader, working=False)
    code, found, text = await replay(site, "--from", since)
    assert (code, found) == (1, []), text
    assert "does `streamproc worker` run?" in text
    assert "NOT COMPARED" in text


async def _processed(site: Site) -> bool:
    """Whether the worker has committed all that the topic has."""
    topic, group = f"{site.prefix}readings", f"{site.prefix}streamproc-worker"
    told = await committed(site.bootstrap, group, topic)
    async with reading(site.bootstrap, site.prefix, "readings") as reader:
        ends = {
            n: records[-1].offset + 1 for n, records in (await reader.read("readings")).items() if records
        }
    return all(told.get(number, (0, ""))[0] >= end for number, end in ends.items())
