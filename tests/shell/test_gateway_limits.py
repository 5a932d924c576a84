"""What the gateway holds at once, and what it does about bodies that are large, slow or odd."""

from __future__ import annotations

import asyncio
import io
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

import msgspec
import pytest

from tests.shell.served import (
    BULK,
    PACKETS,
    READINGS,
    Client,
    MemoryPublisher,
    Pair,
    connected,
    metrics,
    packet,
    problem,
    serving,
)


@pytest.mark.parametrize("path", [PACKETS, READINGS, BULK])
@pytest.mark.parametrize("before", [b"", b'{"readings":', b'{"device_uuid":"d","readings":[{"ts":', b'{"a":'])
async def test_deep_nesting_is_harmless(path: str, before: bytes) -> None:
    """Half a million brackets are refused like any other nonsense."""
    async for client in serving(MemoryPublisher(), body_limit_bytes=1_000_000):
        response = await client.post(path, data=before + b"[" * 500_000)
        assert response.status in {400, 422}


async def test_too_many_readings(client: Client) -> None:
    """More readings than a packet may hold get 413."""
    await problem(await client.post(PACKETS, data=packet(*range(21))), 413, "too-many-readings")
    rows = msgspec.json.encode([{"sensor_id": 1, "value": 1}] * 21)
    await problem(await client.post(BULK, data=rows), 413, "too-many-readings")
    assert (await client.post(PACKETS, data=packet(*range(20)))).status == 202


async def test_packet_larger_than_a_record() -> None:
    """A packet that fits the body but not a record of Kafka's gets 413 that says so."""
    limits: dict[str, Any] = {
        "body_limit_bytes": 4_000_000,
        "packet_readings_limit": 100_000,
        "in_flight_limit_bytes": 9_000_000,
    }
    async for client in serving(MemoryPublisher(), **limits):
        answer = await problem(
            await client.post(PACKETS, data=io.BytesIO(packet(*range(40_000)))), 413, "too-large"
        )
        assert "in parts" in answer["detail"]


async def test_body_too_large_by_its_length(client: Client) -> None:
    """A body that says it is too large gets 413 though none of it has come."""
    async with connect(client) as (reader, writer):
        writer.write(b"POST /ingest/packets HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        assert head.startswith(b"HTTP/1.1 413")
        assert b"Connection: close" in head


async def test_body_too_large_while_it_comes(client: Client) -> None:
    """A chunked body that does not end gets 413 as soon as it is too large."""
    async with connect(client) as (reader, writer):
        writer.write(b"POST /ingest/packets HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"1000\r\n" + b" " * 4_096 + b"\r\n" + b"1\r\n \r\n")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        assert head.startswith(b"HTTP/1.1 413")


async def test_expect_continue(client: Client) -> None:
    """Who asks first is told to go on, or gets the refusal in place of sending the body."""
    head = b"POST /ingest/packets HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    body = packet(1)
    for length, answer in ((len(body), b"HTTP/1.1 100"), (99_999, b"HTTP/1.1 413")):
        async with connect(client) as (reader, writer):
            writer.write(head % length)
            assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)).startswith(answer)
            if answer.endswith(b"100"):
                writer.write(body)
                assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)).startswith(b"HTTP/1.1 202")


