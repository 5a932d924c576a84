"""The codec: what is accepted, what it is understood as, and that a bad record costs only itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamproc.core import codec
from streamproc.core.chunk import TICK, Chunk
from streamproc.core.codec import (
    TS_LIMIT,
    VALUE_LIMIT,
    Item,
    Packet,
    Readings,
    Rejected,
    Single,
    decode,
    parse,
    parse_packet,
    parse_single,
    record_key,
    to_ms,
)
from streamproc.core.identity import reading_keys, seed

NOW = 1_700_000_000_000
SKEW = 60_000

names = st.text(min_size=1, max_size=128)
numbers = st.floats(-VALUE_LIMIT, VALUE_LIMIT)
seconds = st.floats(0, TS_LIMIT)
past = st.floats(0, NOW / 1000)
moments = st.datetimes(datetime(1970, 1, 2), datetime(2038, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
iso = moments.map(datetime.isoformat)
stamps = st.one_of(st.none(), seconds, iso)
packets = st.builds(
    Packet,
    device_uuid=names,
    readings=st.lists(
        st.builds(
            Item, sensor_uuid=names, value=numbers, ts=stamps, index=st.none() | st.integers(0, 2**31 - 1)
        ),
        min_size=1,
        max_size=5,
    ),
    ts=stamps,
    packet_id=st.one_of(st.none(), names),
)
plain = st.builds(Single, value=numbers, sensor_uuid=names, ts=past, device_uuid=st.one_of(st.none(), names))
singles = st.one_of(
    plain,
    st.builds(
        Single,
        value=numbers,
        sensor_id=st.one_of(names, st.integers(0, 2**63 - 1)),
        ts=stamps,
        packet_id=st.none() | names,
    ),
)
bad = st.sampled_from(
    [b"", b"{", b"null", b"\xff", b'{"value":1}', b'{"sensor_id":"a","value":NaN}', b'{"readings":[]}', None]
)


def chunk(values: list[bytes | None], timestamp: int = NOW, first_offset: int = 0) -> Chunk:
    """Make a chunk of these values, all of one timestamp."""
    offsets = np.arange(first_offset, first_offset + len(values), dtype=np.int64)
    return Chunk("readings", 0, offsets, np.full(len(values), timestamp, dtype=np.int64), values)


def identities(readings: Readings) -> list[tuple[int, int]]:
    """Return what makes each reading the same as another."""
    sensor = np.array([seed(name) for name in readings.sensor], dtype=np.uint64)
    keys = reading_keys(sensor, readings.ts, readings.value, readings.source)
    return list(zip(readings.dedupe_ms.tolist(), keys.tolist(), strict=True))


def columns(readings: Readings) -> list[tuple[object, ...]]:
    """Return the readings as rows, all but where they came from."""
    return list(
        zip(
            readings.sensor,
            readings.device,
            readings.value.tolist(),
            readings.ts.tolist(),
            readings.source.tolist(),
            readings.dedupe_ms.tolist(),
            strict=True,
        )
    )


@given(st.one_of(packets, singles))
def test_round_trip(parsed: Packet | Single) -> None:
    """What is encoded is understood as what it was."""
    assert parse(msgspec.json.encode(parsed)) == parsed


@given(st.binary(max_size=40))
@example(b"[" * 100_000)
@example(b'{"readings":' + b"[" * 100_000)
def test_arbitrary_bytes_are_parsed_or_rejected(body: bytes) -> None:
    """No bytes raise, whoever decodes them."""
    for read in (parse, parse_packet, parse_single):
        result = read(body)
        assert not isinstance(result, Rejected) or result.reason


@pytest.mark.parametrize(
    ("body", "field", "kind"),
    [
        (b'{"sensor_id":"a","value":"warm"}', "value", "invalid"),
        (b'{"sensor_id":"a","value":NaN}', "value", "invalid"),
        (b'{"sensor_id":"a","value":nan}', "value", "invalid"),
        (b'{"sensor_id":"a","value": -Infinity}', "value", "invalid"),
        (b'{"sensor_id":"a","value":1,"ts":+inf}', "ts", "invalid"),
        (b'{"sensor_id":"NaN: NaN","value":1,"ts":NaN}', "ts", "invalid"),
        (b'{"sensor_id":"NaN","ts":NaN}', "ts", "invalid"),
        (b'{"value":1,"sensor_id":"NaN" x}', None, "malformed"),
        (b'{"sensor_id":"a","value":1e309}', "value", "invalid"),
        (b'{"sensor_id":"a","value":1.1e100}', "value", "invalid"),
        (b'{"sensor_id":"a","value":1,"ts":4102444801}', "ts", "invalid"),
        (b'{"sensor_id":"a","value":1,"unit":"C"}', "unit", "invalid"),
        (b'{"value":1}', "sensor_uuid", "invalid"),
        (b'{"sensor_id":"a"}', "value", "invalid"),
        (b'{"sensor_id":"","value":1}', "sensor_id", "invalid"),
        (b'{"sensor_uuid":"%s","value":1}' % (b"x" * 129), "sensor_uuid", "invalid"),
        (b'{"device_uuid":"d","readings":[]}', "readings", "invalid"),
        (b'{"readings":[{"sensor_uuid":"a","value":1}]}', "device_uuid", "invalid"),
        (b'{"device_uuid":"d","readings":[{"sensor_uuid":"a","value":inf}]}', "readings[0].value", "invalid"),
        (b'{"device_uuid":"d","readings":[{"sensor_uuid":"a","x":1}]}', "readings[0].x", "invalid"),
        (b"[]", None, "invalid"),
        (b"", None, "malformed"),
        (b"NaN", None, "invalid"),
        (b'{"sensor_id":"a","value":1 NaN}', None, "malformed"),
        (b'{"sensor_id":"a","value":1', None, "malformed"),
        (b'{"sensor_id":"\xff","value":1}', None, "malformed"),
        (b'{"sensor_id":"\\ud800","value":1}', None, "malformed"),
        (None, None, "empty"),
    ],
)
def test_rejections_name_their_field(body: bytes | None, field: str | None, kind: str) -> None:
    """What is wrong is told with its field, and apart from what is no JSON."""
    fault = parse(body)
    assert isinstance(fault, Rejected)
    assert (fault.field, fault.kind) == (field, kind)


@given(st.lists(st.one_of(plain.map(msgspec.json.encode), bad), max_size=8), st.data())
def test_bad_record_costs_only_itself(values: list[bytes | None], data: st.DataObject) -> None:
    """With bad records among them, the good ones come to what they come to alone, each at its place."""
    at = data.draw(st.integers(0, len(values)))
    spoilt = [*values[:at], b"spoilt", *values[at:]]
    with_bad, without = decode(chunk(spoilt), SKEW), decode(chunk(values), SKEW)
    assert columns(with_bad) == columns(without)
    assert at in [fault.record for fault in with_bad.rejected]
    moved = np.where(without.record >= at, without.record + 1, without.record)
    assert with_bad.record.tolist() == moved.tolist()
    assert len(with_bad.rejected) == len(without.rejected) + 1


@given(st.lists(plain, min_size=1, max_size=6))
@example([Single(0.0, sensor_uuid="readings", ts=0.0)])
def test_columns_equal_the_general_path(rows: list[Single]) -> None:
    """The quick way for single readings gives what the general one gives, in every column."""
    values: list[bytes | None] = [msgspec.json.encode(row) for row in rows]
    quick, general = codec._decode_singles(chunk(values)), codec._decode_any(chunk(values))
    assert quick is not None
    assert columns(quick) == columns(general)
    assert np.signbit(quick.value).tolist() == np.signbit(general.value).tolist()
    assert quick.record.tolist() == general.record.tolist()


@pytest.mark.parametrize("beside", [b'{"sensor_id":"b","value":1,"ts":1}', b'{"sensor_id":7,"value":1}'])
@pytest.mark.parametrize("stamp", ["20231101", " 1700000000 ", "1e9", "nan"])
def test_a_time_in_letters_is_no_number_whatever_came_with_it(stamp: str, beside: bytes) -> None:
    """It is ISO 8601 or refused: a day without hyphens was taken for seconds where all other readings had numbers."""
    value = msgspec.json.encode(Single(1.0, sensor_id="a", ts=stamp))
    alone, amid = decode(chunk([value]), SKEW), decode(chunk([beside, value, beside]), SKEW)
    assert columns(alone) == [row for row in columns(amid) if row[0] == "a"]
    assert len(alone.rejected) == len(amid.rejected) == int(stamp != "20231101")


def test_a_long_chunk_is_decoded_in_parts() -> None:
    """Each reading at its place, in the quick way and, for one unusual record at the end, in the general one."""
    n = 2 * codec._AT_ONCE + 1
    values: list[bytes | None] = [b'{"sensor_id":"S%d","value":%d,"ts":%d}' % (i, i, i) for i in range(n)]
    quick, general = decode(chunk(values), SKEW), decode(chunk([*values, b""]), SKEW)
    assert quick.sensor == [f"s{i}" for i in range(n)]
    assert quick.ts.tolist() == [1_000 * i for i in range(n)]
    assert columns(quick) == columns(general)
    assert [fault.record for fault in general.rejected] == [n]


@given(names, names)
@example("SENSOR", "Ä")
@example("Z", "z")
@example("readings", "readings")
@example("İ", "ẞ")
def test_names_are_lowered(sensor: str, device: str) -> None:
    """Both paths, and the record's key, know a sensor and a device by their names in lower case."""
    single = msgspec.json.encode(Single(1.0, sensor_uuid=sensor, device_uuid=device, ts=1.0))
    packet = msgspec.json.encode(Packet(device, [Item(sensor, 1.0)], ts=1.0))
    for value in (single, packet):
        readings = decode(chunk([value, value]), SKEW)
        assert readings.sensor == [sensor.lower()] * 2
        assert readings.device == [device.lower()] * 2
        parsed = parse(value)
        assert not isinstance(parsed, Rejected)
        assert record_key(parsed) == device.lower()
    assert record_key(Single(1.0, sensor_uuid=sensor)) == sensor.lower()


