"""Records that are no readings, or not where they belong, through worker and sink: everything else is exactly right."""

from __future__ import annotations

import json
import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiokafka import TopicPartition
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record._crc32c import crc as crc32c
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from streamproc.core.chunk import EDIT, MOVED, TICK
from streamproc.core.routing import home
from streamproc.kafka import clients
from streamproc.kafka.broker import free_port
from streamproc.settings.connection import Connection
from tests.live.oracle import PARTITIONS, Results, committed
from tests.live.pipeline import Pipeline, device_in, hour_ago, rows, running_pipeline, select
from tests.live.processes import eventually, until_ready

DEVICES = [device_in(partition) for partition in range(PARTITIONS)]
SECONDS = 10
#: However slowly what a test sends comes, none of it is late, and no tick closes a window.
PATIENT = {"STREAMPROC_ALLOWED_LATENESS_MS": "300000"}
#: So long after the first, a reading closes all windows before: beyond the lateness and the longest window.
CLOSING = 400


def body(device: str, sensor: str, value: float, ts: float | None) -> bytes:
    """A packet of one reading, with a time of its own or without."""
    packet = {"device_uuid": device, "readings": [{"sensor_uuid": sensor, "value": value}]}
    return json.dumps(packet | ({} if ts is None else {"ts": ts})).encode()


def broken(begin: int) -> dict[str, bytes | None]:
    """What the dead letter says of each value that is no reading."""
    return {
        "malformed": b"no JSON at all",
        "truncated": body("d", "s", 1.0, begin)[:-3],
        "UTF-8": b'{"sensor_id": "\xff\xfe", "value": 1}',
        "Expected `object`": b'["a", "list"]',
        "required field": b'{"readings": [{"sensor_uuid": "s", "value": 1}]}',
        "unknown field": b'{"sensor_id": "s", "value": 1, "unit": "K"}',
        "Expected `float`": b'{"sensor_id": "s", "value": "warm"}',
        "too many to repeat": b"x" * 1_000_000,
        "is not a number": b'{"sensor_id": "s", "value": NaN}',
        "no value": None,
        "ahead of its record": body("d", "s", 1.0, begin + 7_200),
    }


async def put(
    line: Pipeline, partition: int, value: bytes | None, key: bytes | None = None, **headers: bytes | None
) -> tuple[int, int]:
    """Have a record in a partition, whoever's it is; gives its place. Header names have `_` for `-`."""
    named = [(name.replace("_", "-"), content) for name, content in headers.items()]
    if value is None:
        key = b"aiokafka sends no record of neither"
    told = await line.producer.send_and_wait(
        line.topic, value, key, partition=partition, headers=named or None
    )
    return told.partition, told.offset


async def put_good(line: Pipeline, begin: int, second: int) -> None:
    """A reading of each device in this second; keys, headers and partitions are what some producer makes of them."""
    for number, device in enumerate(DEVICES):
        value = body(device, f"good-{number}", float(second), begin + second + 0.5)
        own = home(device, PARTITIONS)
        match second % 5:
            case 0:
                await put(line, own, value, device.encode(), traceparent=b"00-4bf9", empty=None)
            case 1:
                await put(line, own, value)
            case 2:
                await put(line, own, value, b"the key of another")
            case 3:
                await put(line, (own + 1) % PARTITIONS, value, device.encode())  # another partitioner
            case 4:
                await put(line, own, value, device.encode(), streamproc_moved=None)


#: Headers as somebody may forge them: garbage, and a place that could be.
FORGED: list[bytes | None] = [
    None,
    b"",
    b"garbage",
    b"1:2",
    b"1:2:three",
    b"9" * 40,
    b"-1:-1:-1",
    b"\xff\xfe",
]


