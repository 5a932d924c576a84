"""`streamproc replay` as its users run it, beside a database that a real worker and a real sink have filled."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from streamproc.bench.engine import EPOCH_S, Load
from streamproc.bench.engine import fill as produce
from streamproc.core.routing import home
from streamproc.core.windows import SIZES_MS
from streamproc.kafka import clients
from streamproc.records import WindowRows
from streamproc.settings.connection import Connection
from tests.live.feed import send, signal
from tests.live.oracle import PARTITIONS, Reader, committed, reading
from tests.live.pipeline import offsets, select
from tests.live.processes import Site, Stage, eventually
from tests.live.tampering import DIFFERENCES, content, copied_reading, run, tamper, unnumbered
from tests.live.test_sink import ALL_PARTITIONS, TOPICS, ends
from tests.live.worked import until_checkpointed
from tests.store.databases import Database

#: Each starts several replays, a second each, and waits for windows to close; others' work can make that minutes.
pytestmark = pytest.mark.timeout(600)
LONG_AGO = "2020-01-01"


@pytest.fixture
def site_of_each(held: Database, site: Site) -> Site:
    """Processes over a database of each kind, which end before it is dropped."""
    site.held = held
    return site


@pytest.fixture
async def reader(site: Site) -> AsyncIterator[Reader]:
    """Reads the sink's topics."""
    async with reading(site.bootstrap, site.prefix, *TOPICS) as reader:
        yield reader


async def feed(
    site: Site, producer: AIOKafkaProducer, seconds: int = 90, devices: int = 6, seed: int = 1
) -> None:
    """Send the made signal."""
    for batch in signal(devices, seconds, seed):
        sent = [await send(producer, f"{site.prefix}readings", device, value) for device, value in batch]
        await asyncio.gather(*sent)


async def until_written(
    site: Site, reader: Reader, rejected: frozenset[str] = frozenset(), *, working: bool = True
) -> None:
    """Wait until the sink has written all that is on its topics, and the worker, if it runs, has nothing more to say.

    It has more before the longest window of each sensor's last reading is closed: ticks may be long in coming. Sensors of
    which all was `rejected` have no windows. A replay compares what the worker has committed, which comes after what it says.
    """
    if working:
        await eventually(lambda: _closed(reader, rejected))
        await until_checkpointed(site)
    last: list[dict[tuple[str, int], int]] = [{}]

    async def caught_up() -> bool:
        reached = {(t.removeprefix(site.prefix), p): offset for t, p, offset in offsets(site)}
        before, last[0] = last[0], await ends(reader)
        if reached != last[0] or before != last[0]:
            await _next_look()
            return False
        return True

    await eventually(caught_up, 180)


async def _closed(reader: Reader, rejected: frozenset[str]) -> bool:
    last: dict[str, int] = {}
    for record in (record for held in (await reader.read("readings")).values() for record in held):
        if not record.headers:  # no tick
            told = json.loads(record.value)
            for item in told["readings"]:
                ts = round(told["ts"] * 1000)
                last[item["sensor_uuid"]] = max(ts, last.get(item["sensor_uuid"], ts))
    return await _are_closed(reader, {sensor: ts for sensor, ts in last.items() if sensor not in rejected})


