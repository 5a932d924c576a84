"""Chunks to rows, and rows to batches: pure, so tested with properties."""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import fields, replace
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.core.chunk import MOVED, TICK, Chunk
from streamproc.core.codec import decode
from streamproc.core.identity import reading_keys, seed
from streamproc.core.letters import PAYLOAD_LIMIT, letter
from streamproc.records import PredictionRows, Severity, WindowRows
from streamproc.sink.batches import Bounds, Refusals, batch, cut, group, letters, split, without
from streamproc.sink.rows import Decoder, Piece
from streamproc.store.protocol import (
    Columns,
    EventColumns,
    PredictionColumns,
    ReadingColumns,
    WindowColumns,
    join,
)
from tests.store.builders import START, chunk, event, ints, notification, packet, single

SKEW_MS = 60_000
#: The columns of WindowRows, but for the sensor.
COLUMNS = tuple(field.name for field in msgspec.structs.fields(WindowRows))[4:-1]

names = st.sampled_from(["a", "B", "sensor-ñ", "7"])
values = st.floats(-1e6, 1e6)
records = st.one_of(
    st.builds(single, names, values, st.integers(0, 50)),
    st.builds(packet, names, names, st.lists(values, max_size=5)),
    st.sampled_from([b"{", b"\xff", b'{"sensor_id": 1, "value": "warm"}', None]),
)
chunks = st.lists(records, min_size=1, max_size=30).map(chunk)


def rows_of(given_chunk: Chunk) -> ReadingColumns:
    """The readings of a chunk."""
    rows = Decoder(SKEW_MS).piece(given_chunk).rows
    assert isinstance(rows, ReadingColumns)
    return rows


def same(one: Columns, other: Columns) -> bool:
    """Whether all columns are equal."""
    columns = [(getattr(one, f.name), getattr(other, f.name)) for f in fields(one)]
    return type(one) is type(other) and all(list(left) == list(right) for left, right in columns)


@given(chunks)
def test_rows_are_the_readings_of_the_codec(given_chunk: Chunk) -> None:
    """One for one, under lower-case names and with the identity that the engine knows them by."""
    readings, rows = decode(given_chunk, SKEW_MS), rows_of(given_chunk)
    seeds = np.array([seed(sensor.lower()) for sensor in readings.sensor], dtype=np.uint64)
    assert rows.sensor == [sensor.lower() for sensor in readings.sensor]
    assert rows.device == [device and device.lower() for device in readings.device]
    assert rows.value.tolist() == readings.value.tolist()
    assert rows.key.tolist() == reading_keys(seeds, readings.ts, readings.value, readings.source).tolist()
    assert rows.offset.tolist() == given_chunk.offsets[readings.record].tolist()


@given(chunks, st.integers(0, 30))
def test_however_records_are_fetched_their_rows_are_the_same(given_chunk: Chunk, at: int) -> None:
    """Two chunks give the rows of the one that they make together."""
    at = min(at, len(given_chunk))
    parts = [rows_of(given_chunk.cut(0, at)), rows_of(given_chunk.cut(at, len(given_chunk)))]
    assert same(join(parts), rows_of(given_chunk))


@given(chunks, st.integers(1, 8))
def test_split_pieces_hold_all_rows_and_records_in_order(given_chunk: Chunk, limit: int) -> None:
    """No more rows than the limit but in a record that has more by itself; every record is in one piece."""
    piece = Decoder(SKEW_MS).piece(given_chunk)
    parts = list(split(piece, limit))
    assert same(join([part.rows for part in parts]), piece.rows)
    assert np.concatenate([part.chunk.offsets for part in parts]).tolist() == given_chunk.offsets.tolist()
    for part in parts:
        assert len(part.rows) <= limit or len(set(part.rows.offset.tolist())) == 1
        assert set(part.rows.offset.tolist()) <= set(part.chunk.offsets.tolist())


bounds = st.builds(Bounds, st.integers(1, 20), st.integers(1, 1_000))


