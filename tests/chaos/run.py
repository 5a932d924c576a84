"""One run: start, load with faults, settle, stop, compare."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, time

import msgspec
from aiokafka import AIOKafkaProducer

from streamproc.kafka.broker import Installation
from streamproc.sink.rows import Decoder
from tests.chaos import compare
from tests.chaos.compare import Verdict
from tests.chaos.faults import Faults
from tests.chaos.load import Load
from tests.chaos.oracle import expected
from tests.chaos.packets import entries
from tests.chaos.plan import PARTITIONS, Plan
from tests.chaos.recovery import Recovery, recoveries
from tests.chaos.site import Ended, Site, Tell
from tests.live.oracle import committed, reading, registry_of

#: How long the stages may take to work off what is left, once the load has ended: after an outage some tens of seconds.
SETTLE_S = 150.0
#: Nothing has come for so long: ticks, which come twice a second, have closed what was open.
STILL_S = 4.0
#: What is compared, besides the database.
TOPICS = ("readings", "windows", "predictions", "events", "notifications", "late", "dead-letter", "registry")


@dataclass(slots=True)
class Outcome:
    """What a run has shown."""

    plan: Plan
    directory: Path
    verdict: Verdict = field(default_factory=Verdict)
    recoveries: list[Recovery] = field(default_factory=list)
    ends: list[Ended] = field(default_factory=list)
    stops: list[tuple[str, int, float]] = field(default_factory=list)
    unsure: dict[str, int] = field(default_factory=dict)
    unsettled: str = ""
    settled_s: float = 0.0
    #: Processes that wanted a CPU on average, in the last five minutes: beyond the number of CPUs, recoveries take longer.
    load: float = 0.0

    def slowest(self) -> Recovery | None:
        """The slowest recovery that was not cut short by the next fault."""
        told = [found for found in self.recoveries if found.seconds is not None]
        return max(told, key=lambda found: found.seconds or 0, default=None)

    def faults(self, bound_s: float) -> list[str]:
        """What is wrong, a line each."""
        found = [
            f"{name}: {dict(counter)}"
            for name in ("lost", "doubled", "different")
            if (counter := getattr(self.verdict, name))
        ]
        found += [
            f"slow: {told.kind}: {told.seconds or told.cut_s:.1f} s"
            for told in self.recoveries
            if (told.seconds or told.cut_s) > bound_s
        ]
        return [*found, *([self.unsettled] if self.unsettled else [])]

    def lines(self, bound_s: float) -> list[str]:
        """The report."""
        lines = list(self.verdict.lines)
        ends = Counter(f"{end.name} with {end.code}: {end.reason}" for end in self.ends)
        lines += [f"ended by itself {count} times: {end}" for end, count in ends.items()]
        lines += [
            f"recovery: {told.kind}: "
            + (f"{told.seconds:.1f} s" if told.seconds is not None else f"none within {told.cut_s:.1f} s")
            + (f", all partitions {told.all_s:.1f} s" if told.all_s is not None else "")
            for told in self.recoveries
        ]
        slow = [
            f"{name} {seconds:.1f} s (exit {code})"
            for name, code, seconds in self.stops
            if seconds > 5 or code
        ]
        lines += [f"stopped slowly or with an error: {', '.join(slow)}"] if slow else []
        lines += [f"compared: {dict(self.verdict.compared)}", f"not acknowledged: {self.unsure}"]
        return [*lines, self.line(), *(f"WRONG: {fault}" for fault in self.faults(bound_s))]

    def line(self) -> str:
        """One line of the table of seeds."""
        slowest = self.slowest()
        lost, doubled, different = (
            sum(counter.values())
            for counter in (self.verdict.lost, self.verdict.doubled, self.verdict.different)
        )
        recovery = f"{slowest.seconds:.1f} s ({slowest.kind})" if slowest else "none measured"
        return (
            f"seed {self.plan.seed} | {self.plan.profile} | {self.plan.seconds:.0f} s | {len(self.plan.faults)} faults | "
            f"{self.verdict.compared['readings']} readings | {lost} lost | {doubled} doubled | {different} different | "
            f"slowest recovery {recovery} | settled in {self.settled_s:.0f} s | load {self.load:.1f} of {os.cpu_count()}"
        )

    def remove(self) -> None:
        """Remove what the run has written."""
        shutil.rmtree(self.directory, ignore_errors=True)


async def run(plan: Plan, installation: Installation, directory: Path, tell: Tell) -> Outcome:
    """Run a plan to its end."""
    tell(
        f"seed {plan.seed}: {plan.profile}, {plan.workers} workers{' (static)' if plan.static else ''}, "
        f"{plan.sinks} sinks, checkpoints every {plan.checkpoint_s} s, {len(plan.faults)} faults in {plan.seconds:.0f} s"
    )
    outcome = Outcome(plan, directory)
    site = Site(plan, installation, directory, tell)
    try:
        await site.start()
        await _register(site)
        site.run_stages()
        await _drive(site, outcome)
    finally:
        await site.close()
    return outcome


async def _register(site: Site) -> None:
    """Put the ranges on the topic `registry` before a worker looks."""
    producer = AIOKafkaProducer(bootstrap_servers=site.bootstrap, acks="all")
    await producer.start()
    try:
        for entry in entries(site.plan):
            await producer.send(site.topic("registry"), msgspec.json.encode(entry), entry.sensor.encode())
        await producer.flush()
    finally:
        await producer.stop()


async def _drive(site: Site, outcome: Outcome) -> None:
    load = Load(site.plan, site.bootstrap, site.prefix, site.gateway)
    load.start()
    faults = Faults(site, load.elapsed)
    fast = [fault for fault in site.plan.faults if not fault.kind.startswith("database")]
    slow = [fault for fault in site.plan.faults if fault.kind.startswith("database")]
    async with asyncio.TaskGroup() as group:
        group.create_task(faults.run(tuple(fast)))
        group.create_task(faults.run(tuple(slow)))
    while load.elapsed() < site.plan.seconds:
        load.check()
        await asyncio.sleep(0.2)
    end_ms = int(time() * 1000)
    outcome.load = os.getloadavg()[1]
    await load.stop()
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
    outcome.recoveries = recoveries(faults.broken, faults.begun, end_ms, held)
    registry = registry_of(held["registry"][0])
    wanted = await asyncio.to_thread(expected, held["readings"], site.prefix, registry, site.plan.seed)
    outcome.verdict.compared["registry edits"] = len(registry)
    compare.acknowledged(outcome.verdict, load.journal, held["readings"], wanted)
    compare.topics(outcome.verdict, held, wanted)
    compare.database(outcome.verdict, site.database, wanted)


async def _settle(site: Site) -> str:
    """Wait until everything was worked off and no ticks come; else what is left."""
    deadline = monotonic() + SETTLE_S
    still_since = monotonic()
    ends_before: dict[tuple[str, int], int] = {}
    left = "nothing looked at"
    while monotonic() < deadline:
        ends = await _ends(site)
        if ends != ends_before:
            still_since, ends_before = monotonic(), ends
        left = await _left(site, ends)
        if not left and monotonic() - still_since > STILL_S:
            return ""
        await asyncio.sleep(0.25)
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
    offsets = await asyncio.to_thread(_offsets, site)
    behind += [
        f"sink {place[0]}/{place[1]}: {offsets.get(place, 0)} of {end}"
        for place, end in ends.items()
        if offsets.get(place, 0) < end
    ]
    return "; ".join(behind)


def _offsets(site: Site) -> dict[tuple[str, int], int]:
    try:
        held = sqlite3.connect(f"file:{site.database}?mode=ro", uri=True)
    except sqlite3.OperationalError:
        return {}
    try:
        rows = held.execute('SELECT topic, "partition", next_offset FROM stream_offsets').fetchall()
    except sqlite3.OperationalError:
        return {}
    finally:
        held.close()
    return {(topic, partition): offset for topic, partition, offset in rows}
