"""The gateway over HTTP, with a Kafka in memory: what it takes, and how it refuses."""

from __future__ import annotations

import asyncio

import pytest

from streamproc.core.codec import Packet, Single, parse
from tests.shell.served import (
    BULK,
    DEVICE,
    PACKETS,
    READINGS,
    Client,
    MemoryPublisher,
    metrics,
    packet,
    problem,
    serving,
)

NOW = 1_700_000_000


async def test_packet_is_published_before_the_answer(client: Client, publisher: MemoryPublisher) -> None:
    """202 tells the record's place; key is the device in lower case, the value the packet."""
    response = await client.post("/ingest/packets", data=packet(1, 2.5, ts=NOW, packet_id="p"))
    assert response.status == 202
    assert await response.json() == {
        "accepted": 2,
        "rejected": 0,
        "topic": "readings",
        "partition": 0,
        "offset": 0,
        "results": [{"index": 0, "status": "accepted", "accepted": 2, "partition": 0, "offset": 0}],
    }
    [(message, _)] = publisher.sent
    assert message.key == DEVICE.lower()
    assert parse(message.value) == parse(packet(1, 2.5, ts=NOW, packet_id="p"))


async def test_no_answer_before_the_acknowledgement(client: Client, publisher: MemoryPublisher) -> None:
    """As long as Kafka has not acknowledged there is no 202."""
    publisher.gate.clear()
    posting = asyncio.create_task(client.post("/ingest/packets", data=packet(1)))
    await asyncio.wait_for(publisher.reached.wait(), 60)
    assert not posting.done()
    publisher.gate.set()
    assert (await posting).status == 202


@pytest.mark.parametrize(
    "content_type",
    ["application/x-www-form-urlencoded", "text/plain", "application/json; charset=latin-9", ""],
)
async def test_content_type_does_not_matter(client: Client, content_type: str) -> None:
    """`curl -d` says that its JSON is a form; it is taken as what it is."""
    headers = {"Content-Type": content_type} if content_type else {}
    response = await client.post(
        "/ingest/packets",
        data=packet(1),
        headers=headers,
        skip_auto_headers=["Content-Type"],
    )
    assert response.status == 202


async def test_byte_order_mark_is_tolerated(client: Client, publisher: MemoryPublisher) -> None:
    """A BOM before the JSON, as some Windows clients send it, does not reach the topic."""
    response = await client.post("/ingest/packets", data=b"\xef\xbb\xbf" + packet(1))
    assert response.status == 202
    assert publisher.sent[0][0].value.startswith(b"{")


@pytest.mark.parametrize(
    ("body", "key", "value"),
    [
        (b'{"sensor_id": 1, "value": 23.5}', "1", Single(23.5, sensor_id=1)),
        (b'{"sensor_id": "Ab", "value": 1}', "ab", Single(1.0, sensor_id="Ab")),
        (b'{"sensor_uuid": "U", "value": 1, "ts": 5}', "u", Single(1.0, sensor_uuid="U", ts=5.0)),
        (
            b'{"sensor_uuid": "U", "device_uuid": "D", "value": 1}',
            "d",
            Single(1.0, sensor_uuid="U", device_uuid="D"),
        ),
    ],
)
async def test_legacy_reading(
    client: Client, publisher: MemoryPublisher, body: bytes, key: str, value: Single
) -> None:
    """A reading by itself is keyed by its device where it names one, else by its sensor."""
    response = await client.post("/ingest/readings", data=body)
    assert response.status == 202
    assert (await response.json())["accepted"] == 1
    [(message, _)] = publisher.sent
    assert (message.key, parse(message.value)) == (key, value)


@pytest.mark.parametrize("wrap", [b'{"readings": %s}', b"%s"])
async def test_legacy_bulk(client: Client, publisher: MemoryPublisher, wrap: bytes) -> None:
    """Each reading of a bulk is a record of its own, in its sensor's partition; the answer counts them."""
    rows = b'[{"sensor_id":1,"value":1}, {"sensor_id":2,"value":2}, {"sensor_id":10,"value":3,"ts":9}]'
    response = await client.post("/ingest/readings/bulk", data=wrap % rows)
    assert response.status == 202
    assert await response.json() == {
        "accepted": 3,
        "rejected": 0,
        "topic": "readings",
        "partitions": [
            {"partition": 1, "records": 2, "first_offset": 0, "last_offset": 1},
            {"partition": 2, "records": 1, "first_offset": 2, "last_offset": 2},
        ],
        "results": [
            {"index": 0, "status": "accepted", "accepted": 1, "partition": 1, "offset": 0},
            {"index": 1, "status": "accepted", "accepted": 1, "partition": 1, "offset": 1},
            {"index": 2, "status": "accepted", "accepted": 1, "partition": 2, "offset": 2},
        ],
    }
    assert [message.key for message, _ in publisher.sent] == ["1", "2", "10"]
    assert len({now for _, now in publisher.sent}) == 1


