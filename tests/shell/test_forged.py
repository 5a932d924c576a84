"""Who can write to `readings` can write any header: what comes of it is messages that the sink reads, and ends no worker."""

from __future__ import annotations

import json
import random
from collections import defaultdict

import numpy as np
import pytest

from streamproc.core.checkpoint import resume, snapshot
from streamproc.core.chunk import EDIT, LETTER, MOVED, REDRIVEN, TICK, Chunk
from streamproc.core.engine import Options, PartitionState, run
from streamproc.core.registry import RegistryLog
from streamproc.engine.outputs import messages
from streamproc.records import DeltaSpike, NoData, Range, RateOfChange, SensorEntry, StuckValue
from streamproc.sink.rows import Decoder
from tests.core.oracle import NOW

#: A second each.
pytestmark = pytest.mark.live

SENSORS = ("a", "b", "41", "İ", "\x00", "x" * 128)
STAMPS = (0, NOW / 1000, NOW / 1000 + 86_400, 4_102_444_800, "1970-01-01", "9999-12-31T23:59:59-23:59", -1)
VALUES = (0, -0.0, 1e100, -1e100, 5e-324, 61, None, "x", True)
TIMES = (-1, 0, NOW, NOW + 10_000, 4_102_444_800_000, 10**13 - 1, 10**15 - 1)
RULES = (DeltaSpike(absolute=0.6), NoData(2.0), StuckValue(3.0), RateOfChange(0.5, window="5s"))
OUTPUTS = {"windows", "predictions", "events", "notifications"}
#: Refused by the sink with this reason: windows of times that no reading can have, of records that say that they came then.
NO_TIME = "a time is not between"


def header(chance: random.Random) -> tuple[str, bytes | None]:
    """One of the engine's own, nearly right."""
    place = b"%d:%d:%d" % (chance.choice((0, 1, 999_999_999)), chance.randrange(50), chance.choice(TIMES))
    name = chance.choice((MOVED, REDRIVEN, MOVED, REDRIVEN, LETTER, EDIT, TICK))
    return name, chance.choice(
        (place, place, place, b"%d" % chance.randrange(9), b"9" * 40, b"sink:1:0:3", None)
    )


def value(chance: random.Random) -> bytes:
    """A reading by itself or a packet of two, mostly right."""
    items = []
    for _ in range(2):
        item: dict[str, object] = {"sensor_uuid": chance.choice(SENSORS), "value": chance.gauss(50, 8)}
        if chance.random() < 0.2:
            item["value"] = chance.choice(VALUES)
        items.append(item | ({"ts": chance.choice(STAMPS)} if chance.random() < 0.2 else {}))
    packet = {"device_uuid": chance.choice("de"), "readings": items, "packet_id": chance.choice("pqrs")}
    return json.dumps(packet if chance.random() < 0.5 else items[0]).encode()


@pytest.mark.parametrize("number", range(12))
def test_forged_headers_end_no_worker(number: int) -> None:
    """Nothing raises, what is told can be read, and a snapshot is the state, whatever records say of themselves."""
    chance, log = random.Random(number), RegistryLog()  # noqa: S311  # not for secrets
    for position, name in enumerate(SENSORS):
        entry = SensorEntry(name, warning=Range(-4, 60), critical=Range(-5, 5e8), rules=RULES)
        log.append(position, NOW - 1, name, entry)
    state = PartitionState(Options("readings", 0, 1, allowed_skew_ms=86_400_000))
    told, clock = defaultdict[str, list[bytes | None]](list), NOW
    for offset in range(0, 600, 30):
        stamps = np.cumsum([chance.choice((0, 5, 1_000)) for _ in range(30)]) + clock
        clock = int(stamps[-1])
        headers = {i: (header(chance), header(chance))[: chance.randrange(1, 3)] for i in range(0, 30, 3)}
        values = [value(chance) for _ in range(30)]
        made = Chunk("readings", 0, np.arange(offset, offset + 30), stamps, values, headers)
        for part, out in run(state, made, log):
            for message in messages(state, part, out):
                told[message.topic].append(message.value)
        state = resume(state.options, snapshot(state))
    for topic in OUTPUTS & told.keys():
        numbers = np.arange(len(told[topic]))
        piece = Decoder(86_400_000).piece(Chunk(topic, 0, numbers, numbers + NOW, told[topic]))
        assert [letter.reason for letter in piece.letters if NO_TIME not in letter.reason] == []
    assert told["events"]
