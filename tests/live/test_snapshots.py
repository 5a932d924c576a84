"""Snapshots on a real topic, and what a worker does with them when its checkpoint is of no use."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete
from faust.types import TP

from streamproc.core.checkpoint import Snapshot, resume, snapshot
from streamproc.core.engine import Options, run
from streamproc.core.registry import RegistryLog
from streamproc.engine.outputs import messages
from streamproc.engine.snapshots import Snapshots, find
from streamproc.kafka import clients
from streamproc.kafka.columns import gather
from streamproc.settings.connection import Connection
from streamproc.topics import apply, load, plan, prefixed
from tests.core.oracle import HERE, NOW, Reading, Record, feed, new_state
from tests.live.feed import signal
from tests.live.oracle import (
    PARTITIONS,
    Reader,
    Results,
    committed,
    expected,
    found,
    registry_of,
)
from tests.live.processes import Site, Stage, eventually
from tests.live.worked import feed as produce
from tests.live.worked import until_checkpointed

#: A snapshot a second, where there are new records.
OFTEN = {"STREAMPROC_SNAPSHOT_INTERVAL_SECONDS": "1"}
NONE = {"STREAMPROC_SNAPSHOT_INTERVAL_SECONDS": "0"}


# The topic ----------------------------------------------------------------------------------------------------------


def taken_at(*offsets: int) -> list[Snapshot]:
    """Snapshots of one state of two blocks, at these offsets."""
    records = [
        Record(NOW + 50 * i, (Reading(HERE[i % 300], float(i), NOW + 50 * i),), HERE[-1])
        for i in range(2_000)
    ]
    state, taken = new_state(), []
    for offset in offsets:
        feed(state, records[:offset])
        taken.append(snapshot(state))
    return taken


async def test_the_newest_that_reaches_no_further_is_found(
    bootstrap: Connection, topics: str, producer: AIOKafkaProducer
) -> None:
    """For each offset, at, before and after those of snapshots; none where all are beyond; others' partitions are theirs."""
    offsets = [300, 700, 1_100, 1_500, 1_900]
    taken = taken_at(*offsets)
    mine = Snapshots(producer, f"{topics}snapshots", 2)
    for each in taken:
        await mine.write(each)
    for number, offset in enumerate(offsets):
        for asked in (offset, offset + 1, offset + 399):
            assert await find(bootstrap, f"{topics}snapshots", {2: asked, 1: asked}) == {2: taken[number]}
    assert await find(bootstrap, f"{topics}snapshots", {2: 299}) == {}


async def test_what_is_not_whole_or_sound_is_passed_over(
    bootstrap: Connection, topics: str, producer: AIOKafkaProducer
) -> None:
    """Without a head, without a block, damaged, of another offset, and what is no snapshot at all: the one before counts."""
    good, *others = taken_at(300, 700, 800, 900, 1_000, 1_100, 1_200)
    topic = f"{topics}snapshots"
    mine = Snapshots(producer, topic, 0)
    replaced = msgspec.structs.replace
    await mine.write(good)
    await mine.write(replaced(others[0], blocks={0: others[0].blocks[0]}))
    await mine.write(replaced(others[1], head=b"garbage"))
    await mine.write(replaced(others[2], blocks=others[0].blocks))
    await mine.write(replaced(others[3], blocks={**others[3].blocks, 1: others[3].blocks[1][:-1]}))
    await producer.send_and_wait(topic, b"no part", b"of any", partition=0)
    headless = others[4]
    for number, block in headless.blocks.items():
        await producer.send_and_wait(
            topic,
            block,
            str(headless.next_offset).encode(),
            partition=0,
            headers=[("streamproc-block", str(number).encode())],
        )
    for asked in (2_000, 1_150, 1_050, 950, 850, 750, 300):
        assert await find(bootstrap, topic, {0: asked}) == {0: good}
    await mine.write(others[5])
    assert await find(bootstrap, topic, {0: 2_000}) == {0: others[5]}