ITEM = '{"device_uuid": "d", "readings": [{"sensor_uuid": "b", %s}]}'

INVALID = [
    (PACKETS, "null", None),
    (PACKETS, "[]", None),
    (PACKETS, "{}", "device_uuid"),
    (PACKETS, '{"device_uuid": "d"}', "readings"),
    (PACKETS, '{"device_uuid": "d", "readings": []}', "readings"),
    (PACKETS, '{"device_uuid": "d", "readings": {}}', "readings"),
    (PACKETS, '{"device_uuid": "", "readings": []}', "device_uuid"),
    (PACKETS, '{"device_uuid": 7, "readings": []}', "device_uuid"),
    (PACKETS, '{"sensor_id": 1, "value": 1}', "sensor_id"),
    (PACKETS, ITEM % '"value": "warm"', "readings[0].value"),
    (PACKETS, ITEM % '"value": true', "readings[0].value"),
    (PACKETS, ITEM % '"value": null', "readings[0].value"),
    (PACKETS, ITEM % '"value": NaN', "readings[0].value"),
    (PACKETS, ITEM % '"value": -Infinity', "readings[0].value"),
    (PACKETS, ITEM % '"value": 1e400', "readings[0].value"),
    (PACKETS, ITEM % '"value": 1e101', "readings[0].value"),
    (PACKETS, ITEM % '"ts": 1', "readings[0].value"),
    (PACKETS, ITEM % '"value": 1, "unit": "C"', "readings[0].unit"),
    (PACKETS, ITEM % '"value": 1, "ts": -1', "readings[0].ts"),
    (PACKETS, ITEM % '"value": 1, "ts": NaN', "readings[0].ts"),
    (PACKETS, ITEM % '"value": 1, "ts": 1700000000000', "readings[0].ts"),
    (PACKETS, ITEM % '"value": 1, "ts": "yesterday"', "readings[0].ts"),
    (PACKETS, ITEM % '"value": 1, "ts": "1969-12-31"', "readings[0].ts"),
    (READINGS, "{}", "value"),
    (READINGS, '{"value": 1}', "sensor_uuid"),
    (READINGS, '{"sensor_id": -1, "value": 1}', "sensor_id"),
    (READINGS, '{"sensor_id": 1.5, "value": 1}', "sensor_id"),
    (READINGS, '{"sensor_id": 1, "value": Infinity}', "value"),
    (READINGS, '{"sensor_id": 1, "value": 1, "ts": ""}', "ts"),
    (BULK, "5", None),
    (BULK, "[]", None),
    (BULK, '{"readings": []}', "readings"),
    (BULK, '{"readings": [{"value": 1}]}', "readings[0].sensor_uuid"),
    (BULK, '[{"sensor_id": 1, "value": nan}]', "[0].value"),
    (BULK, '{"readings": [{"sensor_id": 1, "value": 1, "ts": "x"}]}', "readings[0].ts"),
]


@pytest.mark.parametrize(("path", "body", "name"), INVALID)
async def test_invalid_readings_name_their_field(
    client: Client, publisher: MemoryPublisher, path: str, body: str, name: str | None
) -> None:
    """JSON that is no reading gets 422 with the field, and nothing is published."""
    answer = await problem(await client.post(path, data=body), 422, "invalid")
    assert answer.get("field") == name
    assert name is None or name in answer["detail"]
    assert not publisher.sent


@pytest.mark.parametrize("name", ["ts", "device_uuid", "packet_id"])
@pytest.mark.parametrize("word", ["NaN", "-Infinity"])
async def test_no_number_in_a_packets_own_field(client: Client, name: str, word: str) -> None:
    """What is no JSON but often sent is told as it was sent, in a packet's fields as in its readings'."""
    body = b'{"device_uuid": "d", "%s": %s, "readings": [{"sensor_uuid": "a", "value": 1}]}'
    answer = await problem(
        await client.post(PACKETS, data=body % (name.encode(), word.encode())), 422, "invalid"
    )
    assert answer["detail"] == f"{name}: {word} is not a number"


async def test_an_array_in_a_field_is_no_word_of_another(client: Client) -> None:
    """A list where a name is wanted is told as that, whatever is no number elsewhere in the reading."""
    body = ITEM % '"sensor_uuid": ["a"], "value": NaN'
    answer = await problem(await client.post(PACKETS, data=body), 422, "invalid")
    assert "got `array`" in answer["detail"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  ",
        b"device_uuid=d",
        b"{",
        packet(1)[:-1],
        packet(1) + b"x",
        packet(1).replace(b"s0", b"\xff"),
        packet(1).decode().encode("utf-16"),
        b'{"device_uuid": "\\ud800", "readings": [{"sensor_uuid": "a", "value": 1}]}',
        b"\x00",
    ],
)
async def test_malformed_json(client: Client, publisher: MemoryPublisher, body: bytes) -> None:
    """What is no JSON, or not UTF-8, gets 400."""
    await problem(await client.post("/ingest/packets", data=body), 400, "malformed")
    assert not publisher.sent