async def test_poison_costs_nothing_but_itself(bootstrap: Connection, tmp_path: Path) -> None:
    """Good readings amid all kinds of bad records: their rows and windows are all there, and each bad one is told once."""
    begin = hour_ago()
    letters: dict[tuple[int, int], str] = {}
    # What is sent on to its own partition comes there after later readings, and must not be late for that.
    async with running_pipeline(bootstrap, tmp_path, **PATIENT) as line:
        poison = list(broken(begin).items())
        for second in range(SECONDS):
            await put_good(line, begin, second)
            for reason, value in poison[second::SECONDS]:
                for partition in range(PARTITIONS):
                    letters[await put(line, partition, value)] = reason
            await put(line, second % PARTITIONS, body("d", "ticking", 1.0, begin), **{TICK: b"\xff"})
        await until_sent_on(line, 2 * len(DEVICES))  # those of the seconds 3 and 8
        for number, moved in enumerate(FORGED):
            forged = body("anywhere", f"forged-{number}", 1.0, begin + 0.5)
            await put(line, number % PARTITIONS, forged, **{MOVED: moved})
        for position in (None, b"garbage", b"-1", b"999999999"):
            for partition in range(PARTITIONS):
                await put(line, partition, body("d", "editing", 1.0, begin), **{EDIT: position})
        for number, device in enumerate(DEVICES):
            await line.send(device, (f"good-{number}", 0.0, begin + CLOSING))
        results = await line.until_settled()
        await until_letters(line, letters)
        rows = await line.rows()
        for number in range(len(DEVICES)):
            assert_whole(results, rows, f"good-{number}", begin)
        # A forged header makes a record count where it is: it is a reading like another, once.
        assert [row for row in rows if not row[0].startswith("good")] == [
            (f"forged-{number}", 1.0, begin * 1000 + 500) for number in range(len(FORGED))
        ]


async def until_sent_on(line: Pipeline, count: int) -> None:
    """Wait until the worker has sent so many records on to their own partitions; null headers are none of its."""

    async def sent_on() -> bool:
        records = [record for held in (await line.reader.read("readings")).values() for record in held]
        moved = [r for r in records if any(name == MOVED and value for name, value in r.headers)]
        return len(moved) >= count

    await eventually(sent_on)


async def until_letters(line: Pipeline, wanted: dict[tuple[int, int], str]) -> None:
    """Wait until there is a dead letter for each of these places, and for no other, with its reason."""

    async def all_told() -> bool:
        return len(await line.letters()) >= len(wanted)

    await eventually(all_told)
    letters = await line.letters()
    assert letters.keys() == wanted.keys()
    for place, reason in wanted.items():
        assert reason in letters[place].reason


def assert_whole(results: Results, rows: list[tuple[str, float, int]], sensor: str, begin: int) -> None:
    """The sensor has the rows and windows of its readings 0, 1, … 9, a second apart."""
    assert [row for row in rows if row[0] == sensor] == sorted(
        [(sensor, float(second), (begin + second) * 1000 + 500) for second in range(SECONDS)]
        + [(sensor, 0.0, (begin + CLOSING) * 1000)]
    )
    windows = {key[1:]: row[3:7] for key, row in results.windows.items() if key[0] == sensor}
    of_seconds = {(1_000, (begin + s) * 1000): (1, float(s), float(s), float(s)) for s in range(SECONDS)}
    longer = {(5_000, begin * 1000): (5, 2.0, 0.0, 4.0), (5_000, begin * 1000 + 5_000): (5, 7.0, 5.0, 9.0)}
    assert windows.items() >= (of_seconds | longer | {(10_000, begin * 1000): (10, 4.5, 0.0, 9.0)}).items()


async def test_a_record_beyond_the_limit(bootstrap: Connection, tmp_path: Path) -> None:
    """The broker refuses it to a direct producer; the gateway answers 413; what comes after is taken by both."""
    port, begin = free_port(), hour_ago()
    wide = {
        "device_uuid": "d",
        "readings": [{"sensor_uuid": f"{n:0120}", "value": 1.0} for n in range(8_000)],
        "ts": begin,
    }
    async with (
        running_pipeline(bootstrap, tmp_path) as line,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
        clients.producer(bootstrap, max_request_size=4_000_000) as direct,
    ):
        await line.site.start("gateway", GATEWAY_PORT=str(port))
        await until_ready(f"http://127.0.0.1:{port}")
        with pytest.raises(MessageSizeTooLargeError):
            await direct.send_and_wait(line.topic, b" " * 3_000_000, partition=0)

        async def posted(packet: dict[str, Any]) -> int:
            body = BytesIO(json.dumps(packet).encode())
            async with session.post("/ingest/packets", data=body) as response:
                return response.status

        assert await posted(wide) == 413
        small = wide | {"readings": [{"sensor_uuid": "small", "value": 1.0}]}
        assert await posted(small) == 202
        await line.send("d", ("small", 2.0, begin + 1.0))
        assert await line.rows() == [("small", 1.0, begin * 1000), ("small", 2.0, begin * 1000 + 1000)]
        await line.until_settled()
        assert await line.letters() == {}


