"""What is answered for each item of a body, and how a retry is known."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import numpy as np
import pytest
from multidict import CIMultiDict

from streamproc.core.chunk import Chunk
from streamproc.core.codec import decode
from streamproc.gateway.access import Refuses, RefusesDevice, Writer
from streamproc.gateway.answers import Fault, ProblemDetails, Taken
from streamproc.gateway.batch import FAULTS_TOLD
from streamproc.gateway.intake import Batch, Limits, Message, Terms, bulk, packets
from tests.shell.served import (
    ANYONE,
    BULK,
    CALLERS,
    PACKETS,
    READINGS,
    Client,
    MemoryPublisher,
    metrics,
    packet,
    problem,
    serving,
)
from tests.slowness import in_time

LIMITS = Limits(10_000, 60_000)


def rows(message: Message) -> list[dict[str, Any]]:
    """Return the readings of a record."""
    readings: list[dict[str, Any]] = msgspec.json.decode(message.value)["readings"]
    return readings


@pytest.mark.parametrize(
    ("bad", "field", "kind", "reason"),
    [
        ('"value": "warm"', "value", "invalid", "Expected `float`, got `str`"),
        ('"value": 1, "ts": 1700000000000', "ts", "invalid", "seconds since 1970, not milliseconds"),
        ('"value": NaN', "value", "invalid", "NaN is not a number"),
        ('"value": -Infinity', "value", "invalid", "-Infinity is not a number"),
        ('"value": 1, "ts": nan', "ts", "invalid", "nan is not a number"),
        ('"value": [1]', "value", "invalid", "got `array`"),
        ('"value": 1, "unit": "C"', "unit", "invalid", "unknown field"),
        ('"value": 1, "ts": 4000000000', "ts", "ts-ahead", "ahead of now"),
        ('"value": 1, "ts": "yesterday"', "ts", "invalid", "yesterday"),
    ],
)
async def test_a_wrong_reading_costs_only_itself(
    client: Client, publisher: MemoryPublisher, bad: str, field: str, kind: str, reason: str
) -> None:
    """The packet's other readings go on as one record; the answer is 207 and names reading, field and reason."""
    row = '{"sensor_uuid": "%s", %s}'
    items = (("a, NaN]", '"value": 1'), ("b", bad), ("c", '"value": 3'))
    body = packed(*[(row % item).encode() for item in items])
    response = await client.post(PACKETS, data=body)
    assert response.status == 207
    answer = msgspec.json.decode(await response.read(), type=Taken, strict=True)
    assert (answer.accepted, answer.rejected, answer.partition, answer.offset) == (2, 1, 1, 0)
    [result] = answer.results
    assert (result.status, result.accepted, result.offset) == ("partial", 2, 0)
    [fault] = result.rejected
    assert (fault.index, fault.field, fault.kind) == (1, f"readings[1].{field}", kind)
    assert reason in fault.reason
    [(message, _)] = publisher.sent
    assert [row["sensor_uuid"] for row in rows(message)] == ["a, NaN]", "c"]
    assert "streamproc_gateway_readings_accepted_total 2.0" in await metrics(client)


async def test_each_packet_has_its_result(client: Client, publisher: MemoryPublisher) -> None:
    """Of several packets, what is right is taken, whole or in part, and the rest is told."""
    items = [
        packet(1),
        b"{}",
        packet("x"),
        b"7",
        packet(1, "x", 3),
        packet(2, ts=4_000_000_000),
        packet(*range(21)),
    ]
    for body in (b"[" + b",".join(items) + b"]", b"\n".join(items)):
        response = await client.post(
            PACKETS, data=body, headers={"Content-Type": "application/x-ndjson"} if b"\n" in body else {}
        )
        assert response.status == 207
        answer = await response.json()
        assert [each["status"] for each in answer["results"]] == [
            "accepted", "rejected", "rejected", "rejected", "partial", "rejected", "rejected",
        ]  # fmt: skip
        assert (answer["accepted"], answer["rejected"]) == (3, 1 + 1 + 1 + 1 + 1 + 21)
        kinds = [[fault["kind"] for fault in each.get("rejected", [])] for each in answer["results"]]
        assert kinds == [
            [],
            ["invalid"],
            ["invalid"],
            ["invalid"],
            ["invalid"],
            ["ts-ahead"],
            ["too-many-readings"],
        ]
        assert [len(rows(message)) for message, _ in publisher.sent[-2:]] == [1, 2]


