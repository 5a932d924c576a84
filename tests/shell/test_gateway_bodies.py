"""What bodies may be: one packet, an array, lines; compressed; and their bounds."""

from __future__ import annotations

import asyncio
import gzip
import sys
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from streamproc.gateway.bodies import inflate
from streamproc.gateway.problems import Problem
from tests.shell.served import (
    BULK,
    PACKETS,
    READINGS,
    Client,
    MemoryPublisher,
    metrics,
    packet,
    problem,
    serving,
)
from tests.shell.test_gateway_limits import connect, head_of


def raw_deflate(body: bytes) -> bytes:
    """Compress without zlib's frame, as old browsers' servers did."""
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(body) + compressor.flush()


ENCODED: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("X-GZIP", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("zstd", zstd.compress),
    ("identity", bytes),
    ("", bytes),
    ("identity, gzip", gzip.compress),
]


@pytest.fixture
def publisher() -> MemoryPublisher:
    """Give a Kafka in memory."""
    return MemoryPublisher()


@pytest.fixture
async def client(publisher: MemoryPublisher) -> AsyncIterator[Client]:
    """Give a client of a gateway with small limits."""
    async for each in serving(publisher, inflated_limit_bytes=8_192):
        yield each


@pytest.mark.parametrize(("encoding", "compress"), ENCODED)
async def test_compressed_bodies_are_taken(
    client: Client, publisher: MemoryPublisher, encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    """gzip, deflate (with zlib's frame or bare) and zstd are understood, and counted by their inflated bytes."""
    response = await client.post(PACKETS, data=compress(packet(1, 2)), headers={"Content-Encoding": encoding})
    assert response.status == 202
    assert publisher.sent[0][0].value.startswith(b'{"device_uuid"')
    assert "streamproc_gateway_in_flight_bytes 0.0" in await metrics(client)


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "compress", "gzip, zstd", "gzip;q=1"])
async def test_other_encodings_are_refused(client: Client, encoding: str) -> None:
    """What is not taken, or is compressed twice, gets 415 with what is taken."""
    response = await client.post(PACKETS, data=packet(1), headers={"Content-Encoding": encoding})
    await problem(response, 415, "encoding")
    assert response.headers["Accept-Encoding"] == "gzip, deflate, zstd, identity"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
@pytest.mark.parametrize(
    "spoil",
    [lambda body: b"no " + body, lambda body: body[:-5], lambda body: body + b"\x00", lambda _: b"\x00"],
)
async def test_broken_encodings_are_refused(
    client: Client, publisher: MemoryPublisher, encoding: str, spoil: Callable[[bytes], bytes]
) -> None:
    """What is cut off, or followed by something, or no such thing at all, gets 400."""
    compress = dict(ENCODED)[encoding]
    body = spoil(compress(packet(1)))
    response = await client.post(PACKETS, data=body, headers={"Content-Encoding": encoding})
    await problem(response, 400, "encoding-broken")
    assert not publisher.sent


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
async def test_a_bomb_is_refused(client: Client, encoding: str) -> None:
    """A small body that comes to more than the bound gets 413 that names the bound."""
    body = dict(ENCODED)[encoding](b" " * 1_000_000)
    assert len(body) < 4_096
    response = await client.post(PACKETS, data=body, headers={"Content-Encoding": encoding})
    answer = await problem(response, 413, "too-large")
    assert (answer["limit"], answer["allowed"]) == ("inflated_limit_bytes", 8_192)


