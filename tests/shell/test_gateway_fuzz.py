"""Whatever is sent: no 5xx, and nothing on the topic that the engine does not decode."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.core.chunk import Chunk
from streamproc.core.codec import decode
from streamproc.gateway.answers import Fault
from streamproc.gateway.ingest import Read
from streamproc.gateway.intake import Batch, Limits, Message, Terms, bulk, packets, reading
from streamproc.gateway.problems import KINDS
from streamproc.settings import Settings
from tests.shell.served import ANYONE, MemoryPublisher, Served, application

PATHS = ("/ingest/packets", "/ingest/readings", "/ingest/readings/bulk")
SKEW_MS = 60_000

names = st.one_of(st.text(max_size=4), st.sampled_from(["a", "İ" * 128, "x" * 128, "x" * 129]), st.integers())
stamps = st.one_of(
    st.none(),
    st.floats(width=64),
    st.integers(-1, 5_000_000_000),
    st.datetimes().map(lambda moment: moment.isoformat()),
    st.sampled_from(["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "", "now"]),
)
values = st.one_of(st.floats(), st.integers(), st.booleans(), st.text(max_size=2), st.none())
items = st.fixed_dictionaries(
    {"value": values},
    optional={"sensor_uuid": names, "sensor_id": names, "ts": stamps, "device_uuid": names, "extra": values},
)
likely = st.fixed_dictionaries(
    {"sensor_uuid": st.text(min_size=1, max_size=3), "value": st.floats(-1e9, 1e9)},
    optional={"ts": stamps},
)
devices_packets = st.fixed_dictionaries(
    {"device_uuid": names, "readings": st.lists(st.one_of(items, likely), max_size=4)},
    optional={"ts": stamps, "packet_id": names},
)

NOW_MS = 1_700_000_000_000


def to_json(value: object) -> bytes:
    """Encode as Python does, with its NaN and Infinity that JSON does not have."""
    return json.dumps(value).encode()


well_formed = st.one_of(devices_packets, items, st.lists(items, max_size=3), likely).map(to_json)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Give a packet with some of its bytes replaced, dropped or doubled."""
    body = bytearray(draw(well_formed))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(body) - 1)))
        body[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(body)


def together(parts: list[bytes]) -> bytes:
    """Make an array of the parts."""
    return b"[" + b",".join(parts) + b"]"


several = st.lists(st.one_of(well_formed, mutated()), max_size=4)
bodies = st.one_of(
    st.binary(max_size=64), well_formed, mutated(), several.map(together), several.map(b"\n".join)
)
likely_packets = st.fixed_dictionaries(
    {
        "device_uuid": st.text(min_size=1, max_size=4),
        "readings": st.lists(st.one_of(likely, items), min_size=1, max_size=3),
    },
    optional={"packet_id": st.text(min_size=1, max_size=4)},
).map(to_json)
keys = st.one_of(st.none(), st.sampled_from(["k", "k" * 120]))


def assert_decodable(message: Message, now_ms: int) -> int:
    """Check that the engine takes the record without a word; return how many readings it finds."""
    timestamps = np.array([now_ms], dtype=np.int64)
    chunk = Chunk("readings", 0, np.array([0], dtype=np.int64), timestamps, [message.value])
    found = decode(chunk, SKEW_MS)
    assert not found.rejected
    device = found.device[0]
    assert message.key == (device or found.sensor[0])
    return len(found)


@pytest.mark.live
@given(body=bodies, read=st.sampled_from([packets, reading, bulk]), lines=st.booleans(), key=keys)
@settings(max_examples=500, deadline=None)
def test_what_is_taken_can_be_decoded(body: bytes, read: Read, lines: bool, key: str | None) -> None:
    """Each record that intake makes of a body is one that the engine decodes whole, under the same key."""
    now_ms = time.time_ns() // 1_000_000
    batch = read(body, Terms(Limits(100, SKEW_MS), now_ms, ANYONE, key), lines=lines)
    if isinstance(batch, Fault):
        assert batch.reason
        assert batch.kind in KINDS
        return
    assert batch.accepted == sum(assert_decodable(message, now_ms) for message in batch.messages)
    assert_accounted(batch)


@pytest.mark.live
@given(
    parts=st.lists(likely_packets, min_size=1, max_size=4),
    key=keys,
    bad=st.sampled_from([b"{}", b"7", b'{"a":NaN}']),
)
@settings(max_examples=200, deadline=None)
def test_a_faulty_packet_changes_nothing_for_others(parts: list[bytes], key: str | None, bad: bytes) -> None:
    """What is right comes to the same records when it is decoded at once and when it is looked at beside a fault."""
    terms = Terms(Limits(100, SKEW_MS), NOW_MS, ANYONE, key)
    alone, beside = packets(together(parts), terms), packets(together([*parts, bad]), terms)
    lines = packets(b"\n".join([*parts, bad]), terms, lines=True)
    for batch in (alone, beside, lines):
        assert isinstance(batch, Batch)
        assert isinstance(alone, Batch)
        assert batch.messages == alone.messages
        assert batch.results[: len(parts)] == alone.results
    assert isinstance(beside, Batch)
    assert beside.results[-1].status == "rejected"


def assert_accounted(batch: Batch) -> None:
    """Check that each item has one result, and that what is accepted and rejected adds up."""
    assert [result.index for result in batch.results] == list(range(len(batch.results)))
    assert len([result for result in batch.results if result.accepted]) == len(batch.messages)
    assert batch.accepted == sum(result.accepted for result in batch.results)
    assert batch.rejected >= sum(len(result.rejected) for result in batch.results)
    for result in batch.results:
        whole = [fault for fault in result.rejected if fault.index is None]
        assert result.status == (
            "accepted"
            if not result.rejected and not result.untold
            else "partial"
            if result.accepted
            else "rejected"
        )
        assert not (whole and result.accepted)
        for fault in result.rejected:
            assert fault.kind in KINDS
            assert len(fault.reason) < 400


@pytest.mark.live
@given(
    requests=st.lists(
        st.tuples(st.sampled_from(PATHS), bodies, st.sampled_from(["POST", "PUT", "GET"])), max_size=20
    )
)
@settings(max_examples=30, deadline=None)
def test_no_request_breaks_the_gateway(requests: list[tuple[str, bytes, str]]) -> None:
    """Over HTTP, too: each answer is 202, 207 or a 4xx problem, and each record can be decoded."""
    asyncio.run(send_all(requests))


async def send_all(requests: list[tuple[str, bytes, str]]) -> None:
    """Send the requests and check the answers and the topic."""
    publisher = MemoryPublisher()
    async with client_of(publisher) as client:
        for path, body, method in requests:
            async with client.request(method, path, data=body) as response:
                assert response.status in {202, 207} or 400 <= response.status < 500
                if response.status > 207:
                    answer = msgspec.json.decode(await response.read())
                    assert answer["status"] == response.status
    for message, now_ms in publisher.sent:
        assert_decodable(message, now_ms)


@asynccontextmanager
async def client_of(publisher: MemoryPublisher) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    """Serve a gateway over the publisher."""
    async with TestClient(Served(application(Settings(), publisher))) as client:
        yield client