def test_numeric_sensor_is_its_text() -> None:
    """The sensor 7 and the sensor "7" are one."""
    readings = decode(chunk([b'{"sensor_id":7,"value":1}', b'{"sensor_id":"7","value":1}']), SKEW)
    assert readings.sensor == ["7", "7"]
    assert record_key(Single(1.0, sensor_id=7)) == "7"


@pytest.mark.parametrize("wrap", [b'{"sensor_id":"a","ts":1,"value":%s}', b'{"sensor_id":"a","value":%s}'])
def test_negative_zero_is_zero(wrap: bytes) -> None:
    """-0.0 and 0.0 are one value, so that the reading has one identity."""
    readings = decode(chunk([wrap % b"-0.0", wrap % b"0"]), SKEW)
    assert not np.signbit(readings.value).any()


@given(moments, st.integers(-23, 23))
@example(datetime(2000, 1, 1, 0, 0, 0, 124_999, tzinfo=UTC), 0)
def test_iso_equals_epoch(moment: datetime, hours: int) -> None:
    """One instant is one millisecond: as seconds, as ISO 8601 in any zone, or without one for UTC."""
    expected = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    there = moment.astimezone(timezone(timedelta(hours=hours)))
    assert to_ms(moment.timestamp()) == expected
    assert to_ms(there.isoformat()) == expected
    assert to_ms(moment.replace(tzinfo=None).isoformat()) == expected