@pytest.mark.live
@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_bomb_costs_no_more_than_the_bound(encoding: str) -> None:
    """200 MB of nothing are inflated to the bound and no further, in memory as well."""
    body = dict(ENCODED)[encoding](bytes(200_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(Problem, match="1000000 bytes"):
            inflate(body, "gzip" if encoding == "gzip" else "zstd", 1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


def test_a_wide_window_is_refused() -> None:
    """A zstd body that wants 128 MiB to be inflated gets none of it."""
    options = {
        int(zstd.CompressionParameter.window_log): 27,
        int(zstd.CompressionParameter.enable_long_distance_matching): 1,
    }
    compressor = zstd.ZstdCompressor(options=options)
    body = compressor.compress(b"{") + compressor.flush()
    with pytest.raises(Problem, match="not zstd"):
        inflate(body, "zstd", 1_000_000)


def test_parts_are_joined_but_not_many() -> None:
    """A gzip of several members, or a zstd of several frames, is one body; thousands would be work without end."""
    assert inflate(gzip.compress(b"a") + gzip.compress(b"b"), "gzip", 10) == b"ab"
    assert inflate(zstd.compress(b"a") + zstd.compress(b"b"), "zstd", 10) == b"ab"
    for body in (gzip.compress(b"") * 10_000, zstd.compress(b"") * 10_000):
        with pytest.raises(Problem, match="parts"):
            inflate(body, "gzip" if body.startswith(b"\x1f") else "zstd", 10)


@pytest.mark.parametrize("size", [0, 1, 4_095, 4_096])
@pytest.mark.parametrize(("encoding", "compress"), ENCODED[:5])
def test_the_bound_is_exact(size: int, encoding: str, compress: Callable[[bytes], bytes]) -> None:
    """As many bytes as are allowed are inflated, one more is not."""
    name = "gzip" if "gz" in encoding.lower() else "zstd" if encoding == "zstd" else "deflate"
    assert inflate(compress(b"x" * size), name, 4_096) == b"x" * size  # type: ignore[arg-type]  # it is one of the three
    with pytest.raises(Problem):
        inflate(compress(b"x" * 4_097), name, 4_096)  # type: ignore[arg-type]


async def test_inflated_bytes_count_as_held(publisher: MemoryPublisher) -> None:
    """What is held is counted as it is inflated: two bodies that are small on the wire do not both fit."""
    limits: dict[str, Any] = {
        "in_flight_limit": 100,
        "in_flight_limit_bytes": 1_048_576,
        "inflated_limit_bytes": 1_000_000,
    }
    body = gzip.compress(packet(1) + b" " * 600_000)
    headers = {"Content-Encoding": "gzip"}
    publisher.gate.clear()
    async for client in serving(publisher, **limits):
        first = asyncio.create_task(client.post(PACKETS, data=body, headers=headers))
        await asyncio.wait_for(publisher.reached.wait(), 60)
        answer = await problem(await client.post(PACKETS, data=body, headers=headers), 503, "busy")
        assert answer["limit"] == "in_flight_limit_bytes"
        publisher.gate.set()
        assert (await first).status == 202
        assert (await client.post(PACKETS, data=body, headers=headers)).status == 202
        assert "streamproc_gateway_in_flight_bytes 0.0" in await metrics(client)


@pytest.mark.parametrize(
    "content_type",
    [
        "text/xml",
        "multipart/form-data; boundary=x",
        "image/png",
        "application/cbor",
        "application/msgpack",
        "text/html",
    ],
)
async def test_other_types_are_refused(client: Client, content_type: str) -> None:
    """What says that it is no JSON gets 415 with what is taken."""
    response = await client.post(PACKETS, data=packet(1), headers={"Content-Type": content_type})
    await problem(response, 415, "media-type")
    assert response.headers["Accept-Post"] == "application/json, application/x-ndjson"


ONE, OTHER = packet(1.5), packet(2.5, 3.5).replace(b"0A", b"0B")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"[%s, %s]", "application/json"),
        (b"[%s, %s]", ""),
        (b"%s\n%s", "application/x-ndjson"),
        (b"%s\r\n\r\n%s\r\n", "application/jsonl; charset=utf-8"),
        (b"%s\n%s\n", "application/json"),
        (b"%s\n%s", "application/x-www-form-urlencoded"),
        (b"\xef\xbb\xbf%s\n%s", "text/plain"),
    ],
)
async def test_several_packets(
    client: Client, publisher: MemoryPublisher, body: bytes, content_type: str
) -> None:
    """An array, and lines of JSON whether or not they say so, are a record a packet, in order, each with its result."""
    headers = {"Content-Type": content_type} if content_type else {}
    response = await client.post(PACKETS, data=body % (ONE, OTHER), headers=headers)
    assert response.status == 202
    answer = await response.json()
    assert (answer["accepted"], answer["rejected"]) == (3, 0)
    assert [(each["index"], each["accepted"], each["offset"]) for each in answer["results"]] == [
        (0, 1, 0),
        (1, 2, 1),
    ]
    assert [message.value for message, _ in publisher.sent] == [ONE, OTHER]


async def test_lines_of_readings(client: Client, publisher: MemoryPublisher) -> None:
    """A bulk may come as lines as well."""
    body = b'{"sensor_id": 1, "value": 1}\n{"sensor_id": 2, "value": NaN}\n{"sensor_id": 3, "value": 3}\n'
    response = await client.post(BULK, data=body, headers={"Content-Type": "application/x-ndjson"})
    assert response.status == 207
    assert [message.key for message, _ in publisher.sent] == ["1", "3"]


