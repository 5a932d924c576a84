"""`streamproc explain` as its users run it: events that a real worker has told, made once more of what Kafka keeps."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from time import time

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete

from streamproc.kafka import clients
from streamproc.records import DeltaSpike, Range, SensorEntry
from tests.live.feed import packet, send
from tests.live.pipeline import select
from tests.live.processes import Site, eventually
from tests.live.worked import limit

#: Each starts some processes, a second each and more beside others' work.
pytestmark = pytest.mark.timeout(600)
ENTRY = SensorEntry(
    "tank",
    "d",
    name="Tank",
    unit="bar",
    kind="Pressure",
    critical=Range(high=90.0),
    rules=(DeltaSpike(absolute=3.0),),
)
_EVENTS = "SELECT event_id, event_code, recommended_action FROM ml_events ORDER BY id"


async def explain(site: Site, *words: str, **variables: str) -> tuple[int, str]:
    """Run the command to its end: its exit code, and what it printed."""
    stage = await site.start("explain", "-m", "streamproc", "explain", *words, **variables)
    code = await stage.ended()
    return code, stage.log.read_text()


async def told(site: Site, producer: AIOKafkaProducer) -> dict[str, tuple[str, str]]:
    """Feed jumps and breaches until users' words are told; an event's id and its action by cause."""
    topic, at = f"{site.prefix}readings", int(time()) // 10 * 10 - 36_000

    async def come() -> dict[str, tuple[str, str]] | None:
        nonlocal at
        for value in (*[20.0] * 25, 30.0, 95.0, *[20.0] * 25):
            at += 1
            await (await send(producer, topic, "d", packet("d", "tank", value, at)))
        found = {code: (event_id, action) for event_id, code, action in select(site, _EVENTS)}
        theirs = found.get("delta_spike", ("", ""))[1] == "Call Ann."
        return found if theirs and {"recovered", "critical_range"} <= found.keys() else None

    found = await eventually(come)
    assert found is not None
    return found


async def test_events_come_out_the_same(site: Site, producer: AIOKafkaProducer) -> None:
    """Each kind, with the words that users had set by then; one that was tampered with, unknown or gone is told."""
    await limit(site, producer, ENTRY)
    await asyncio.gather(site.worker(), site.sink())
    words = ("action", "set", "pressure", "delta_spike", "Call Ann.")
    assert await (await site.start("set", "-m", "streamproc", "registry", *words)).ended() == 0
    found = await told(site, producer)
    for cause, (event_id, _) in found.items():
        code, text = await explain(site, event_id)
        assert code == 0, text
        assert f"{cause}, sensor tank" in text
        assert "comes out the same: yes, byte for byte" in text
    event_id, _ = found["delta_spike"]
    nowhere = str(site.directory / "none.db")
    code, text = await explain(
        site, event_id, "--json", STREAMPROC_DATABASE=nowhere, STREAMPROC_LANGUAGE="es"
    )
    answer = json.loads(text.strip().splitlines()[-1])
    assert (code, answer["same"], answer["recomputed"]["language"]) == (0, True, "en")
    assert answer["found_in"].startswith(f"{site.prefix}events, partition ")
    assert answer["event"]["recommended_action"] == "Call Ann."
    with closing(sqlite3.connect(site.database)) as database, database:
        database.execute("UPDATE ml_events SET message = 'All is well.' WHERE event_id = ?", (event_id,))
    code, text = await explain(site, event_id)
    assert (code, 'explanation: "All is well." then, "Tank ' in text) == (1, True), text
    code, text = await explain(site, "0" * 32)
    assert (code, "the database does not have it, and the topic" in text) == (2, True), text
    await forget(site, answer["event"]["lineage"]["partition"])
    code, text = await explain(site, event_id)
    assert (code, "its records are gone" in text) == (3, True), text


async def forget(site: Site, partition: int) -> None:
    """Have Kafka delete all records of a partition of `readings`."""
    admin = clients.admin(site.bootstrap)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(f"{site.prefix}readings", partition): RecordsToDelete(-1)})
    finally:
        await admin.close()