@given(st.lists(chunks, max_size=6), bounds)
def test_groups_hold_all_pieces_in_order(many: list[Chunk], most: Bounds) -> None:
    """As many together as both bounds allow."""
    pieces = [Decoder(SKEW_MS).piece(one) for one in many]
    groups = list(group(pieces, most))
    assert [piece for pieces in groups for piece in pieces] == pieces
    assert all(fits(pieces, most) or len(pieces) == 1 for pieces in groups)
    for before, after in pairwise(groups):
        assert not fits([*before, after[0]], most)


def fits(pieces: list[Piece], most: Bounds) -> bool:
    """Whether these are within the bounds together."""
    rows, held = sum(len(p.rows) for p in pieces), sum(p.chunk.size_bytes for p in pieces)
    return rows <= most.rows and held <= most.size_bytes


@given(chunks, st.integers(1, 600))
def test_a_chunk_is_cut_between_records(given_chunk: Chunk, limit: int) -> None:
    """Into as few parts as hold no more bytes than the limit; a record that has more is alone; headers stay with theirs."""
    marked = replace(given_chunk, headers={index: ((str(index), b""),) for index in range(len(given_chunk))})
    parts = list(cut(marked, limit))
    assert [value for part in parts for value in part.values] == list(marked.values)
    assert np.concatenate([part.offsets for part in parts]).tolist() == marked.offsets.tolist()
    assert [part.headers[at][0][0] for part in parts for at in range(len(part))] == [
        str(index) for index in range(len(marked))
    ]
    for part in parts:
        assert part.size_bytes <= limit or sum(bool(value) for value in part.values) == 1
    for before, after in pairwise(parts):
        assert before.size_bytes + len(after.values[0] or b"") > limit


@pytest.mark.live
@given(st.lists(chunks, min_size=1, max_size=4), bounds)
def test_the_bounds_change_no_row(many: list[Chunk], most: Bounds) -> None:
    """Cut, split and grouped, records give the rows and letters that they give at once, within the bounds."""
    decoder = Decoder(SKEW_MS)
    parts = [
        part for one in many for cutting in cut(one, most.size_bytes) for part in [decoder.piece(cutting)]
    ]
    groups = list(group((piece for part in parts for piece in split(part, most.rows)), most))
    pieces = [piece for pieces in groups for piece in pieces]
    whole = [decoder.piece(one) for one in many]
    assert same(join([piece.rows for piece in pieces]), join([piece.rows for piece in whole]))
    assert [told for p in pieces for told in p.letters] == [told for p in whole for told in p.letters]
    for together in groups:
        held = [len(value) for piece in together for value in piece.chunk.values if value]
        assert sum(held) <= most.size_bytes or len(held) == 1
        giving = [offset for piece in together for offset in piece.rows.offset.tolist()]
        assert len(giving) <= most.rows or (len(together) == 1 and len(set(giving)) == 1)


@given(chunks, st.integers(-5, 40))
def test_records_before_an_offset_are_left_out(given_chunk: Chunk, following: int) -> None:
    """All of them, and no other, with their headers at their side."""
    left = given_chunk.since(following)
    assert left.offsets.tolist() == [offset for offset in given_chunk.offsets.tolist() if offset >= following]


def test_headers_stay_with_their_records() -> None:
    """A tick is one in every part."""
    whole = chunk([b"1", b"2", b"3"], headers={1: ((TICK, b""),), 2: (("x", b"y"),)})
    assert whole.cut(1, 3).headers == {0: ((TICK, b""),), 1: (("x", b"y"),)}


def test_ticks_have_no_rows() -> None:
    """On no topic, and they are no fault."""
    tick = {0: ((TICK, b""),)}
    for topic in Decoder.TOPICS:
        piece = Decoder(SKEW_MS).piece(chunk([None], topic=topic, headers=tick))
        assert (len(piece.rows), piece.letters) == (0, [])