async def test_a_stale_owners_snapshots_are_right_too(
    bootstrap: Connection, topics: str, producer: AIOKafkaProducer
) -> None:
    """Older ones after newer ones, and parts of two owners among each other: what is found is whole, and not beyond."""
    taken = {each.next_offset: each for each in taken_at(300, 400, 700, 1_100, 1_500)}
    topic = f"{topics}snapshots"
    mine = Snapshots(producer, topic, 0)
    for offset in (300, 700, 1_100, 400, 1_500):
        await mine.write(taken[offset])
    for asked in (299, 350, 650, 1_000, 1_300, 2_000):
        got = (await find(bootstrap, topic, {0: asked})).get(0)
        allowed = [offset for offset in taken if offset <= asked]
        assert (got is None) == (not allowed)
        assert got is None or (got.next_offset in allowed and got == taken[got.next_offset])


async def test_without_the_topic_there_is_none(bootstrap: Connection, topic_prefix: str) -> None:
    """An installation whose topics were not brought up to date: told, and no error."""
    assert await find(bootstrap, f"{topic_prefix}snapshots", {0: 100}) == {}


# Workers ------------------------------------------------------------------------------------------------------------


def records_of(held: Mapping[int, list[object]]) -> dict[int, int]:
    """The end of each partition that has any record."""
    return {number: len(records) for number, records in held.items() if records}


async def until_snapshots(site: Site, reader: Reader) -> dict[int, Snapshot]:
    """The newest snapshots, once each partition that has records has one."""
    wanted = records_of(await reader.read("readings"))

    async def all_there() -> dict[int, Snapshot] | None:
        snapshots = await find(site.bootstrap, f"{site.prefix}snapshots", dict.fromkeys(wanted, 10**9))
        return snapshots if snapshots.keys() == wanted.keys() else None

    snapshots = await eventually(all_there)
    assert snapshots
    return snapshots


async def until_all(site: Site, reader: Reader, held: Mapping[int, list[object]] | None = None) -> Results:
    """All that the core makes of the records, once it is there; `held` is what the topic held, where it holds less now."""

    async def complete() -> Results | None:
        readings = held or await reader.read("readings")
        registry = registry_of((await reader.read("registry"))[0])
        wanted = expected(readings, f"{site.prefix}readings", registry)
        results = await found(reader)
        return None if results.lacks(wanted) else results

    results = await eventually(complete)
    assert results
    return results


async def test_a_start_from_a_snapshot_gives_the_same(
    site: Site, producer: AIOKafkaProducer, reader: Reader
) -> None:
    """From each partition's snapshot and the records after it come the messages that the engine has made, byte for byte."""
    worker = await site.worker(**OFTEN)
    made = signal(12, 1_000, sensors=30)
    await produce(site, producer, 20, made)
    snapshots = await until_snapshots(site, reader)
    await produce(site, producer, 20, made)
    held = await reader.read("readings")
    results = await until_all(site, reader)
    assert (await worker.terminate())[0] == 0
    again = Results()
    topic = f"{site.prefix}readings"
    for number, taken in snapshots.items():
        assert 0 < taken.next_offset < len(held[number])
        state = resume(Options(topic, number, PARTITIONS, allowed_lateness_ms=1_000), taken)
        rest = gather(TP(topic, number), held[number]).since(taken.next_offset)
        for part, out in run(state, rest, RegistryLog()):
            for message in messages(state, part, out):
                if message.value is not None:
                    again.add(message.topic, message.value)
    assert len(again.windows) > 100
    assert not results.lacks(again)