def snappy(records: bytes) -> bytes:
    """The bytes as xerial's snappy frames them, which Java's clients send: one block, one literal, nothing saved."""
    length, size = len(records), b""
    while length > 127:
        size, length = size + bytes([length & 127 | 128]), length >> 7
    block = size + bytes([length, 61 << 2]) + struct.pack("<H", len(records) - 1) + records
    return b"\x82SNAPPY\x00" + struct.pack(">iii", 1, 1, len(block)) + block


def compressed(value: bytes) -> bytes:
    """A batch of one record, compressed with snappy (attribute 2)."""
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, 0, 1_000_000)
    builder.append(0, 1, None, value, [])
    plain = bytes(builder.build())
    begin = 61  # of the records, behind the header
    body = struct.pack(">h", 2) + plain[23:begin] + snappy(plain[begin:])
    head = plain[:8] + struct.pack(">i", 9 + len(body)) + plain[12:17]
    return head + struct.pack(">I", crc32c(body)) + body


async def put_batch(line: Pipeline, partition: int, batch: bytes) -> None:
    """Have a batch on the topic just as it is."""
    client = line.producer.client
    request = ProduceRequest(
        transactional_id=None,
        required_acks=-1,
        timeout=10_000,
        topics=[(line.topic, [(partition, batch)])],
    )
    leader = client.cluster.leader_for_partition(TopicPartition(line.topic, partition))
    response = await client.send(leader, request)
    assert response.topics[0][1][0][1] == 0  # the error code


async def test_compressed_records(bootstrap: Connection, tmp_path: Path) -> None:
    """Producers compress as they like: the broker has what is on the topic in a form that every reader knows."""
    begin = hour_ago()
    async with running_pipeline(bootstrap, tmp_path) as line:
        device = DEVICES[0]
        await line.send(device, ("packed", 0.0, begin - 1.0))
        batch = compressed(body(device, "packed", 1.0, begin))
        await put_batch(line, home(device, PARTITIONS), batch)
        assert await line.rows() == [("packed", 0.0, begin * 1000 - 1000), ("packed", 1.0, begin * 1000)]


def misnamed(values: list[bytes], wrong: set[int]) -> bytes:
    """A batch of these values, in which some have a header whose name is not UTF-8."""
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, 0, 1_000_000)
    for number, value in enumerate(values):
        builder.append(number, 1, None, value, [("\x7fname", b"of C")] if number in wrong else [])
    batch = bytes(builder.build()).replace(b"\x7fname", b"\xffname")
    return batch[:17] + struct.pack(">I", crc32c(batch[21:])) + batch[21:]


async def test_header_names_that_are_no_text(bootstrap: Connection, tmp_path: Path) -> None:
    """The records count like others, first, amid and last in their batches, and so does what is around them.

    A compressed batch comes with names that Kafka has mended: it is unpacked there.
    """
    begin, device = hour_ago(), DEVICES[0]
    wrong: list[set[int]] = [{0, 4}, set(), {2}, {4}, {0, 1, 2, 3, 4}]
    async with running_pipeline(bootstrap, tmp_path, **PATIENT) as line:
        await line.send(device, ("named", 0.0, begin - 1.0))
        for number, which in enumerate(wrong):
            values = [body(device, "named", 1.0, begin + number + place / 5) for place in range(5)]
            await put_batch(line, home(device, PARTITIONS), misnamed(values, which))
        partition, last = await put(
            line, home(device, PARTITIONS), body(device, "named", 2.0, begin + CLOSING)
        )
        windows = "SELECT count FROM sensor_windows WHERE size_ms = 10000"

        async def stored() -> bool:
            done = await committed(line.site.bootstrap, f"{line.site.prefix}streamproc-worker", line.topic)
            if done.get(partition, (0, ""))[0] <= last:  # a replay compares what is committed
                return False
            return len(rows(line.site)) == 27 and len(select(line.site, windows)) == 2

        await eventually(stored)  # the test's own reader would end, like any of aiokafka's
        assert [ts for _, _, ts in rows(line.site)] == sorted(
            [begin * 1000 - 1000, (begin + CLOSING) * 1000]
            + [begin * 1000 + place * 200 for place in range(25)]
        )
        assert select(line.site, windows) == [(1,), (25,)]
        replay = await line.site.start("replay", "-m", "streamproc", "replay", "--from", str(begin))
        assert await replay.ended() == 0, replay.log.read_text()
        assert "27 readings" in replay.log.read_text()
        for stage in line.site.stages:
            assert len(stage.told("header name is not UTF-8")) == 4