@pytest.mark.parametrize("more", [{}, {"packet_id": "p-1"}, {"ts": START / 1000}])
def test_a_record_sent_on_is_the_one_that_it_was(more: dict[str, object]) -> None:
    """Its rows have the first one's identity and times, even where only its place tells it from others."""
    value = packet("d", "a", [1.0, 1.0, 2.0], **more)
    first = rows_of(chunk([value], first_offset=70))
    place = f"0:70:{START + 70}".encode()
    sent = Chunk("readings", 3, ints(8, 9), START + ints(900, 901), [value, value], {1: ((MOVED, place),)})
    other, moved = rows_of(sent.cut(0, 1)), rows_of(sent.cut(1, 2))
    for column in ("sensor", "device", "value", "ts", "received", "dedupe_ms", "key"):
        assert list(getattr(moved, column)) == list(getattr(first, column))
    assert (moved.partition.tolist(), moved.offset.tolist()) == ([3] * 3, [9] * 3)
    assert same(join([other, moved]), rows_of(sent))
    assert (other.key.tolist() == moved.key.tolist()) == bool(more)


def test_a_mark_not_understood_is_none() -> None:
    """The record is then taken as it stands."""
    value = packet("d", "a", [1.0])
    plain = rows_of(chunk([value]))
    assert same(rows_of(chunk([value], headers={0: ((MOVED, b"?"),)})), plain)


def test_a_record_without_a_time_is_of_the_beginning() -> None:
    """Kafka says -1 of records in its oldest format, and a producer may say anything: dates stay dates."""
    value = packet("d", "a", [1.0])
    rows = rows_of(Chunk("readings", 0, ints(1, 2), ints(-1, 2**62), [value, value]))
    assert (rows.received >= 0).all()
    assert (rows.ts < 253_402_300_800_000).all()


def test_a_prefix_is_taken_off() -> None:
    """And another topic is nobody's."""
    prefixed = chunk([single("a", 1.0)], topic="here-readings")
    assert len(Decoder(SKEW_MS, "here-").piece(prefixed).rows) == 1
    with pytest.raises(ValueError, match="here-readings is none"):
        Decoder(SKEW_MS).piece(prefixed)


def prediction_value(**changed: object) -> bytes:
    """A record of two predictions."""
    rows = PredictionRows(
        model="level@1",
        sensor=["A", "b"],
        made_at=[START, START],
        target=[START + 1000, START + 1000],
        value=[4.0, 0.0],
        lower=[3.0, -1.0],
        upper=[5.0, 1.0],
        anomaly_score=[0.1, 0.9],
        is_anomaly=[False, True],
    )
    return json.dumps({**msgspec.to_builtins(rows), **changed}).encode()


def test_predictions() -> None:
    """A record's columns are rows; their confidence is by how wide the interval is beside the value."""
    piece = Decoder(SKEW_MS).piece(chunk([prediction_value(), prediction_value()], topic="predictions"))
    assert isinstance(piece.rows, PredictionColumns)
    assert piece.rows.sensor == ["a", "b"] * 2
    assert piece.rows.offset.tolist() == [0, 0, 1, 1]
    assert piece.rows.confidence.tolist() == [0.8, 0.0] * 2
    assert piece.rows.is_anomaly.tolist() == [False, True] * 2


def window_value(**changed: object) -> bytes:
    """A record of two windows of 1 s."""
    rows = WindowRows(
        size_ms=1_000,
        topic="readings",
        partition=0,
        sensor=["A", "b"],
        start=[START, START + 1_000],
        count=[3, 4],
        mean=[1.5, 0.1 + 0.2],
        min=[1.0, -2.5],
        max=[2.0, 1e100],
        deviation=[0.5, 5e-324],
        first=[1.25, 7.0],
        last=[1.75, -0.0],
        trend=[0.125, -8.0],
        first_offset=[7, 8],
        last_offset=[2**63 - 1, 9],
    )
    return json.dumps({**msgspec.to_builtins(rows), **changed}).encode()