async def test_a_bulk_has_a_result_for_each_reading(client: Client, publisher: MemoryPublisher) -> None:
    """Readings by themselves are taken and told one by one."""
    body = b'{"readings": [{"sensor_id": 1, "value": 1}, {"value": 1}, {"sensor_id": 2, "value": NaN}]}'
    response = await client.post(BULK, data=body)
    assert response.status == 207
    answer = await response.json()
    assert (answer["accepted"], answer["rejected"], answer["offset"]) == (1, 2, 0)
    faults = [(each["index"], each["rejected"][0]["field"]) for each in answer["results"][1:]]
    assert faults == [(1, "sensor_uuid"), (2, "value")]
    assert len(publisher.sent) == 1


async def test_nothing_taken_is_a_problem_with_the_results(
    client: Client, publisher: MemoryPublisher
) -> None:
    """Where no item is taken, the problem has the same results, and each error by a JSON pointer."""
    body = b"[%s, %s]" % (packet("x", "y"), packet(1, ts=-1))
    answer = await problem(await client.post(PACKETS, data=body), 422, "invalid")
    told = msgspec.convert(answer, ProblemDetails, strict=True)
    assert (told.accepted, told.rejected, told.field) == (0, 3, "[0].readings[0].value")
    assert told.errors is not None
    assert [error.pointer for error in told.errors] == [
        "#/0/readings/0/value",
        "#/0/readings/1/value",
        "#/1/ts",
    ]
    assert told.results is not None
    assert [result.status for result in told.results] == ["rejected", "rejected"]
    assert not publisher.sent


class Refusing:
    """Lets everybody in, and refuses as it is told."""

    callers = CALLERS

    def __init__(self, refuses: Refuses | None = None, refuses_device: RefusesDevice | None = None) -> None:
        self.writer = Writer(refuses, refuses_device)

    def admit(self, _request: object) -> Writer:
        """Give the writer."""
        return self.writer


@pytest.mark.parametrize(
    ("first", "second", "status", "kind"),
    [
        ("malformed", "malformed", 400, "malformed"),
        ("ts-ahead", "ts-ahead", 422, "ts-ahead"),
        ("ts-ahead", "too-large", 422, "invalid"),
        ("invalid", "busy", 503, "busy"),
    ],
)
async def test_the_problem_s_kind(first: str, second: str, status: int, kind: str) -> None:
    """Faults that agree give their own kind; what may be mended by trying again goes first; else it is `invalid`."""
    kinds = iter((first, second))

    def refuses(_: str | None) -> Fault:
        name = next(kinds)
        return Fault(name, "no", retry_after=7 if name == "busy" else None)

    async for client in serving(MemoryPublisher(), access=Refusing(None, refuses)):
        response = await client.post(PACKETS, data=b"[%s,%s]" % (packet(1), packet(2)))
        await problem(response, status, kind)
        assert response.headers.get("Retry-After") == ("7" if kind == "busy" else None)


async def test_access_refuses_readings_one_by_one(publisher: MemoryPublisher) -> None:
    """A sensor that the writer may not write to costs only its own reading."""

    def refuses(_: str | None, sensor: str) -> Fault | None:
        return Fault("invalid", "foreign") if sensor == "s1" else None

    async for client in serving(publisher, access=Refusing(refuses)):
        response = await client.post(PACKETS, data=packet(1, 2, "x", 4))
        assert response.status == 207
        faults = (await response.json())["results"][0]["rejected"]
        assert [(fault["index"], fault["field"]) for fault in faults] == [
            (1, "readings[1].sensor_uuid"),
            (2, "readings[2].value"),
        ]
    assert [row["sensor_uuid"] for row in rows(publisher.sent[0][0])] == ["s0", "s3"]


async def test_partly_acknowledged(client: Client, publisher: MemoryPublisher) -> None:
    """Where Kafka has acknowledged some of the records, the answer is 207 and says which not; those may be sent again."""
    publisher.lost = frozenset(["b"])
    body = (
        b'[{"sensor_id": "a", "value": 1}, {"sensor_id": "b", "value": 2}, {"sensor_id": "c", "value": "x"}]'
    )
    response = await client.post(BULK, data=body)
    assert response.status == 207
    answer = await response.json()
    assert (answer["accepted"], answer["rejected"]) == (1, 2)
    assert [each["status"] for each in answer["results"]] == ["accepted", "rejected", "rejected"]
    [fault] = answer["results"][1]["rejected"]
    assert (fault["kind"], fault["retry_after"]) == ("kafka-unavailable", 1)
    assert "send it again" in fault["reason"]
    text = await metrics(client)
    assert "streamproc_gateway_unacknowledged_total 1.0" in text
    assert "streamproc_gateway_readings_accepted_total 1.0" in text