async def _are_closed(reader: Reader, last: Mapping[str, int]) -> bool:
    """Whether the longest window of each sensor's last reading, in ms, is closed."""
    longest = SIZES_MS[-1]
    closed = {
        (sensor, start)
        for value in await reader.values("windows")
        if (rows := msgspec.json.decode(value, type=WindowRows)).size_ms == longest
        for sensor, start in zip(rows.sensor, rows.start, strict=True)
    }
    return all((sensor, ts // longest * longest) in closed for sensor, ts in last.items())


async def _next_look() -> None:
    pause = asyncio.Event()
    asyncio.get_running_loop().call_later(1.0, pause.set)  # five ticks
    await pause.wait()


async def replay(site: Site, *arguments: str, **variables: str) -> tuple[int, list[dict[str, Any]], str]:
    """Run a replay to its end: its exit code, the differences, and what it printed."""
    output = site.directory / "differences.jsonl"
    output.unlink(missing_ok=True)
    words = (
        "-m",
        "streamproc",
        "replay",
        "--from",
        LONG_AGO,
        "--output",
        str(output),
        *arguments,
    )  # the last one counts
    variables = {"STREAMPROC_DATA_DIR": str(site.directory / "data")} | variables
    stage = await site.start("replay", *words, **variables)
    code = await stage.ended()
    lines = output.read_text().splitlines() if output.exists() else []
    return code, [json.loads(line) for line in lines], stage.log.read_text()


def kinds(found: list[dict[str, Any]]) -> Counter[tuple[str, str]]:
    """How many differences there are of each kind, by table."""
    return Counter((line["table"], line["kind"]) for line in found)


async def limit(site: Site, sensor: str, high: float) -> None:
    """Have a sensor be critical above a value."""
    file = site.directory / "sensors.json"
    file.write_text(json.dumps([{"sensor": sensor, "critical": {"high": high}}]))
    stage = await site.start("registry", "-m", "streamproc", "registry", "import", str(file))
    assert await stage.ended() == 0


async def fill(site: Site, readings: int) -> None:
    """Put readings of one sensor on the topic, and have worker and sink write what comes of them."""
    load = Load(readings, 1, 100)
    await produce(site.bootstrap, f"{site.prefix}readings", PARTITIONS, load)
    await asyncio.gather(site.worker(), site.sink())

    async def worked() -> bool:
        done = await committed(site.bootstrap, f"{site.prefix}streamproc-worker", f"{site.prefix}readings")
        return sum(offset for offset, _ in done.values()) >= readings

    await eventually(worked)
    last = {"s0": round(1_000 * (EPOCH_S + (readings - 1) / load.rate))}
    async with reading(site.bootstrap, site.prefix, *TOPICS) as reader:
        await eventually(lambda: _are_closed(reader, last))  # what closes later is written later
        await until_written(site, reader, working=False)


async def test_a_replay_finds_what_was_tampered_with_and_mends_it(
    site_of_each: Site, producer: AIOKafkaProducer, reader: Reader
) -> None:
    """Nothing differs at first; what is deleted, changed or added is found with its lineage, and mended once."""
    site = site_of_each
    await asyncio.gather(site.worker(), site.sink())
    await feed(site, producer)
    await until_written(site, reader)
    code, found, text = await replay(site)
    assert (code, found) == (0, []), text
    before = content(site)
    assert len(before["ml_events"]) > 1
    place = tamper(site)
    code, found, text = await replay(site, "--verify")
    assert code == 1, text
    assert kinds(found) == DIFFERENCES
    by = {(line["table"], line["kind"]): line for line in found}
    lost = by["readings", "missing"]["lineage"]
    assert (lost["partition"], lost["first_offset"]) == place
    stored, given = by["readings", "different"]["columns"]["value"]
    assert stored == given + 1
    assert by["predictions", "different"]["columns"]["anomaly_score"][0] == 0.123
    assert by["predictions", "missing"]["lineage"]["first_offset"] >= 0
    assert by["events", "different"]["columns"]["message"][0] == "all is well"
    assert by["events", "missing"]["lineage"]["rule"]
    assert content(site)["stream_offsets"] == before["stream_offsets"]
    code, _, text = await replay(site, "--apply", "--yes")
    assert code == 0, text
    mended = content(site)
    assert select(site, "SELECT status FROM ml_events WHERE event_id = 'added'") == [("superseded",)]
    run(site, "DELETE FROM ml_events WHERE event_id = 'added'")
    for table, rows in before.items():
        assert unnumbered(content(site)[table]) == unnumbered(rows), table
    run(site, copied_reading(site))  # what was accepted is never taken back, not even this
    kept = content(site)
    code, found, _ = await replay(site, "--apply", "--yes")
    assert (code, kinds(found)) == (1, {("readings", "extra"): 1})
    assert content(site) == kept
    assert mended["stream_offsets"] == before["stream_offsets"]


async def test_a_killed_replay_goes_on_where_it_was(site: Site) -> None:
    """By kill -9 amid a partition, while it waits for the database: the same command mends the rest, and counts all."""
    await fill(site, 90_000)
    (last,) = select(site, "SELECT max(id), kafka_partition FROM sensor_readings")
    run(site, f"DELETE FROM sensor_readings WHERE id = {last[0]}")  # noqa: S608  # a number
    variables = {
        "STREAMPROC_DATA_DIR": str(site.directory / "data"),
        "STREAMPROC_CHECKPOINT_INTERVAL_SECONDS": "0.001",  # after each chunk
        "STREAMPROC_LOG_LEVEL": "debug",
    }
    words = ("-m", "streamproc", "replay", "--from", LONG_AGO, "--apply", "--yes")
    with closing(sqlite3.connect(site.database, timeout=30, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        first = await site.start("replay", *words, **variables)
        await first.until_told("database away, trying again")
        first.kill()
        assert await first.ended() == -9
        other.execute("ROLLBACK")
    saved = first.told("replay saved")
    assert saved[-1]["partition"] == last[1]
    assert 0 < saved[-1]["next_offset"] < 90_000
    second = await site.start("replay", *words, **variables)
    assert await second.ended() == 0, second.log.read_text()
    text = second.log.read_text()
    assert "going on where it was interrupted" in text
    assert second.told("replay saved")[0]["next_offset"] > saved[-1]["next_offset"]
    assert "readings            90,000           1           0           0" in text
    assert select(site, "SELECT count(*) FROM sensor_readings") == [(90_000,)]
    assert list((site.directory / "data" / "replay").iterdir()) == []


async def test_ctrl_c_ends_a_replay_that_can_be_gone_on_with(site: Site) -> None:
    """It saves, says how to go on, and leaves with 130."""
    await fill(site, 60_000)
    (last,) = select(site, "SELECT max(id) FROM sensor_readings")
    run(site, f"DELETE FROM sensor_readings WHERE id = {last[0]}")  # noqa: S608  # a number
    with closing(sqlite3.connect(site.database, timeout=30, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        words = ("-m", "streamproc", "replay", "--from", LONG_AGO, "--apply", "--yes")
        stage = await site.start("replay", *words, STREAMPROC_DATA_DIR=str(site.directory / "data"))
        await stage.until_told("database away, trying again")
        stage.interrupt()
        assert await stage.ended() == 130
        other.execute("ROLLBACK")
    assert "the same command goes on from" in stage.log.read_text()
    code, _, text = await replay(site, "--apply", "--yes")
    assert code == 0, text
    assert "going on where it was interrupted" in text


async def test_other_ranges_show_what_would_differ(
    site_of_each: Site, producer: AIOKafkaProducer, reader: Reader
) -> None:
    """Judged by ranges that a file gives, other events come out; nothing is written."""
    site = site_of_each
    await asyncio.gather(site.worker(), site.sink())
    await feed(site, producer, seconds=60)
    await until_written(site, reader)
    ranges = site.directory / "ranges.json"
    ranges.write_text(json.dumps([{"sensor": "sensor-0", "critical": {"high": 60}}]))
    before = content(site)
    code, found, text = await replay(site, "--registry", str(ranges))
    assert code == 1, text
    assert {line["table"] for line in found} == {"events", "notifications"}
    assert {line["sensor"] for line in found} == {"sensor-0"}
    missing = [line for line in found if line["kind"] == "missing" and line["table"] == "events"]
    assert missing[0]["row"]["cause"] == "critical_range"
    assert "60" in missing[0]["lineage"]["rule"]
    code, found, _ = await replay(site, "--registry", str(ranges), "--sensors", "sensor-1,sensor-2")
    assert (code, found) == (0, [])
    assert content(site) == before


async def test_a_replay_begins_at_a_snapshot(site: Site, producer: AIOKafkaProducer, reader: Reader) -> None:
    """A later range is warmed up from the newest state before it, and gives the same events, sequence numbers included."""
    await limit(site, "sensor-0", 60)
    worker, _ = await asyncio.gather(site.worker(STREAMPROC_SNAPSHOT_INTERVAL_SECONDS="1"), site.sink())
    await feed(site, producer, seconds=100)
    await until_written(site, reader)
    homes = {home(f"device-{number}", PARTITIONS) for number in range(6)}
    await eventually(lambda: _snapshots(worker, homes))
    since = datetime.now(UTC).isoformat()
    await feed(site, producer, seconds=200)
    await until_written(site, reader)
    code, found, text = await replay(site, "--from", since, STREAMPROC_LOG_LEVEL="debug")
    assert (code, found) == (0, []), text
    begins = [json.loads(line) for line in text.splitlines() if '"replay begins"' in line]
    assert begins
    assert all(0 < line["next_offset"] <= line["begin"] for line in begins)
    assert "knowing nothing" not in text
    assert int(re.search(r"events +([0-9]+) ", text)[1]) > 0  # type: ignore[index]  # fails where there is none


async def _snapshots(worker: Stage, partitions: set[int]) -> bool:
    return {line["partition"] for line in worker.told("snapshot")} >= partitions


async def test_a_replay_disturbs_nobody(
    site_of_each: Site, producer: AIOKafkaProducer, reader: Reader, bootstrap: Connection
) -> None:
    """While readings flow, a replay compares what is written by now, and takes nobody's place; at the end all is there."""
    site = site_of_each
    stages = dict(
        zip(await asyncio.gather(site.worker(), site.sink()), (PARTITIONS, ALL_PARTITIONS), strict=True)
    )
    for stage, partitions in stages.items():
        await stage.until_assigned(partitions)
    before = [len(stage.told("partitions")) for stage in stages]
    await feed(site, producer, seconds=20, devices=12)
    await until_written(site, reader)  # something of each partition can be compared
    feeding = asyncio.create_task(feed(site, producer, seconds=120, devices=12, seed=2))
    codes = [(await replay(site, *words))[::2] for words in ((), ("--apply", "--yes"))]
    assert [code for code, _ in codes] == [0, 0], codes
    await feeding
    await until_written(site, reader)
    code, found, text = await replay(site)
    assert (code, found) == (0, []), text
    for (stage, partitions), count in zip(stages.items(), before, strict=True):
        assert {len(line["assigned"]) for line in stage.told("partitions")[count:]} <= {partitions}
        assert (await stage.terminate())[0] == 0
    groups = {name async for name in _groups(bootstrap, site.prefix)}
    assert groups == {f"{site.prefix}streamproc-worker", f"{site.prefix}streamproc-sink"}


async def _groups(bootstrap: Connection, prefix: str) -> AsyncIterator[str]:
    admin = clients.admin(bootstrap)
    await admin.start()
    try:
        for name, *_ in await admin.list_consumer_groups():
            if name.startswith(prefix):
                yield name
    finally:
        await admin.close()
