"""Chunks: what a record's headers make of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from streamproc.core.chunk import LETTER, MOVED, REDRIVEN, TICK, Chunk, Headers, Redriven
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


def test_a_mark_without_a_value_is_not_understood() -> None:
    """Kafka's headers may have none."""
    sent = replace(one(PACKETS[0], 9, NOW, 3), headers={0: ((MOVED, None),)})
    assert sent.origin(0) == (3, 9, NOW)
    assert sent.is_moved(0)


def test_skew_is_that_of_the_first_place() -> None:
    """What was too early there is not accepted because it was sent on later."""
    value = b'{"sensor_uuid":"a","value":1,"ts":%d}' % (NOW // 1_000 + 61)
    assert decode(one(value, 9, NOW + 5_000, 3), 60_000).rejected == []
    assert decode(one(value, 9, NOW + 5_000, 3, f"0:70:{NOW}".encode()), 60_000).rejected


FIRST = (REDRIVEN, f"0:70:{NOW}".encode())


def again(value: bytes, *headers: tuple[str, bytes | None], timestamp: int = NOW + 5_000) -> Chunk:
    """A chunk of one record with these headers."""
    told: Headers = headers  # Kafka knows headers without a value
    return Chunk("readings", 3, np.array([9]), np.array([timestamp]), [value], {0: told})


@pytest.mark.parametrize("value", PACKETS)
@pytest.mark.parametrize("more", [(), ((MOVED, b"1:80:5"),), ((LETTER, b"engine:1:0:17"),)])
def test_a_record_sent_again_is_the_one_that_it_was(
    value: bytes, more: tuple[tuple[str, bytes], ...]
) -> None:
    """It has the first one's keys and times, even if it is sent on then."""
    assert identities(again(value, FIRST, *more)) == identities(one(value, 70, NOW, 0))


def test_a_record_sent_again_is_early_only_until_its_time_has_come() -> None:
    """What was too early at first is accepted once it is due, with the identity of its first arrival."""
    value = b'{"sensor_uuid":"a","value":1,"ts":%d}' % (NOW // 1_000 + 70)
    assert decode(one(value, 70, NOW, 0), 60_000).rejected
    assert decode(again(value, FIRST, timestamp=NOW + 9_999), 60_000).rejected
    sent = again(value, FIRST, timestamp=NOW + 10_000)
    assert decode(sent, 60_000).rejected == []
    assert sent.first_timestamps().tolist() == [NOW]
    back = again(
        value, FIRST, timestamp=NOW - 10_000
    )  # a broker's clock that was set back makes nothing early
    assert decode(back, 70_000).rejected == []


def test_a_record_sent_again_for_the_database_is_no_reading_of_the_engine() -> None:
    """Not even one that is wrong; the sink has it as it was."""
    for value in (PACKETS[0], b"{"):
        sent = again(value, FIRST, (LETTER, b"sink:2:0:17"))
        assert sent.redriven(0) == Redriven("sink", 2, "0:17")
        engines, sinks = decode(sent, 60_000), decode(sent, 60_000, for_sink=True)
        assert (len(engines), engines.rejected) == (0, [])
        assert len(sinks) + len(sinks.rejected) > 0


@pytest.mark.parametrize("told", [None, b"", b"sink", b"sink:1:0", b"console:1:0:17", b"sink:-1:0:17"])
def test_a_letter_not_understood_is_none(told: bytes | None) -> None:
    """The record is then one for all stages; so is one that does not say where it first arrived."""
    assert again(PACKETS[0], FIRST, (LETTER, told)).redriven(0) is None
    assert not again(PACKETS[0], (LETTER, b"sink:1:0:17")).is_for_sink(0)


@pytest.mark.parametrize("name", [MOVED, REDRIVEN])
@pytest.mark.parametrize(
    ("stamp", "believed"), [(NOW + 86_400_000, True), (NOW + 86_400_001, False), (10**15 - 1, False)]
)
def test_a_place_of_a_later_day_is_none(name: str, stamp: int, believed: bool) -> None:
    """No record came first long after it came here: a forged time would end the worker that writes its year out."""
    told = again(PACKETS[0], (name, b"1:5:%d" % stamp), timestamp=NOW).origin(0)
    assert told == ((1, 5, stamp) if believed else (3, 9, NOW))


@pytest.mark.parametrize("name", [MOVED, REDRIVEN])
def test_a_mark_without_a_value_is_none(name: str) -> None:
    """Kafka's headers may have none, whoever writes them."""
    assert again(PACKETS[0], (name, None)).origin(0) == (3, 9, NOW + 5_000)


def test_a_tick_is_none_of_them() -> None:
    """A tick is no record that was sent on."""
    tick = Chunk("readings", 0, np.array([1]), np.array([NOW]), [b"tick"], {0: ((TICK, b"1"),)})
    assert tick.is_control(0)
    assert not tick.edits()
    assert not tick.is_moved(0)
    assert tick.first_timestamps() is tick.timestamps