def taken(
    body: bytes, key: str | None = None, now_ms: int = 1_700_000_000_000, writer: Writer = ANYONE
) -> Batch:
    """Understand packets, as the gateway does at `now_ms`."""
    batch = packets(body, Terms(LIMITS, now_ms, writer, key))
    assert isinstance(batch, Batch)
    return batch


def identities(batch: Batch, now_ms: int, first_offset: int = 0) -> list[tuple[str, int, int]]:
    """What makes each reading the same as another, as the engine has it from a place on the topic."""
    values: list[bytes | None] = [message.value for message in batch.messages]
    offsets = np.arange(first_offset, first_offset + len(values), dtype=np.int64)
    chunk = Chunk("readings", 0, offsets, np.full(len(values), now_ms, dtype=np.int64), values)
    found = decode(chunk, 60_000)
    assert not found.rejected
    return list(zip(found.sensor, found.source.tolist(), found.dedupe_ms.tolist(), strict=True))


@pytest.mark.parametrize("body", [packet(1, 2), b"[%s,%s]" % (packet(1), packet(2, 3))])
def test_an_idempotency_key_makes_a_retry_one(body: bytes) -> None:
    """Without ts and packet_id, each reading of a retry is the same by the request's key, at any time and place."""
    first = identities(taken(body, "key", 1_700_000_000_000), 1_700_000_000_000)
    again = identities(taken(body, "key", 1_700_000_009_000), 1_700_000_009_000, 77)
    other = identities(taken(body, "other", 1_700_000_009_000), 1_700_000_009_000, 77)
    without = identities(taken(body, None, 1_700_000_009_000), 1_700_000_009_000, 77)
    assert first == again
    assert len(set(first)) == len(first)
    assert not {*first} & {*other, *without}


def test_a_bulk_is_known_again_by_the_key() -> None:
    """Readings by themselves get an identity of the key and their places."""
    body = b'[{"sensor_id": 1, "value": 1}, {"sensor_id": 1, "value": 1}]'
    found = []
    for now_ms in (1_700_000_000_000, 1_700_000_009_000):
        batch = bulk(body, Terms(LIMITS, now_ms, ANYONE, "key"))
        assert isinstance(batch, Batch)
        found.append(identities(batch, now_ms))
    assert found[0] == found[1]
    assert len(set(found[0])) == 2


def test_a_packet_s_own_id_goes_first() -> None:
    """A packet that has a packet_id keeps it."""
    assert taken(packet(1, packet_id="mine"), "key").messages == taken(packet(1, packet_id="mine")).messages


@pytest.mark.parametrize("key", [None, "key"])
@pytest.mark.parametrize(
    ("second", "wrong"),
    [
        ('"s", "value": 2, "index": 3', True),
        ('"S", "value": 1, "index": 3', True),
        ('"s", "value": 2, "index": 4', False),
        ('"s", "value": 2, "index": 3, "ts": 1600000000', False),
        ('"t", "value": 2, "index": 3', False),
    ],
)
def test_a_place_that_is_taken_is_told(key: str | None, second: str, wrong: bool) -> None:
    """What the engine would drop as sent again, though it never was before, is refused; all else has its own identity."""
    body = '{"device_uuid": "d", %s"readings": [{"sensor_uuid": "s", "value": 1, "index": 3}, {"sensor_uuid": %s}]}'
    batch = taken((body % ("" if key else '"packet_id": "p", ', second)).encode(), key)
    [result] = batch.results
    fields = [(fault.kind, fault.field, fault.index) for fault in result.rejected]
    assert fields == ([("invalid", "readings[1].index", 1)] if wrong else [])
    assert len(set(identities(batch, 1_700_000_000_000))) == batch.accepted == (1 if wrong else 2)


def test_a_place_given_and_one_by_order_may_be_the_same() -> None:
    """A reading that names no place has that in the order: who mixes both can name one that is taken."""
    rows = b'{"sensor_uuid": "s", "value": 1, "index": 1}, {"sensor_uuid": "s", "value": 2}'
    body = b'{"device_uuid": "d", "packet_id": "p", "readings": [%s]}'
    assert [fault.field for fault in taken(body % rows).results[0].rejected] == ["readings[1].index"]


@pytest.mark.parametrize("key", [None, "key"])
def test_readings_keep_their_places(key: str | None) -> None:
    """What is left out shifts nothing: the mended packet's readings are the same as those taken before."""
    more = {} if key else {"packet_id": "p"}
    first = identities(taken(packet(1, "x", 3, 4, **more), key), 1_700_000_000_000)
    mended = identities(taken(packet(1, 2, 3, 4, **more), key), 1_700_000_000_000)
    assert [each[0] for each in first] == ["s0", "s2", "s3"]
    assert set(first) < set(mended)