@pytest.mark.parametrize(
    ("path", "first", "field"),
    [
        (
            PACKETS,
            b'{"device_uuid": "d", "readings": [{"sensor_uuid": "a", "value": true}]}',
            "readings[0].value",
        ),
        (
            PACKETS,
            b'{"device_uuid": "d", "readings": [{"sensor_uuid": "a", "value": NaN}]}',
            "readings[0].value",
        ),
        (PACKETS, b'{"device_uuid": "d", "readings": [{"sensor_uuid": "a", "value": 1}], "x": 1}', "x"),
        (BULK, b'{"sensor_id": 1, "value": "1"}', "value"),
        (BULK, b'{"sensor_id": 1, "value": 1, "x": 1}', "x"),
    ],
)
async def test_a_first_line_with_a_fault_costs_itself(
    client: Client, publisher: MemoryPublisher, path: str, first: bytes, field: str
) -> None:
    """What says that it is JSON is known to be lines by its form, whatever is wrong with the first of them."""
    second = ONE if path == PACKETS else b'{"sensor_id": 2, "value": 2}'
    response = await client.post(path, data=first + b"\n" + second)
    assert response.status == 207
    wrong, right = (await response.json())["results"]
    assert [fault["field"] for fault in wrong["rejected"]] == [field]
    assert (right["index"], right["status"], len(publisher.sent)) == (1, "accepted", 1)


async def test_lines_of_readings_that_do_not_say_so(client: Client, publisher: MemoryPublisher) -> None:
    """A bulk of lines is known by its form, as packets are."""
    response = await client.post(BULK, data=b'{"sensor_id": 1, "value": 1}\n{"sensor_id": 2, "value": 2}')
    assert response.status == 202
    assert [message.key for message, _ in publisher.sent] == ["1", "2"]


@pytest.mark.parametrize("content_type", ["application/x-ndjson", "application/json"])
@pytest.mark.parametrize("body", [b"", b"\n\n", b"  "])
@pytest.mark.parametrize("path", [PACKETS, READINGS, BULK])
async def test_an_empty_body(client: Client, path: str, body: bytes, content_type: str) -> None:
    """Nothing at all gets 400 that says so."""
    answer = await problem(
        await client.post(path, data=body, headers={"Content-Type": content_type}), 400, "malformed"
    )
    assert answer["detail"] == "the body is empty"


async def test_packets_on_one_line(client: Client) -> None:
    """Packets one after the other without anything between get 400, and how it is done (`curl -d` takes newlines out)."""
    answer = await problem(await client.post(PACKETS, data=ONE + OTHER), 400, "malformed")
    assert "--data-binary" in answer["detail"]


async def test_too_many_packets() -> None:
    """More packets than one body may have get 413 that names the limit."""
    async for client in serving(MemoryPublisher(), packets_limit=2):
        for body in (b"[%s,%s,%s]", b"%s\n%s\n%s", b"[%s,%s,{}]"):
            count = body.count(b"%s")
            answer = await problem(
                await client.post(PACKETS, data=body % ((ONE,) * count)), 413, "too-many-packets"
            )
            assert answer["limit"] == "packets_limit"
        assert (await client.post(PACKETS, data=b"[%s,%s]" % (ONE, ONE))).status == 202


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST /%s HTTP/1.1\r\n" % (b"x" * 4_096), b" 414 "),
        (b"POST /ingest/packets HTTP/1.1\r\nX: %s\r\n" % (b"x" * 9_000), b" 431 "),
    ],
)
async def test_long_heads_are_refused(client: Client, head: bytes, status: bytes) -> None:
    """A URL or a header beyond its bound is refused."""
    async with connect(client) as (reader, writer):
        writer.write(head + b"Host: x\r\n\r\n")
        assert status in (await head_of(reader)).partition(b"\r\n")[0]


async def test_options_tell_what_is_taken(client: Client) -> None:
    """Who asks what may be sent gets 204 with methods, types and encodings."""
    response = await client.options(PACKETS)
    assert (response.status, response.headers["Allow"]) == (204, "OPTIONS, POST")
    assert "x-ndjson" in response.headers["Accept-Post"]
    assert "zstd" in response.headers["Accept-Encoding"]
    assert (await client.options("/nowhere")).status == 404


async def test_head_is_a_get_without_a_body(client: Client) -> None:
    """A load balancer may ask with HEAD."""
    for path in ("/health", "/ready", "/metrics"):
        response = await client.head(path)
        assert (response.status, await response.read()) == (200, b"")
    assert (await client.head(PACKETS)).status == 405


async def test_http_1_0(client: Client) -> None:
    """A client of HTTP/1.0 is answered in its way, and the connection ends; it is never told to go on."""
    body = packet(1)
    lines = b"POST /ingest/packets HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with connect(client) as (reader, writer):
        writer.write(lines + body)
        head = await head_of(reader)
        assert head.startswith(b"HTTP/1.0 202")
        answer = await reader.read()
        assert b'"accepted":1' in answer


async def test_a_connection_is_kept(client: Client) -> None:
    """One connection takes request after request, refused ones among them whose body was read."""
    async with connect(client) as (reader, writer):
        for body, status in ((packet(1), b"202"), (b"{", b"400"), (packet("x"), b"422"), (packet(1), b"202")):
            writer.write(
                b"POST /ingest/packets HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
            head = await head_of(reader)
            assert head.startswith(b"HTTP/1.1 " + status)
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