def test_windows() -> None:
    """A record's columns are rows under lower-case names, each number as it was."""
    piece = Decoder(SKEW_MS).piece(chunk([window_value(), window_value(size_ms=5_000)], topic="windows"))
    rows = piece.rows
    assert isinstance(rows, WindowColumns)
    assert rows.sensor == ["a", "b"] * 2
    assert rows.size_ms.tolist() == [1_000] * 2 + [5_000] * 2
    told = msgspec.json.decode(window_value(), type=WindowRows)
    for name in (
        "start",
        "count",
        "mean",
        "min",
        "max",
        "deviation",
        "first",
        "last",
        "trend",
        "first_offset",
        "last_offset",
    ):
        assert list(map(repr, getattr(rows, name).tolist())) == list(map(repr, getattr(told, name) * 2))
    assert (rows.partition.tolist(), rows.offset.tolist()) == ([0] * 4, [0, 0, 1, 1])


@given(st.lists(st.integers(1, 9), max_size=5), st.lists(st.integers(1, 5), max_size=30), st.integers(1, 12))
def test_messages_of_windows_are_not_split(skipped: list[int], sizes: list[int], limit: int) -> None:
    """No more rows than the limit but in a message that has more by itself; those of other sizes are in a piece, too."""
    values = [window_value(**dict.fromkeys(COLUMNS, [1] * n), sensor=["a"] * n) for n in sizes]
    for at in skipped:
        values.insert(at, window_value(size_ms=60_000))
    piece = Decoder(SKEW_MS).piece(chunk(values, topic="windows")) if values else None
    parts = list(split(piece, limit)) if piece else []
    assert sum(len(part.rows) for part in parts) == sum(sizes)
    assert [offset for part in parts for offset in part.chunk.offsets.tolist()] == list(range(len(values)))
    for part in parts:
        offsets = set(part.rows.offset.tolist())
        assert len(part.rows) <= limit or len(offsets) == 1
        assert offsets <= set(part.chunk.offsets.tolist())


def test_windows_of_other_sizes_are_passed_over() -> None:
    """They are no rows and no fault, but counted; their offsets are passed."""
    values = [
        window_value(),
        window_value(size_ms=5_000),
        window_value(size_ms=60_000),
        window_value(size_ms=-1),
    ]
    piece = Decoder(SKEW_MS, window_sizes_ms={5_000}).piece(chunk(values, topic="windows"))
    assert (piece.rows.offset.tolist(), piece.skipped, piece.letters) == ([1, 1], 3, [])
    assert batch("sink", [piece], {("windows", 0): None}).offsets == {("windows", 0): (None, 4)}
    assert len(Decoder(SKEW_MS, window_sizes_ms=()).piece(chunk(values, topic="windows")).rows) == 0