@pytest.mark.parametrize("key", ["k" * 121, "", '""', "ä", "a\tb"])
async def test_wrong_keys_are_refused(client: Client, publisher: MemoryPublisher, key: str) -> None:
    """A key that is no short text gets 422."""
    response = await client.post(PACKETS, data=packet(1), headers={"Idempotency-Key": key})
    assert (await problem(response, 422, "invalid"))["field"] == "Idempotency-Key"
    assert not publisher.sent


@pytest.mark.parametrize("second", ["k", "other", ""])
async def test_a_key_that_is_there_twice_is_refused(
    client: Client, publisher: MemoryPublisher, second: str
) -> None:
    """Which of both counts would be a guess, and a proxy's another one."""
    headers = CIMultiDict([("Idempotency-Key", "k"), ("Idempotency-Key", second)])
    answer = await problem(
        await client.post(PACKETS, data=packet(1), headers=headers), 400, "header-repeated"
    )
    assert answer["field"] == "Idempotency-Key"
    assert not publisher.sent


@pytest.mark.parametrize("path", [PACKETS, READINGS, BULK])
async def test_quoted_keys_are_the_same(client: Client, publisher: MemoryPublisher, path: str) -> None:
    """The draft's quotes make no difference; each way in takes a key."""
    bodies = {
        PACKETS: packet(1),
        READINGS: b'{"sensor_id":1,"value":1}',
        BULK: b'[{"sensor_id":1,"value":1}]',
    }
    for key in ("k" * 120, f'"{"k" * 120}"'):
        response = await client.post(path, data=bodies[path], headers={"Idempotency-Key": key})
        assert response.status == 202
    assert publisher.sent[0][0] == publisher.sent[1][0]
    assert b'"packet_id":"kkk' in publisher.sent[0][0].value


async def test_a_long_packet_id_is_refused(client: Client) -> None:
    """A packet_id of more than 128 characters gets 422 with its field."""
    answer = await problem(await client.post(PACKETS, data=packet(1, packet_id="p" * 129)), 422, "invalid")
    assert answer["field"] == "packet_id"


BAD, GOOD = b'{"sensor_uuid":"a","value":"x"}', b'{"sensor_uuid":"a","value":1}'


def packed(*readings: bytes) -> bytes:
    """Make a packet of readings."""
    return b'{"device_uuid":"d","readings":[%s]}' % b",".join(readings)


@pytest.mark.parametrize(
    "body",
    [
        packed(*[BAD] * 10_000),
        packed(*[GOOD] * 9_000, *[BAD] * 1_000),
        packed(*[b'{"sensor_uuid":"a","value":NaN}'] * 10_000),
        packed(*[b'{"sensor_uuid":"a","value":1,"ts":4e9}'] * 10_000),
        b"[" + b",".join([packed(*[BAD] * 1_000)] * 100) + b"]",
        b"[" + b"{}," * 1_000_000 + b"{}]",
        b"{}\n" * 1_000_000,
        b'{"device_uuid":"d","readings":[' + b'"a",' * 1_000_000 + b"NaN]}",
        b"[NaN" + b",NaN" * 1_000_000 + b"]",
        b'NaN"' + b'\\"' * 2_000_000,
        b'{"device_uuid":"d","readings":[' + b"null," * 800_000 + b"NaN]}",
        b"[" * 4_000_000,
        b'{"' + b"a" * 4_000_000 + b'":1}',
    ],
    ids=range(13),
)
def test_faults_are_no_way_to_keep_the_gateway_busy(body: bytes) -> None:
    """The worst bodies are answered in less than a second of CPU time, with no more than some hundred KB."""
    started = time.process_time()
    batch = packets(body, Terms(LIMITS, 1_700_000_000_000, ANYONE))
    assert in_time(time.process_time() - started, 1)
    told = batch.results if isinstance(batch, Batch) else [batch]
    assert len(msgspec.json.encode(told)) < 400_000
    assert len(told) <= 1_000
    if isinstance(batch, Batch):
        assert sum(len(result.rejected) for result in batch.results) <= FAULTS_TOLD + len(batch.results)


async def test_requests_go_on_while_one_waits(client: Client, publisher: MemoryPublisher) -> None:
    """Each request has its own answer; one that waits for Kafka keeps none waiting that is refused."""
    publisher.gate.clear()
    waiting = asyncio.create_task(client.post(PACKETS, data=packet(1)))
    await asyncio.wait_for(publisher.reached.wait(), 60)
    await problem(await client.post(PACKETS, data=packet("x")), 422, "invalid")
    publisher.gate.set()
    assert (await waiting).status == 202