async def test_a_rebuild_starts_from_the_newest_snapshot(
    site: Site, producer: AIOKafkaProducer, reader: Reader
) -> None:
    """The checkpoint is damaged and the topic's beginning deleted: what is made then is what it would have been."""
    worker = await site.worker(**OFTEN)
    made = signal(12, 1_000)
    await produce(site, producer, 60, made)
    snapshots = await until_snapshots(site, reader)
    await produce(site, producer, 10, made)
    await until_all(site, reader)
    await until_checkpointed(site)
    assert (await worker.terminate())[0] == 0  # what a killed one has on its way may come behind the garbage
    await spoil(site, producer, snapshots)
    held = await reader.read("readings")
    await delete_before(site, {number: taken.next_offset for number, taken in snapshots.items()})
    worker = await site.worker(STREAMPROC_GROUP_INSTANCE_ID="second", **OFTEN)
    told = {line["partition"]: line for line in worker.told("state is built anew")}
    assert {line["source"] for line in told.values()} == {"snapshot"}
    assert all(told[number]["next_offset"] >= taken.next_offset for number, taken in snapshots.items())
    assert not worker.told("the state lacks records that Kafka has deleted: results may differ from before")
    await produce(site, producer, 60, made)
    after = await reader.read("readings")
    assert all(after[number][: len(records)] == records for number, records in held.items())
    results = await until_all(site, reader, after)
    assert len(results.windows) > 12 * 120
    assert results.events