@pytest.mark.parametrize(
    ("path", "body", "name"),
    [
        (PACKETS, '{"device_uuid":"d","ts":%d,"readings":[{"sensor_uuid":"a","value":1}]}', "ts"),
        (PACKETS, '{"device_uuid":"d","readings":[{"sensor_uuid":"a","value":1,"ts":%d}]}', "readings[0].ts"),
        (READINGS, '{"sensor_id":1,"value":1,"ts":%d}', "ts"),
        (BULK, '[{"sensor_id":1,"value":1,"ts":%d}]', "[0].ts"),
    ],
)
async def test_time_from_the_future(client: Client, path: str, body: str, name: str) -> None:
    """A `ts` further ahead than the allowed skew gets 422 that names it."""
    answer = await problem(await client.post(path, data=body % 4_000_000_000), 422, "ts-ahead")
    assert answer["field"] == name


async def test_unknown_paths_and_methods(client: Client) -> None:
    """What is not there gets 404, a wrong method 405 with what is allowed."""
    await problem(await client.get("/ingest"), 404, "not-found")
    response = await client.get("/ingest/packets")
    await problem(response, 405, "method-not-allowed")
    assert response.headers["Allow"] == "POST"


async def test_api_key(publisher: MemoryPublisher) -> None:
    """With INGEST_API_KEY set, `/ingest/*` wants it: 401 without, 403 with another; the rest is open."""
    async for client in serving(publisher, ingest_api_key="señal"):
        response = await client.post(PACKETS, data=packet(1))
        await problem(response, 401, "key-missing")
        assert "WWW-Authenticate" in response.headers
        wrong = await client.post(PACKETS, data=packet(1), headers={"X-API-Key": "other"})
        answer = await problem(wrong, 403, "key-wrong")
        assert "señal" not in str(answer)
        right = await client.post(PACKETS, data=packet(1), headers={"X-API-Key": "señal"})
        assert right.status == 202
        assert (await client.get("/health")).status == 200
    assert len(publisher.sent) == 1


async def test_kafka_away(client: Client, publisher: MemoryPublisher) -> None:
    """Without an acknowledgement the answer is 503 with Retry-After, and /ready says why; /health stays."""
    publisher.away = "Kafka did not acknowledge in time"
    response = await client.post(PACKETS, data=packet(1))
    answer = await problem(response, 503, "kafka-unavailable")
    assert publisher.away in answer["detail"]
    assert int(response.headers["Retry-After"]) == answer["retry_after"]
    await problem(await client.get("/ready"), 503, "kafka-unavailable")
    assert (await client.get("/health")).status == 200
    publisher.away = None
    assert (await client.get("/ready")).status == 200
    assert (await client.post(PACKETS, data=packet(1))).status == 202


async def test_metrics(client: Client) -> None:
    """Requests, readings and refusals are counted; a client's inventions make no new series."""
    await client.post(PACKETS, data=packet(1, 2))
    await client.post(PACKETS, data=ITEM % '"value": 1, "made_up": 1')
    await client.post(PACKETS, data=ITEM % '"value": NaN')
    await client.get("/made/up")
    text = await metrics(client)
    for line in (
        'streamproc_gateway_requests_total{endpoint="/ingest/packets",status="202"} 1.0',
        'streamproc_gateway_requests_total{endpoint="other",status="404"} 1.0',
        "streamproc_gateway_readings_accepted_total 2.0",
        'streamproc_gateway_refused_total{field="other",kind="invalid"} 1.0',
        'streamproc_gateway_refused_total{field="value",kind="invalid"} 1.0',
        "streamproc_gateway_ack_seconds_count 1.0",
    ):
        assert line in text
    assert "made" not in text


async def test_every_value_published_is_a_packet_again(client: Client, publisher: MemoryPublisher) -> None:
    """A repeated name, an escape: what is published says only what was understood."""
    body = (
        b'{"device_uuid":"x","\\u0072eadings":[{"sensor_uuid":"a","value":1,"value":-0.0}],"device_uuid":"D"}'
    )
    assert (await client.post(PACKETS, data=body)).status == 202
    value = publisher.sent[0][0].value
    assert value == b'{"device_uuid":"D","readings":[{"sensor_uuid":"a","value":-0.0}]}'
    assert isinstance(parse(value), Packet)