@given(st.integers(0, int(TS_LIMIT * 1000) - 1))
def test_milliseconds_survive_seconds(ms: int) -> None:
    """A whole millisecond as epoch seconds comes back, and half of one more does not round up."""
    assert to_ms(ms / 1000) == ms
    assert to_ms(ms / 1000 + 0.0005) == ms


@pytest.mark.parametrize("stamp", ["", "now", "1969-12-31T23:59:59Z", "2100-01-02", "2023-02-30"])
def test_impossible_times(stamp: str) -> None:
    """What is no time, or none between 1970 and 2100, is rejected under its field."""
    with pytest.raises(ValueError, match=r".+"):
        to_ms(stamp)
    value = msgspec.json.encode(Packet("d", [Item("a", 1.0), Item("b", 1.0, ts=stamp)], ts=1.0))
    readings = decode(chunk([value]), SKEW)
    assert readings.sensor == ["a"]
    assert [fault.field for fault in readings.rejected] == ["readings[1].ts"]


@pytest.mark.parametrize(
    "template", ['{"sensor_id":"%s","value":1,"ts":%r}', '{"sensor_id":7,"value":1,"ts":%r}']
)
def test_skew_is_measured_from_the_record(template: str) -> None:
    """A `ts` may be ahead of its own record's timestamp by the allowed skew, and not a millisecond more."""
    bodies: list[bytes | None] = [
        (template.replace("%s", str(ms)) % ((NOW + ms) / 1000)).encode() for ms in (0, SKEW, SKEW + 1)
    ]
    readings = decode(chunk(bodies), SKEW)
    assert readings.ts.tolist() == [NOW, NOW + SKEW]
    assert [(fault.field, fault.record) for fault in readings.rejected] == [("ts", 2)]
    assert len(decode(chunk(bodies, NOW + 1), SKEW)) == 3


