"""A trial in a real stream: it tells nobody what it would have told, is compared with what was told, and is made live."""

from __future__ import annotations

import asyncio
from time import time

from aiokafka import AIOKafkaProducer

from tests.live.feed import packet, send
from tests.live.pipeline import select
from tests.live.processes import Site, eventually

TRIED = "SELECT cause, severity FROM trial_events"
TOLD = "SELECT event_code FROM ml_events"


async def command(site: Site, *words: str) -> str:
    """What `streamproc WORDS` prints; it succeeds."""
    stage = await site.start(words[0], "-m", "streamproc", *words)
    code = await stage.ended()
    text = stage.log.read_text()
    assert code == 0, text
    return text


async def test_a_trial_is_compared_and_made_live(site: Site, producer: AIOKafkaProducer) -> None:
    """Of a jump the trial alone would have told; once it is promoted, people are told."""
    entries = site.directory / "sensors.yaml"
    entries.write_text("- {sensor: tank, device: d, kind: pump}\n", "utf-8")
    await asyncio.gather(site.worker(), site.sink())
    await command(site, "registry", "import", str(entries))
    # Each look is a second of the tank's: however often one has to look, none is ahead of the clock.
    topic, second = f"{site.prefix}readings", int(time()) - 86_400

    async def one(value: float) -> None:
        nonlocal second
        second += 1
        await (await send(producer, topic, "d", packet("d", "tank", value, second)))

    await one(20.0)
    await command(
        site, "trial", "add", "jumps", "--kind", "pump", "--rule", "{rule: delta_spike, absolute: 5}"
    )

    async def tried() -> bool:
        await one(20.0)
        return ("begun", "NORMAL") in select(site, TRIED)

    async def jumped() -> bool:
        await one(80.0)
        return ("delta_spike", "WARN") in select(site, TRIED)

    await eventually(tried)
    await eventually(jumped)
    assert select(site, TOLD) == []
    shown = await command(site, "trial", "report", "jumps")
    assert "alarms told 0, by the trial 1: 0 of both, 0 only told, 1 only by the trial" in shown

    await command(site, "trial", "promote", "jumps")

    async def told() -> bool:
        await one(20.0)
        await one(80.0)
        return ("delta_spike",) in select(site, TOLD)

    await eventually(told)
    assert "no trials" in await command(site, "trial", "list")
