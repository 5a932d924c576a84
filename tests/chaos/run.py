"""One run: start, load with faults, settle, stop, compare."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
from aiokafka.errors import KafkaError

from streamproc import topics
from streamproc.kafka import clients
from streamproc.kafka.broker import Installation
from streamproc.sink.rows import Decoder
from tests.chaos import compare
from tests.chaos.faults import Faults
from tests.chaos.load import Load
from tests.chaos.moments import Progress, now_ms, offsets
from tests.chaos.oracle import expected
from tests.chaos.orders import at_first
from tests.chaos.outcome import Outcome
from tests.chaos.packets import entries
from tests.chaos.plan import Plan
from tests.chaos.recovery import Evidence, recoveries
from tests.chaos.site import Site, Tell
from tests.live.oracle import PARTITIONS, committed, reading, registry_of

#: How long the stages may take to work off what is left, once the load has ended: after an outage some tens of seconds.
SETTLE_S = 150.0
#: Nothing has come for so long: ticks, which come twice a second, have closed what was open.
STILL_S = 4.0
#: Longest that all but the load may take: a start of 60 s, what producers still have to bring to its end (75 s), settling,
#: a SIGTERM of 30 s for each of eight processes, and a comparison, which takes 20 s on an idle machine. Beyond, it hangs.
BESIDES_S = 900.0
#: What is read at the end: all but the engine's own memory.
TOPICS = tuple(spec.name for spec in topics.load() if spec.name not in {"checkpoints", "snapshots"})

#: Records by topic and partition.
Held = dict[str, dict[int, list[Any]]]

_log = logging.getLogger(__name__)


async def run(plan: Plan, installation: Installation, directory: Path, tell: Tell) -> Outcome:
    """Run a plan to its end."""
    tell(
        f"seed {plan.seed}: {plan.profile}, {plan.workers} workers{' (static)' if plan.static else ''}, "
        f"{plan.sinks} sinks, checkpoints every {plan.checkpoint_s} s, {len(plan.faults)} faults in {plan.seconds:.0f} s"
    )
    outcome = Outcome(plan, directory)
    site = Site(plan, installation, directory, tell)
    try:
        async with asyncio.timeout(plan.seconds + BESIDES_S):
            await site.start()
            await _register(site)
            site.run_stages()
            await _drive(site, outcome)
    except TimeoutError:
        _log.exception("the run hangs")
        outcome.unsettled = f"not over within {plan.seconds + BESIDES_S:.0f} s (driver.log tells where)"
    except Exception as error:  # noqa: BLE001  # a seed's edge: the next one is to run all the same
        _log.exception("the run broke off")
        outcome.unsettled = f"broke off: {error!r} (driver.log has more)"
    finally:
        await site.close()
    return outcome


async def _register(site: Site) -> None:
    """Put ranges, rules and how people are told on the topic `registry` before a worker looks."""
    producer = clients.producer(site.bootstrap, acks="all")
    await producer.start()
    try:
        for entry in entries(site.plan):
            await producer.send(site.topic("registry"), msgspec.json.encode(entry), entry.sensor.encode())
        for document in at_first():
            await producer.send(site.topic("registry"), msgspec.json.encode(document), document.key.encode())
        await producer.flush()
    finally:
        await producer.stop()


async def _drive(site: Site, outcome: Outcome) -> None:
    load = Load(site.plan, site.bootstrap, site.prefix, site.gateway, site.database)
    faults = Faults(site, load.elapsed)
    progress = Progress(site.database, faults.moments)
    load.start()
    begin_ms = now_ms()
    try:
        await _under_load(site, load, faults, progress)
        end_ms = now_ms()
        outcome.load = os.getloadavg()[1]
        await load.stop()
    finally:
        await load.abandon()
    outcome.unsure = load.journal.refused
    began = monotonic()
    outcome.unsettled = await _settle(site)
    outcome.settled_s = monotonic() - began
    for kept in site.kept():
        kept.hold()
        await kept.terminate()
    outcome.stops = [(kept.name, code, seconds) for kept in site.kept() for code, seconds in kept.stops]
    outcome.ends = [end for kept in site.kept() for end in kept.ends]
    async with reading(site.bootstrap, site.prefix, *TOPICS) as reader:
        held = {topic: await reader.read(topic) for topic in TOPICS}
    partition, *silent = site.plan.silence
    begin, end = (begin_ms + round(seconds * 1000) for seconds in silent)
    evidence = Evidence(held, progress.seen, load.taken, (partition, begin, end), site.prefix)
    outcome.recoveries = recoveries(faults.moments, end_ms, evidence)
    await _compare(site, outcome, load, held)


async def _compare(site: Site, outcome: Outcome, load: Load, held: Held) -> None:
    """Compare what is there with what should be."""
    registry = registry_of(held["registry"][0])
    wanted = await asyncio.to_thread(expected, held["readings"], site.prefix, registry, site.plan.seed)
    outcome.verdict.compared["registry edits"] = len(registry)
    outcome.verdict.compared["foreign readings"] = wanted.foreign
    compare.acknowledged(outcome.verdict, load.journal, held["readings"], wanted)
    compare.topics(outcome.verdict, held, wanted)
    compare.database(outcome.verdict, site.database, wanted)


async def _under_load(site: Site, load: Load, faults: Faults, progress: Progress) -> None:
    """Do the faults until the load's time is over."""
    kinds = site.plan.faults
    async with asyncio.TaskGroup() as group:
        group.create_task(faults.run(tuple(kind for kind in kinds if not kind.kind.startswith("database"))))
        group.create_task(faults.run(tuple(kind for kind in kinds if kind.kind.startswith("database"))))
        group.create_task(progress.run(load.runs))
        group.create_task(_check(load))