async def test_slow_body() -> None:
    """A body that stays away gets 408, and the connection is closed."""
    async for client in serving(MemoryPublisher(), body_timeout_seconds=0.2):
        async with connect(client) as (reader, writer):
            writer.write(b"POST /ingest/packets HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
            assert head.startswith(b"HTTP/1.1 408")
            assert b"Connection: close" in head


async def test_broken_framing(client: Client) -> None:
    """A chunk size that is no number gets a 4xx."""
    async with connect(client) as (reader, writer):
        writer.write(b"POST /ingest/packets HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"zz\r\n{}\r\n")
        assert b" 400 " in await asyncio.wait_for(reader.readline(), 60)


async def test_requests_in_flight_are_bounded(client: Client, publisher: MemoryPublisher) -> None:
    """Beyond the bound the answer is 503 at once; when those before are through, there is room again."""
    publisher.gate.clear()
    posts = [asyncio.create_task(client.post(PACKETS, data=packet(1))) for _ in range(3)]
    [full] = (await asyncio.wait(posts, timeout=60, return_when=asyncio.FIRST_COMPLETED))[0]
    answer = await problem(full.result(), 503, "busy")
    assert answer["limit"] == "in_flight_limit"
    assert "Retry-After" in full.result().headers
    publisher.gate.set()
    assert sorted([(await post).status for post in posts]) == [202, 202, 503]
    assert (await client.post(PACKETS, data=packet(1))).status == 202


async def test_bytes_in_flight_are_bounded(publisher: MemoryPublisher) -> None:
    """Bodies that wait are counted by their bytes as well, and given back."""
    limits: dict[str, Any] = {
        "body_limit_bytes": 700_000,
        "in_flight_limit": 100,
        "in_flight_limit_bytes": 1_048_576,
    }
    body = packet(1) + b" " * 600_000
    publisher.gate.clear()
    async for client in serving(publisher, **limits):
        first = asyncio.create_task(client.post(PACKETS, data=body))
        await asyncio.wait_for(publisher.reached.wait(), 60)
        answer = await problem(await client.post(PACKETS, data=body), 503, "busy")
        assert answer["limit"] == "in_flight_limit_bytes"
        publisher.gate.set()
        assert (await first).status == 202
        assert (await client.post(PACKETS, data=body)).status == 202
        assert "streamproc_gateway_in_flight_bytes 0.0" in await metrics(client)


async def test_slow_bodies_of_one_address_leave_room_for_others(publisher: MemoryPublisher) -> None:
    """Of the bytes in flight they may hold a quarter: beyond, the address is told so, and others are served."""
    limits: dict[str, Any] = {
        "body_limit_bytes": 200_000,
        "in_flight_limit_bytes": 1_048_576,
        "trusted_proxies": "127.0.0.1",
    }
    slow = {"X-Forwarded-For": "1.1.1.1"}
    async for client in serving(publisher, **limits):
        async with AsyncExitStack() as stack:
            await begin(stack, client, "1.1.1.1")
            await held(client, 140_000)
            assert b" 503 " in await head_of(await begin(stack, client, "1.1.1.1"))
            await begin(stack, client, "2.2.2.2")
            await held(client, 280_000)
            assert (await client.post(PACKETS, data=packet(1), headers=slow)).status == 202
        await held(client, 0)
        for _ in range(3):
            body = packet(1) + b" " * 140_000
            assert (await client.post(PACKETS, data=body, headers=slow)).status == 202


async def begin(stack: AsyncExitStack, client: Client, address: str) -> asyncio.StreamReader:
    """Send most of a body that the proxy says is from there, and no more; the connection is the stack's."""
    head = f"POST /ingest/packets HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {address}\r\n"
    reader, writer = await stack.enter_async_context(connect(client))
    writer.write(head.encode() + b"Content-Length: 150000\r\n\r\n" + b" " * 140_000)
    await writer.drain()
    return reader


async def held(client: Client, count: int) -> None:
    """Wait until the gateway holds so many bytes of bodies."""
    async with asyncio.timeout(60):
        while f"streamproc_gateway_in_flight_bytes {float(count)}\n" not in await metrics(client):
            continue


async def test_client_that_leaves_gives_back_its_share(client: Client, publisher: MemoryPublisher) -> None:
    """A client that hangs up in the middle of its body, or while it waits, holds nothing afterwards."""
    async with connect(client) as (_, writer):
        writer.write(b"POST /ingest/packets HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        await writer.drain()
        writer.transport.abort()
    publisher.gate.clear()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.post(PACKETS, data=packet(1)), 0.1)
    publisher.gate.set()
    assert (await client.post(PACKETS, data=packet(1))).status == 202
    async with asyncio.timeout(60):
        while "streamproc_gateway_in_flight_requests 0.0" not in await metrics(client):
            continue


def connect(client: Client) -> AbstractAsyncContextManager[Pair]:
    """Open a bare connection to the gateway that a client has."""
    assert client.server.port
    return connected(client.server.port)


async def head_of(reader: asyncio.StreamReader) -> bytes:
    """Read an answer's head."""
    return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
