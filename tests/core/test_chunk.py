"""Chunks: what a record's headers make of it."""

from __future__ import annotations

import numpy as np
import pytest

from streamproc.core.chunk import MOVED, TICK, Chunk
from streamproc.core.codec import decode
from streamproc.core.identity import reading_keys, seed
from tests.core.oracle import NOW

PACKETS = (
    b'{"device_uuid":"d","readings":[{"sensor_uuid":"a","value":1},{"sensor_uuid":"a","value":1}]}',
    b'{"device_uuid":"d","readings":[{"sensor_uuid":"a","value":1}],"packet_id":"p"}',
    b'{"device_uuid":"d","readings":[{"sensor_uuid":"a","value":1,"ts":1699999999}]}',
    b'{"sensor_uuid":"a","value":1}',
    b'{"sensor_uuid":"a","value":1,"ts":1700000000.5}',
)


def one(value: bytes, offset: int, timestamp: int, partition: int, mark: bytes | None = None) -> Chunk:
    """A chunk of one record, with a mark where it was sent on."""
    headers = {0: (("x", b"y"), (MOVED, mark))} if mark is not None else {}
    return Chunk("readings", partition, np.array([offset]), np.array([timestamp]), [value], headers)


def identities(chunk: Chunk) -> list[tuple[int, ...]]:
    """What makes the readings of the sensor `a` what they are: keys, dedupe_ms and ts."""
    readings = decode(chunk, 60_000)
    seeds = np.full(len(readings), seed("a"), dtype=np.uint64)
    keys = reading_keys(seeds, readings.ts, readings.value, readings.source)
    return list(zip(keys.tolist(), readings.dedupe_ms.tolist(), readings.ts.tolist(), strict=True))


@pytest.mark.parametrize("value", PACKETS)
def test_a_record_sent_on_is_the_one_that_it_was(value: bytes) -> None:
    """It has the first one's keys and times, even where only its place tells it from others."""
    first = one(value, 70, NOW, 0)
    sent = one(value, 9, NOW + 5_000, 3, f"0:70:{NOW}".encode())
    assert identities(sent) == identities(first)
    assert (
        identities(one(value, 9, NOW + 5_000, 3, b"0:71:%d" % (NOW + 1))) != identities(first)
        or b"ts" in value
    )


@pytest.mark.parametrize(
    "mark", [b"", b"?", b"0:70", b"0:-1:5", b"0:70:1e3", b"0:70:5:6", b"\xff:1:1", b"0:1:" + b"9" * 16]
)
def test_a_mark_not_understood_is_none(mark: bytes) -> None:
    """The record then has its own place and time, and still counts where it is."""
    sent = one(PACKETS[0], 9, NOW, 3, mark)
    assert sent.origin(0) == (3, 9, NOW)
    assert identities(sent) == identities(one(PACKETS[0], 9, NOW, 3))
    assert sent.is_moved(0)


def test_skew_is_that_of_the_first_place() -> None:
    """What was too early there is not accepted because it was sent on later."""
    value = b'{"sensor_uuid":"a","value":1,"ts":%d}' % (NOW // 1_000 + 61)
    assert decode(one(value, 9, NOW + 5_000, 3), 60_000).rejected == []
    assert decode(one(value, 9, NOW + 5_000, 3, f"0:70:{NOW}".encode()), 60_000).rejected


def test_a_tick_is_none_of_them() -> None:
    """A tick is no record that was sent on."""
    tick = Chunk("readings", 0, np.array([1]), np.array([NOW]), [b"tick"], {0: ((TICK, b"1"),)})
    assert tick.is_control(0)
    assert not tick.edits()
    assert not tick.is_moved(0)
    assert tick.first_timestamps() is tick.timestamps