async def _check(load: Load) -> None:
    """Wait for the end of the load; raises what ended a producer too soon."""
    while load.runs():
        load.check()
        await asyncio.sleep(0.2)


async def _settle(site: Site) -> str:
    """Wait until everything was worked off and no ticks come; else what is left."""
    deadline = monotonic() + SETTLE_S
    still_since = monotonic()
    ends_before: dict[tuple[str, int], int] = {}
    left = "nothing looked at"
    while monotonic() < deadline:
        await asyncio.sleep(0.25)
        try:
            ends = await _ends(site)
            left = await _left(site, ends)
        except KafkaError as error:  # a broker that is back may still be loading its groups
            left = repr(error)
            continue
        if ends != ends_before:
            still_since, ends_before = monotonic(), ends
        if not left and monotonic() - still_since > STILL_S:
            return ""
    return f"not settled within {SETTLE_S:.0f} s: {left or 'records still come'}"


async def _ends(site: Site) -> dict[tuple[str, int], int]:
    async with reading(site.bootstrap, site.prefix, *Decoder.TOPICS) as reader:
        places = reader._consumer.assignment()
        ends = await reader._consumer.end_offsets(list(places))
    return {(place.topic, place.partition): end for place, end in ends.items()}


async def _left(site: Site, ends: dict[tuple[str, int], int]) -> str:
    """What is not worked off yet, in words."""
    topic = site.topic("readings")
    done = await committed(site.bootstrap, f"{site.prefix}streamproc-worker", topic)
    behind = [
        f"worker {number}: {done.get(number, (0, ''))[0]} of {ends[topic, number]}"
        for number in range(PARTITIONS)
        if done.get(number, (0, ""))[0] < ends[topic, number]
    ]
    stored = await asyncio.to_thread(offsets, site.database)
    behind += [
        f"sink {place[0]}/{place[1]}: {stored.get(place, 0)} of {end}"
        for place, end in ends.items()
        if stored.get(place, 0) < end
    ]
    return "; ".join(behind)