@pytest.mark.parametrize(
    ("topic", "value", "reason"),
    [
        ("predictions", prediction_value(sensor=["a"]), "not of one length"),
        ("predictions", prediction_value(target=[0, 10**18]), "not between 1970 and 9999"),
        ("predictions", prediction_value(made_at=[-1, 0]), "not between 1970 and 9999"),
        ("predictions", prediction_value(version=2), "version 2 is not known"),
        ("predictions", prediction_value(value=[None, 1.0]), "Expected `float`, got `null`"),
        ("windows", b"{}", "missing required field `size_ms`"),
        ("windows", b"[1]", "Expected `object`, got `array`"),
        ("windows", b'{"size_ms": 1000}', "missing required field"),
        ("windows", None, "no value"),
        ("windows", b"\xff" * 9, "malformed"),
        ("windows", window_value(count=[1]), "not of one length"),
        ("windows", window_value(start=[0, 10**18]), "not between 1970 and 9999"),
        ("windows", window_value(count=[1, 2**63]), "not between 0 and 2^63"),
        ("windows", window_value(last_offset=[10**30, 1]), "not between 0 and 2^63"),
        ("windows", window_value(first_offset=[-1, 1]), "not between 0 and 2^63"),
        ("windows", window_value(partition=-1), "not between 0 and 2^63"),
        ("windows", window_value(version=2), "version 2 is not known"),
        ("windows", window_value(trend=[None, 1.0]), "Expected `float`, got `null`"),
        ("windows", window_value(sensor=[1, 2]), "Expected `str`, got `int`"),
        ("windows", window_value(more=1), "unknown field"),
        ("events", b"{", "truncated"),
        ("events", None, "no value"),
        ("events", b"\xff\x00", "malformed"),
        ("notifications", b'{"notification_id": 3}', "Expected `str`, got `int`"),
    ],
)
def test_a_record_not_understood_costs_only_itself(topic: str, value: bytes | None, reason: str) -> None:
    """It is a dead letter with its place and value; its neighbours are rows."""
    good = {
        "predictions": prediction_value(),
        "windows": window_value(),
        "events": msgspec.json.encode(event("A", Severity.WARN, Severity.NORMAL)),
        "notifications": msgspec.json.encode(notification("A")),
    }[topic]
    piece = Decoder(SKEW_MS).piece(chunk([good, value, good], first_offset=5, topic=topic))
    assert sorted(set(piece.rows.offset.tolist())) == [5, 7]
    assert piece.rows.sensor[0] == "a"
    (fault,) = piece.letters
    assert reason in fault.reason
    assert (fault.stage, fault.topic, fault.partition, fault.offset) == ("sink", topic, 0, 6)
    if value is None:
        assert fault.payload is None
    elif fault.encoding == "utf-8":
        assert fault.payload is not None
        assert fault.payload.encode() == value
    else:
        assert b64decode(fault.payload or "") == value


def test_a_dead_letter_fits_into_a_record() -> None:
    """A value whose text would be too long for Kafka is left where it is, and its size told."""
    for value in (b"x" * PAYLOAD_LIMIT, b"\x01" * (PAYLOAD_LIMIT // 3), b"\xff" * PAYLOAD_LIMIT):
        fault = letter("sink", chunk([value]), 0, "too warm")
        assert fault.payload is None
        assert f"{len(value)} bytes" in fault.reason
    assert letter("sink", chunk([b"x" * 1000]), 0, "too warm").payload == "x" * 1000


def test_a_batch_has_the_rows_and_offsets_of_its_pieces() -> None:
    """From what stands in the database to behind the last record of each partition, gaps and all."""
    decoder = Decoder(SKEW_MS)
    happened = msgspec.json.encode(event("a", Severity.WARN, Severity.NORMAL))
    pieces = [
        decoder.piece(chunk([single("a", 1.0)], first_offset=4)),
        decoder.piece(chunk([happened], first_offset=2, topic="events")),
        decoder.piece(chunk([single("b", 1.0), None], first_offset=9)),
    ]
    whole = batch("sink", pieces, {("readings", 0): 3, ("events", 0): None})
    assert whole.offsets == {("readings", 0): (3, 11), ("events", 0): (None, 3)}
    assert (whole.readings.sensor, whole.events.sensor) == (["a", "b"], ["a"])
    assert isinstance(whole.events, EventColumns)


def test_refused_rows_are_told_by_record() -> None:
    """One letter for each record, however many of its rows are refused; the other rows are kept."""
    decoder = Decoder(SKEW_MS)
    happened = msgspec.json.encode(event("e", Severity.WARN, Severity.NORMAL))
    pieces: list[Piece] = [
        decoder.piece(chunk([packet("d", "a", [1.0, 2.0, 3.0]), single("b", 1.0)])),
        decoder.piece(chunk([happened], topic="events")),
    ]
    whole = batch("sink", pieces, {("readings", 0): None, ("events", 0): None})
    refused = Refusals([0, 2, 4], ["too cold", "too warm", "too late"])
    first, second = letters(pieces, whole, refused)
    assert (first.topic, first.offset, first.reason) == ("readings", 0, "2 rows: too cold; too warm")
    assert (second.topic, second.offset, second.reason) == ("events", 0, "too late")
    rest = without(whole, refused)
    assert (rest.readings.value.tolist(), rest.events.sensor) == ([2.0, 1.0], [])
    assert rest.offsets == whole.offsets
