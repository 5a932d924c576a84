"""Rules of sudden changes and owners of sensors in a real stream: as the core says, in the database and in a replay too."""

from __future__ import annotations

import asyncio
from time import time

import msgspec
from aiokafka import AIOKafkaProducer

from streamproc.records import (
    DeadLetter,
    DeltaSpike,
    Expression,
    NoData,
    Range,
    SensorEntry,
    Severity,
    SeverityEvent,
)
from tests.live.feed import packet, send, signal
from tests.live.oracle import Reader
from tests.live.pipeline import select
from tests.live.processes import Site, eventually
from tests.live.test_replay import replay
from tests.live.worked import feed, limit, until_checkpointed, until_more, until_settled, written

#: Of the made signal: device 0 goes from 20 to 100 and back, and noise moves by up to 6 or so.
RULES = (
    DeltaSpike(absolute=3.0),
    DeltaSpike(absolute=40.0, percent=50.0, within_seconds=5.0, severity=Severity.CRITICAL),
)


def owned(device: int, version: int) -> list[SensorEntry]:
    """Entries by which two sensors of the made signal are this device's."""
    warning = Range(0, 60, clear_high=30)
    return [
        SensorEntry(f"sensor-{number}", f"device-{device}", warning=warning, rules=RULES, version=version)
        for number in range(2)
    ]


async def test_owners_and_rules_have_their_place_amid_kills(
    site: Site, producer: AIOKafkaProducer, reader: Reader
) -> None:
    """Sensors go from device to device while a worker is killed: letters and events are those of the core, each once."""
    made = signal(4, 1_000)
    worker = await site.worker(STREAMPROC_GROUP_INSTANCE_ID="w")
    for version, device in enumerate((0, 1, 0), 1):
        await feed(site, producer, 4, made)
        await until_checkpointed(site)
        before = await written(reader)
        await asyncio.gather(feed(site, producer, 12, made), limit(site, producer, *owned(device, version)))
        await until_more(reader, before)
        worker.kill()
        await worker.ended()
        worker = await site.worker(STREAMPROC_GROUP_INSTANCE_ID="w")
    await feed(site, producer, 20, made)
    results = await until_settled(site, reader)
    letters = [msgspec.json.decode(raw, type=DeadLetter) for raws in results.letters.values() for raw in raws]
    reasons = {letter.reason for letter in letters}
    assert {
        "readings[0].sensor_uuid: sensor sensor-0 is registered to device device-1, not to device-0",
        "readings[0].sensor_uuid: sensor sensor-1 is registered to device device-0, not to device-1",
    } == reasons
    told = [msgspec.json.decode(row[0], type=SeverityEvent) for row in results.events.values()]
    assert "delta_spike" in {event.cause for event in told}


async def test_a_jump_is_a_row_that_a_replay_makes_again(
    site: Site, producer: AIOKafkaProducer, reader: Reader
) -> None:
    """With its code and words."""
    entry = SensorEntry("tank", "d", name="Tank", unit="bar", rules=RULES)
    await limit(site, producer, entry)
    await asyncio.gather(site.worker(), site.sink())
    topic, begin = f"{site.prefix}readings", int(time()) // 10 * 10 - 600
    for second in range(60):
        value = 20.0 if second < 30 else 80.0
        await (await send(producer, topic, "d", packet("d", "tank", value, begin + second)))

    query = "SELECT event_code, severity, message FROM ml_events"

    async def recovered() -> bool:
        return {"delta_spike", "recovered"} <= {row[0] for row in select(site, query)}

    await eventually(recovered)
    (jump,) = [row for row in select(site, query) if row[0] == "delta_spike"]
    assert jump[1] == "CRITICAL"
    assert jump[2].startswith("Tank went from 20 bar to 80 bar in 1 s, at ")
    await until_settled(site, reader)
    await until_checkpointed(site)  # a replay compares what is committed, which comes after what is told
    code, found, text = await replay(site)
    assert (code, found) == (0, []), text


async def test_silence_and_windows_are_judged_live(
    site: Site, producer: AIOKafkaProducer, reader: Reader
) -> None:
    """Set while it runs; a silent partition's ticks tell of the silence, a reading ends it, and a replay says the same."""
    rules = (NoData(8.0, severity=Severity.CRITICAL), Expression("mean_1s > 50 and count_1s == 1"))
    await asyncio.gather(site.worker(), site.sink())
    await limit(site, producer, SensorEntry("tank", "d", name="Tank", unit="bar", rules=rules))
    topic, query = f"{site.prefix}readings", "SELECT event_code, severity, message FROM ml_events"

    async def told(code: str, value: float | None) -> tuple[str, str]:
        """Severity and message of the first row of this code; meanwhile readings, where there are to be some."""

        async def rows() -> list[tuple[str, str]]:
            if value is not None:
                await (await send(producer, topic, "d", packet("d", "tank", value, int(time()))))
            return [(severity, text) for its, severity, text in select(site, query) if its == code]

        return (await eventually(rows))[0]

    severity, text = await told("expression", 60.0)
    assert (severity, text[:19]) == ("WARN", "Tank meets the rule")
    severity, text = await told("silence", None)
    assert (severity, text[:30]) == ("CRITICAL", "Tank has sent nothing for 8 s,")
    assert (await told("recovered", 20.0))[0] == "NORMAL"
    await until_settled(site, reader)
    await until_checkpointed(site)  # a replay compares what is committed, which comes after what is told
    code, found, text = await replay(site)
    assert (code, found) == (0, []), text
