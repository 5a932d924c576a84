"""Bodies with more faults than are told: what is right of them is taken all the same, and the rest counted."""

from __future__ import annotations

import msgspec
import pytest

from streamproc.gateway.access import Writer
from streamproc.gateway.answers import Fault
from streamproc.gateway.batch import FAULTS_TOLD
from streamproc.gateway.intake import Batch, Limits, Terms, bulk, packets
from tests.shell.served import ANYONE, BULK, PACKETS, MemoryPublisher, metrics, problem, serving

NOW_MS = 1_700_000_000_000
BAD, GOOD = b'{"sensor_uuid":"a","value":NaN}', b'{"sensor_uuid":"a","value":1}'
LATE = b'{"sensor_uuid":"a","value":1,"ts":4e9}'


def packed(*readings: bytes) -> bytes:
    """Make a packet of readings that knows their places."""
    return b'{"device_uuid":"d","packet_id":"p","readings":[%s]}' % b",".join(readings)


def batch_of(body: bytes, writer: Writer = ANYONE) -> Batch:
    """Understand packets."""
    batch = packets(body, Terms(Limits(10_000, 60_000), NOW_MS, writer))
    assert isinstance(batch, Batch)
    return batch


async def test_what_is_right_of_a_packet_is_taken_whatever_number_is_wrong() -> None:
    """5,000 of 10,000 values are NaN: the others are on the topic in their places, and no reading goes untold of."""
    publisher = MemoryPublisher()
    async for client in serving(publisher, body_limit_bytes=1_000_000, packet_readings_limit=10_000):
        response = await client.post(PACKETS, data=packed(*[BAD, GOOD] * 5_000))
        assert response.status == 207
        answer = await response.json()
        assert (answer["accepted"], answer["rejected"]) == (5_000, 5_000)
        [result] = answer["results"]
        assert (result["accepted"], len(result["rejected"]), result["untold"]) == (5_000, 1_000, 4_000)
        assert [fault["index"] for fault in result["rejected"]] == [*range(0, 2_000, 2)]
        text = await metrics(client)
        assert 'streamproc_gateway_refused_total{field="value",kind="invalid"} 1000.0' in text
        assert 'streamproc_gateway_refused_total{field="",kind="invalid"} 4000.0' in text
        response = await client.post(PACKETS, data=packed(*[BAD] * 5_000))
        told = await problem(response, 422, "invalid")
        assert (told["accepted"], told["rejected"], len(told["errors"])) == (0, 5_000, 100)
    [(message, _)] = publisher.sent
    readings = msgspec.json.decode(message.value)["readings"]
    assert [reading["index"] for reading in readings] == [*range(1, 10_000, 2)]


async def test_of_readings_by_themselves_each_has_its_result() -> None:
    """A bulk of more NaNs than are told: the others are taken."""
    row, bad = b'{"sensor_id":1,"value":1}', b'{"sensor_id":1,"value":NaN}'
    publisher = MemoryPublisher()
    async for client in serving(publisher, body_limit_bytes=1_000_000, packet_readings_limit=10_000):
        response = await client.post(BULK, data=b"[%s]" % b",".join([bad, row] * 2_000))
        assert response.status == 207
        answer = await response.json()
        assert (answer["accepted"], answer["rejected"], len(answer["results"])) == (2_000, 2_000, 4_000)
    assert len(publisher.sent) == 2_000


@pytest.mark.parametrize("bad", [LATE, BAD.replace(b"NaN", b'"x"')])
def test_a_later_packet_has_its_right_readings_taken(bad: bytes) -> None:
    """After as many faults as are told, too; those of its readings that are wrong are counted."""
    body = b"[%s,%s,%s]" % (packed(*[bad] * 1_000, GOOD), packed(GOOD, bad, GOOD), packed(bad))
    first, second, third = batch_of(body).results
    assert (first.status, first.accepted, len(first.rejected), first.untold) == ("partial", 1, 1_000, 0)
    assert (second.status, second.accepted, second.rejected, second.untold) == ("partial", 2, [], 1)
    assert (third.status, third.accepted, len(third.rejected)) == ("rejected", 0, 1)
    assert "beyond the 1000" in third.rejected[0].reason


def test_faults_of_every_sort_come_to_one_number() -> None:
    """What was not understood, and what the writer may not write, are told and counted together."""

    def refuses(_: str | None, sensor: str) -> Fault | None:
        return Fault("foreign-sensor", "another's") if sensor == "b" else None

    foreign = GOOD.replace(b'"a"', b'"b"')
    batch = batch_of(packed(*[foreign] * 700, GOOD, *[BAD] * 700), Writer(refuses))
    [result] = batch.results
    assert (batch.accepted, batch.rejected, batch.untold) == (1, 1_400, 400)
    assert (len(result.rejected), result.untold) == (FAULTS_TOLD, 400)


def test_a_bulk_of_many_faults_is_bounded_by_its_readings() -> None:
    """More readings than may come at once are refused before any is looked at."""
    body = b"[%s]" % b",".join([b'{"sensor_id":1,"value":NaN}'] * 10_001)
    found = bulk(body, Terms(Limits(10_000, 60_000), NOW_MS, ANYONE))
    assert isinstance(found, Fault)
    assert found.kind == "too-many-readings"