async def test_a_rebuild_without_the_beginning_is_told(
    site: Site, producer: AIOKafkaProducer, reader: Reader
) -> None:
    """No snapshot, and the topic begins later: an error for each such partition, and the engine goes on."""
    worker = await site.worker(**NONE)
    made = signal(12, 1_000)
    await produce(site, producer, 30, made)
    await until_all(site, reader)
    await until_checkpointed(site)
    assert (await worker.terminate())[0] == 0
    ends = records_of(await reader.read("readings"))
    await spoil(site, producer, ends)
    await delete_before(site, {number: end // 2 for number, end in ends.items()})
    worker = await site.worker(STREAMPROC_GROUP_INSTANCE_ID="second", **NONE)
    assert {line["source"] for line in worker.told("state is built anew")} == {"beginning"}
    told = worker.told("the state lacks records that Kafka has deleted: results may differ from before")
    assert {line["partition"]: line["first_record"] for line in told} == {
        number: end // 2 for number, end in ends.items()
    }
    assert not worker.told(LOST)
    before = len(await reader.values("windows"))
    await produce(site, producer, 10, made)

    async def more() -> bool:
        return len(await reader.values("windows")) > before

    await eventually(more)


LOST = "records were deleted by Kafka before they were taken in: `readings` is retained for too short a time"


async def test_records_lost_unread_are_told(site: Site, producer: AIOKafkaProducer, reader: Reader) -> None:
    """Retention has overtaken a worker that was away: how many records are gone is told, and the rest is taken in."""
    worker = await site.worker()
    made = signal(12, 1_000)
    await produce(site, producer, 20, made)
    await until_checkpointed(site)
    assert (await worker.terminate())[0] == 0
    done = await taken_in(site)
    await produce(site, producer, 20, made)
    gone = {number: offset + 50 for number, offset in done.items() if offset}
    await reader.read("readings")
    await delete_before(site, gone)
    worker = await site.worker()
    told = {line["partition"]: (line["records"], line["last"]) for line in worker.told(LOST)}
    assert told == {number: (50, offset - 1) for number, offset in gone.items()}
    await produce(site, producer, 20, made)
    left = {
        number: [record for record in records if not done[number] <= record.offset < gone[number]]
        for number, records in (await reader.read("readings")).items()
        if number in gone
    }
    await until_all(site, reader, left)


async def test_a_topic_that_was_emptied_unread_does_not_hold_up_the_worker(
    site: Site, producer: AIOKafkaProducer, reader: Reader
) -> None:
    """All records are gone: told, the place is checkpointed, and nothing is waited for."""
    worker = await site.worker()
    made = signal(12, 1_000)
    await produce(site, producer, 5, made)
    await until_checkpointed(site)
    assert (await worker.terminate())[0] == 0
    await produce(site, producer, 5, made)
    ends = records_of(await reader.read("readings"))
    await delete_before(site, ends)
    worker = await site.worker()
    assert worker.told(LOST)

    async def passed() -> bool:
        done = await taken_in(site)
        return all(done[number] >= end for number, end in ends.items())

    await eventually(passed)


async def test_records_lost_while_the_worker_stands_still_are_told(
    site: Site, producer: AIOKafkaProducer, reader: Reader
) -> None:
    """Retention overtakes a worker that is running: the gap in what it reads is told."""
    worker = await site.worker(STREAMPROC_GROUP_INSTANCE_ID="w")
    made = signal(12, 1_000)
    await produce(site, producer, 20, made)
    await until_all(site, reader)
    await until_checkpointed(site)  # else one that was thrown out meanwhile lacks more
    worker.pause()
    await produce(site, producer, 2, made)
    await delete_before(site, records_of(await reader.read("readings")))
    await produce(site, producer, 2, made)
    worker.go_on()
    lost = (await worker.until_told(LOST))["records"]
    assert 0 < lost <= 12 * 2 * 10


async def taken_in(site: Site) -> dict[int, int]:
    """The next offset of each partition, as the last checkpoints have it."""
    done = await committed(site.bootstrap, f"{site.prefix}streamproc-worker", f"{site.prefix}readings")
    return {number: offset for number, (offset, _) in done.items()}


async def test_a_checkpoint_of_another_topic_is_told(
    site: Site, producer: AIOKafkaProducer, reader: Reader
) -> None:
    """`readings` was made anew, and has grown as long since: the worker ends, and says what to do; done, it works again."""
    worker = await site.worker(**OFTEN)
    await produce(site, producer, seconds=20)
    await until_checkpointed(site)
    await until_snapshots(site, reader)
    assert (await worker.terminate())[0] == 0
    await make_anew(site, "readings")
    await ended_with(await site.start("worker"), "but", "ends at", "made anew", "streamproc topics apply")
    await produce(site, producer, seconds=40)
    await ended_with(await site.start("worker"), "was made before record", "streamproc topics apply")
    await make_anew(site, "checkpoints", "snapshots")
    await site.worker()
    before = len(await reader.values("windows"))
    await produce(site, producer, seconds=20)

    async def more() -> bool:
        return len(await reader.values("windows")) > before

    await eventually(more)


async def ended_with(stage: Stage, *words: str) -> None:
    """The stage ends by itself, with an error that has these words."""
    assert await stage.ended() != 0
    text = stage.log.read_text()
    assert all(word in text for word in words), text


async def spoil(site: Site, producer: AIOKafkaProducer, partitions: Mapping[int, object]) -> None:
    """Put garbage in the place of a block of these partitions' checkpoints."""
    for number in partitions:
        await producer.send_and_wait(f"{site.prefix}checkpoints", b"garbage", b"0", partition=number)


async def delete_before(site: Site, offsets: Mapping[int, int]) -> None:
    """Have Kafka delete the records of `readings` before these offsets, as its retention does."""
    admin = clients.admin(site.bootstrap)
    await admin.start()
    try:
        await admin.delete_records(
            {
                TopicPartition(f"{site.prefix}readings", number): RecordsToDelete(before_offset=offset)
                for number, offset in offsets.items()
            }
        )
    finally:
        await admin.close()


async def make_anew(site: Site, *names: str) -> None:
    """Delete these topics, and make them again as they are declared."""
    admin = clients.admin(site.bootstrap)
    await admin.start()
    topics = [site.prefix + name for name in names]
    try:
        await admin.delete_topics(topics)

        async def gone() -> bool:
            return not set(topics) & set(await admin.list_topics())

        await eventually(gone)
    finally:
        await admin.close()
    specs = prefixed(load(), site.prefix)
    await apply(site.bootstrap, await plan(site.bootstrap, specs))