def test_absent_time_is_the_record_s() -> None:
    """A reading without a `ts` takes its packet's, and that its record's."""
    rows = b'[{"sensor_uuid":"a","value":1},{"sensor_uuid":"b","value":1,"ts":3}]'
    body = b'{"device_uuid":"d","readings":' + rows + b"%s}"
    assert decode(chunk([body % b""]), SKEW).ts.tolist() == [NOW, 3_000]
    assert decode(chunk([body % b',"ts":2']), SKEW).ts.tolist() == [2_000, 3_000]


def test_readings_of_a_part_are_those_of_the_whole() -> None:
    """By its `index` a reading of a packet that lacks others is the same as in the whole packet."""
    items = [Item("a", 1.0), Item("b", 2.0), Item("c", 3.0, ts=3.0)]
    whole = decode(chunk([msgspec.json.encode(Packet("d", items, packet_id="p"))]), SKEW)
    part = [Item("b", 2.0, index=1), Item("c", 3.0, ts=3.0, index=2)]
    found = decode(chunk([msgspec.json.encode(Packet("d", part, packet_id="p"))], first_offset=9), SKEW)
    assert identities(found) == identities(whole)[1:]
    shifted = [Item("b", 2.0), Item("c", 3.0, ts=3.0)]
    other = decode(chunk([msgspec.json.encode(Packet("d", shifted, packet_id="p"))]), SKEW)
    assert not set(identities(other)) & set(identities(whole))


@pytest.mark.parametrize("more", [{}, {"device_uuid": "D"}, {"ts": 5.0}])
@pytest.mark.parametrize("beside", [[], [b'{"device_uuid":"d","readings":[{"sensor_uuid":"x","value":1}]}']])
def test_a_single_reading_is_known_by_its_packet_id(more: dict[str, Any], beside: list[bytes]) -> None:
    """A reading by itself with a `packet_id` is the same wherever and whenever it comes, and another with another."""
    found = []
    for place, packet_id in ((0, "p"), (7, "p"), (7, "q")):
        value = msgspec.json.encode(Single(1.0, sensor_uuid="A", packet_id=packet_id, **more))
        readings = decode(chunk([value, *beside], NOW + place, place), SKEW)
        found.append((int(readings.source[0]), int(readings.dedupe_ms[0])))
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_ticks_carry_no_reading() -> None:
    """A tick is neither a reading nor wrong."""
    values = [b'{"sensor_id":"a","value":1,"ts":1}', b""]
    offsets = np.arange(2, dtype=np.int64)
    ticked = Chunk("readings", 0, offsets, offsets + NOW, values, {1: ((TICK, b""),)})
    readings = decode(ticked, SKEW)
    assert (len(readings), readings.rejected) == (1, [])


def test_empty_chunk() -> None:
    """No records are no readings."""
    assert len(decode(chunk([]), SKEW)) == 0


def sent(offset: int, body: bytes) -> list[tuple[int, int]]:
    """Return the identities of the record's readings, sent at the offset (and a second later each time)."""
    return identities(decode(chunk([body], NOW + 1_000 * offset, offset), SKEW))


PACKET = b'{"device_uuid":"%s","readings":[{"sensor_uuid":"a","value":1},{"sensor_uuid":"a","value":1}]%s}'


@pytest.mark.parametrize(
    ("body", "identity"),
    [
        (b'{"sensor_id": "a", "value": 1.5, "ts": 1700000000}', [(1700000000000, 3390410805504319474)]),
        (b'{"sensor_id": "a", "value": 1.5}', [(1700000007000, 3815502054051663532)]),
        (b'{"sensor_id": "a", "value": 1.5, "packet_id": "p"}', [(0, 1208691946755780677)]),
        (
            b'{"device_uuid": "d", "readings": [{"sensor_uuid": "a", "value": 1.5}, {"sensor_uuid": "a", "value": 2}]}',
            [(1700000007000, 4357521058022284695), (1700000007000, 5213324380312451361)],
        ),
        (
            b'{"device_uuid": "d", "packet_id": "p", "ts": 5, "readings": [{"sensor_uuid": "a", "value": 1, "index": 3}]}',
            [(5000, 8974022051177979322)],
        ),
    ],
)
def test_golden_identities(body: bytes, identity: list[tuple[int, int]]) -> None:
    """These numbers are in databases: a change of one makes rows that are there come once more in a replay."""
    assert sent(7, body) == identity


def test_packet_sent_again_is_the_same() -> None:
    """With the same `packet_id`, or with the same times and values, what is sent again counts once."""
    for more in (b',"packet_id":"p"', b',"packet_id":"p","ts":5', b',"ts":5'):
        assert sent(1, PACKET % (b"d", more)) == sent(2, PACKET % (b"D", more))


def test_different_readings_are_different() -> None:
    """Another packet, device, place in a packet, time, value or sensor, or no time: another reading."""
    ids = [
        *sent(1, PACKET % (b"d", b',"packet_id":"p"')),
        *sent(1, PACKET % (b"d", b',"packet_id":"q"')),
        *sent(1, PACKET % (b"e", b',"packet_id":"p"')),
        *sent(1, PACKET % (b"d", b',"packet_id":"p","ts":5')),
        *sent(1, PACKET % (b"d", b"")),
        *sent(2, PACKET % (b"d", b"")),
        *sent(3, b'{"sensor_id":"a","value":1}'),
        *sent(4, b'{"sensor_id":"a","value":1}'),
        *sent(5, b'{"sensor_id":"a","value":1,"ts":5}'),
        *sent(6, b'{"sensor_id":"a","value":2,"ts":5}'),
        *sent(7, b'{"sensor_id":"a","value":1,"ts":6}'),
        *sent(8, b'{"sensor_id":"b","value":1,"ts":5}'),
    ]
    assert len(set(ids)) == len(ids)


def test_same_reading_by_either_way_in_is_the_same() -> None:
    """A reading with a `ts` is itself, whether it came in a packet or alone."""
    alone = sent(1, b'{"sensor_uuid":"A","value":1,"ts":5}')
    packed = sent(2, b'{"device_uuid":"d","readings":[{"sensor_uuid":"a","value":1.0}],"ts":5.0}')
    assert alone == packed
