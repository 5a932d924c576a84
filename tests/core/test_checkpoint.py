"""Checkpoints: what is restored goes on as if nothing had happened, or is refused."""

from __future__ import annotations

import pickle
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.core.checkpoint import FORMAT, Block, Head, Snapshot, encode, restore
from streamproc.core.dedupe import HORIZON_MS
from streamproc.core.engine import Options, PartitionState
from streamproc.core.registry import RegistryLog
from streamproc.core.sensors import BLOCK
from streamproc.errors import CheckpointError
from streamproc.records import DEVICE_SILENT
from tests.core.oracle import (
    HERE,
    NOW,
    OPTIONS,
    Reading,
    Record,
    Told,
    cuttings,
    edited,
    feed,
    new_state,
    story,
    streams,
    whole,
)

Parts = tuple[bytes, dict[int, bytes]]


def opened(
    head: bytes, blocks: dict[int, bytes], options: Options = OPTIONS
) -> tuple[PartitionState, list[int]]:
    """Restore one version of each part."""
    return restore(options, [head], {number: [block] for number, block in blocks.items()})


def again(state: PartitionState) -> PartitionState:
    """The state, through bytes."""
    snapshot = whole(state)
    return opened(snapshot.head, snapshot.blocks, state.options)[0]


def dirtied(state: PartitionState) -> PartitionState:
    """The state with all blocks to be written."""
    state.dirty[:] = True
    return state


@settings(deadline=None, max_examples=60)
@given(streams(), cuttings, st.integers(0, 30))
def test_restored_anywhere_it_goes_on_the_same(records: list[Record], cuts: list[int], at: int) -> None:
    """Outputs and later checkpoints are those of a state that was never bytes."""
    state = new_state()
    feed(state, records[:at], cuts)
    copy = again(state)
    assert feed(copy, records, cuts) == feed(state, records)
    assert whole(dirtied(copy)) == whole(dirtied(state))


@pytest.mark.live
@settings(deadline=None, max_examples=6)
@given(st.integers(0, 50), st.integers(0, 500))
def test_restored_learners_go_on_the_same(seed: int, at: int) -> None:
    """Also in a story long enough for learners to judge."""
    records = story(seed, sensors=24, seconds=115)
    state = new_state()
    feed(state, records[:at])
    copy = again(state)
    assert feed(copy, records) == feed(state, records)
    assert whole(dirtied(copy)) == whole(dirtied(state))


# Stale parts --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class History:
    """A run with a checkpoint at each of `marks`; `told[i]` is what was told from mark i (the first is 0) to the next."""

    records: list[Record]
    marks: list[int]
    snapshots: list[Snapshot]
    told: list[Told]
    names: list[str]
    end: Snapshot
    log: RegistryLog


@cache
def history(seed: int) -> History:
    """540 sensors in 3 blocks, some of which rest at times; edits all along; 7 checkpoints of what has changed."""
    records = story(seed, sensors=540, seconds=10)
    records += [replace(each, timestamp=each.timestamp + 30_000) for each in story(seed + 100, 24, 20)]
    records, log = edited(seed, records)
    state, written = new_state(), list[int]()
    count = len(records)
    marks = [count // 12, count // 5, count // 3, count // 2, count * 3 // 4, count * 7 // 8, count - 9]
    told, snapshots = [], []
    for mark in marks:
        told.append(feed(state, records[:mark], log=log))
        snapshots.append(encode(state, written))
    told.append(feed(state, records, log=log))
    names = [name or "?" for name in state.sensors.names]
    return History(records, marks, snapshots, told, names, whole(dirtied(state)), log)


def version(run: History, number: int, mark: int) -> bytes | None:
    """The newest version of a block that was written at this mark (an index) or before."""
    versions = [each.blocks[number] for each in run.snapshots[: mark + 1] if number in each.blocks]
    return versions[-1] if versions else None


def chosen(run: History, head: int, blocks: list[int]) -> Parts:
    """The head of one mark, and each block as of another, where it was there by then."""
    found = {number: version(run, number, mark) for number, mark in enumerate(blocks)}
    return run.snapshots[head].head, {number: block for number, block in found.items() if block is not None}


def expected(run: History, starts: dict[str, int], first: int) -> Told:
    """What was told from each sensor's own offset on, and from the first one on of what has no sensor."""
    out = Told()
    for begin, told in zip([0, *run.marks], run.told, strict=True):
        for kind in ("windows", "predictions", "events", "late"):
            for key, rows in getattr(told, kind).items():
                if begin >= starts.get(key[0] if isinstance(key, tuple) else key, first):
                    getattr(out, kind)[key] += rows
        if begin >= first:
            out.moved += told.moved
            out.rejected = sorted(out.rejected + told.rejected)
    return out


def alike(told: Told, wanted: Told) -> None:
    """Compare all but the counts, which leave out what restored blocks had counted already.

    Of events but for who is told of them: what a device hides is not known while blocks are ahead of others.
    """
    for kind in ("windows", "predictions", "late", "moved", "rejected"):
        assert getattr(told, kind) == getattr(wanted, kind), kind
    assert plain_events(told) == plain_events(wanted)


def plain_events(told: Told) -> dict[str, list[dict[str, Any]]]:
    """Those that are no second word of a sensor's silence, without their sentences and the mark that a device hides them."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for sensor, events in told.events.items():
        for each in (msgspec.json.decode(event)[0] for event in events):
            if (each["cause"], each["severity"]) != ("silence", each["previous"]):
                each["lineage"]["scores"].pop(DEVICE_SILENT, None)
                found[sensor].append(each | {"explanation": ""})
    return found


def plain(whole: Snapshot) -> tuple[bytes, dict[int, Block]]:
    """A snapshot without what is remembered of who was told: what a device hides is not known while blocks are uneven."""
    blocks = {}
    for number, sealed in whole.blocks.items():
        block = msgspec.msgpack.decode(sealed[4:], type=Block)
        severities = [
            msgspec.structs.replace(each, told=0, changed_at=each.changed_at * (each.level == 0))
            for each in block.severities
        ]
        blocks[number] = msgspec.structs.replace(
            block, severities=severities, waiting={}, silent=[], returned=[], attended=[]
        )
    return whole.head, blocks


def starts_of(run: History, state: PartitionState) -> dict[str, int]:
    """The offset from which each sensor's readings are taken in."""
    reached = state.sensors.block_next
    numbers = {name: slot // BLOCK for slot, name in enumerate(run.names)}
    return {
        name: reached[number] if number < len(reached) else state.next_offset
        for name, number in numbers.items()
    }


marks = st.integers(0, 6)


@pytest.mark.live
@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 1),
    marks,
    st.lists(marks, min_size=3, max_size=3),
    st.lists(st.integers(0, 400), max_size=6),
)
def test_stale_parts_lose_and_double_nothing(
    seed: int, head: int, blocks: list[int], cuts: list[int]
) -> None:
    """Whichever older or newer versions of head and blocks are found: the rest comes out as it was, to the last bit."""
    run = history(seed)
    parts = chosen(run, head, blocks)
    if not is_whole(parts):
        with pytest.raises(CheckpointError, match="missing"):
            opened(*parts)
        return
    state, _ = opened(*parts)
    assert state.next_offset <= run.marks[head]
    starts = starts_of(run, state)
    first = state.next_offset
    alike(feed(state, run.records, cuts, run.log), expected(run, starts, first))
    assert plain(whole(dirtied(state))) == plain(run.end)


@pytest.mark.live
@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1), marks, st.lists(marks, min_size=3, max_size=3), st.integers(0, 400), st.booleans())
def test_a_checkpoint_while_catching_up_is_sound(
    seed: int, head: int, blocks: list[int], pause: int, refresh: bool
) -> None:
    """Written while some blocks are ahead of the others, even where all are to be written anew."""
    run = history(seed)
    parts = chosen(run, head, blocks)
    if not is_whole(parts):
        return
    state, written = opened(*parts)
    pause %= max(run.marks[-1] - state.next_offset, 1)
    feed(state, run.records[: state.next_offset + pause], log=run.log)
    if refresh:
        dirtied(state)
    snapshot = encode(state, written)
    state, _ = opened(snapshot.head, {**parts[1], **snapshot.blocks})
    first, starts = state.next_offset, starts_of(run, state)
    told = feed(state, run.records, log=run.log)
    assert plain(whole(dirtied(state))) == plain(run.end)
    if first in {0, *run.marks} and set(starts.values()) <= {0, *run.marks}:
        alike(told, expected(run, starts, first))


def is_whole(parts: Parts) -> bool:
    """Whether no block is missing."""
    count = max(len(head_of(parts[0]).blocks), max(parts[1], default=-1) + 1)
    return parts[1].keys() == set(range(count))


def head_of(sealed: bytes) -> Head:
    """A head as it is inside."""
    return msgspec.msgpack.decode(sealed[4:], type=Head)


def test_a_checkpoint_half_written_loses_no_new_sensor() -> None:
    """A block is new since the head and was never written, while the old one is of beyond it."""
    records = [
        Record(NOW + i, (Reading(name, 1.0, NOW + i),), HERE[-1])
        for i, name in enumerate(HERE[: BLOCK + 5], start=1)
    ]
    state, written = new_state(), list[int]()
    feed(state, records[:100])
    head = encode(state, written).head
    feed(state, records[:258])
    blocks = encode(state, written).blocks
    state, _ = opened(head, {0: blocks[0]})
    feed(state, records)
    wanted = new_state()
    feed(wanted, records)
    assert whole(dirtied(state)) == whole(dirtied(wanted))


def test_the_highest_of_several_versions_counts() -> None:
    """In whichever order they are found."""
    run = history(0)
    heads = [each.head for each in run.snapshots]
    blocks = {
        number: [each.blocks[number] for each in run.snapshots if number in each.blocks]
        for number in range(3)
    }
    for turn in (1, -1):
        state, _ = restore(
            OPTIONS, heads[::turn], {number: found[::turn] for number, found in blocks.items()}
        )
        assert state.next_offset == run.marks[-1]
        assert not state.sensors.block_next


def test_only_what_has_changed_is_written() -> None:
    """A block whose sensors rest is not written again, and the head counts on the old one."""
    run = history(0)
    last = run.snapshots[-1]
    head = head_of(last.head)
    assert 2 not in last.blocks
    assert head.blocks[0] == head.next_offset == run.marks[-1]
    assert head.blocks[2] < run.marks[-1]


def test_a_retry_after_a_stale_restore_is_counted_once() -> None:
    """The head's packets are not the stale block's past: its readings are taken in again, and the retry is not."""
    first = Record(NOW, (Reading(HERE[0], 1.0),), HERE[1], "p")
    records = [
        Record(NOW - 1, (Reading(HERE[0], 0.0, NOW - 1),)),
        first,
        replace(first, timestamp=NOW + HORIZON_MS),
    ]
    state, written = new_state(), list[int]()
    feed(state, records[:1])
    stale = encode(state, written).blocks
    feed(state, records[:2])
    state, _ = opened(encode(state, written).head, stale)
    told = feed(state, records)
    assert (told.readings, told.duplicates) == (1, 1)


@cache
def clocks_that_stand_still() -> tuple[list[Record], list[Snapshot], Snapshot]:
    """Records whose readings repeat under one time, three checkpoints on the way, and all of the state at their end."""
    names = HERE[: BLOCK + 1]
    records = [Record(NOW, tuple(Reading(name, 0.0, NOW) for name in names), HERE[-1])]
    for second in range(1, 2_000):
        rows = tuple(Reading(name, float(second % 300), NOW) for name in (names[0], names[-1]))
        records.append(Record(NOW + 1_000 * second, rows, HERE[-1]))
    state, written = new_state(), list[int]()
    snapshots = []
    for mark in (400, 900, 1_500):
        feed(state, records[:mark])
        snapshots.append(encode(state, written))
    told = feed(state, records)
    assert told.duplicates
    assert told.readings
    return records, snapshots, whole(dirtied(state))


@pytest.mark.parametrize("head", range(3))
@pytest.mark.parametrize("blocks", list(product(range(3), repeat=2)))
def test_stale_parts_know_what_has_come_of_clocks_that_stand_still(
    head: int, blocks: tuple[int, int]
) -> None:
    """Each block's readings are as old as they were, whichever generation the others are in."""
    records, snapshots, last = clocks_that_stand_still()
    found = {number: snapshots[mark].blocks[number] for number, mark in enumerate(blocks)}
    other, _ = opened(snapshots[head].head, found)
    feed(other, records)
    assert whole(dirtied(other)) == last


# Damage -------------------------------------------------------------------------------------------------------------


@cache
def small() -> Parts:
    """A checkpoint of a few sensors."""
    state = new_state()
    feed(state, story(3, sensors=5, seconds=3))
    snapshot = whole(state)
    return snapshot.head, snapshot.blocks


@settings(deadline=None, max_examples=150)
@given(
    st.booleans(),
    st.floats(0, 1, exclude_max=True),
    st.integers(0, 7),
    st.sampled_from(["flip", "cut", "longer"]),
)
def test_damage_is_told(in_head: bool, place: float, bit: int, kind: str) -> None:
    """A flipped bit anywhere, or an end that is missing or too much, is an error and never another number."""
    head, blocks = small()
    part = bytearray(head if in_head else blocks[0])
    at = int(place * len(part))
    if kind == "flip":
        part[at] ^= 1 << bit
    elif kind == "cut":
        del part[at:]
    else:
        part += bytes([bit])
    with pytest.raises(CheckpointError):
        opened(bytes(part) if in_head else head, blocks if in_head else {0: bytes(part)})


def sealed(head: bytes, blocks: dict[int, bytes], **changes: Any) -> Parts:
    """The parts with fields of the first block changed, and its checksum right."""
    from streamproc.core.checkpoint import Block, _seal  # noqa: PLC0415

    block = msgspec.msgpack.decode(blocks[0][4:], type=Block)
    return head, {0: _seal(msgspec.structs.replace(block, **changes))}


@pytest.mark.parametrize(
    "changes",
    [
        {"format": FORMAT + 1},
        {"learners": "0"},
        {"clocks": [b"", b"", b""]},
        {"clocks": [b"1234567"] * 3},
        {"windows": []},
        {"learnt": b"12345678"},
        {"recent": [[b"\xff", b"1234", b"12345678"]]},
        {"recent": [[b"\0", b"1234"]]},
        {"packets": [b"12345678", b""]},
        {"names": ["a"] * 5},
    ],
)
def test_what_does_not_fit_is_told(changes: dict[str, Any]) -> None:
    """Another version, or columns that are not of one length."""
    with pytest.raises(CheckpointError):
        opened(*sealed(*small(), **changes))


def test_a_missing_part_is_told() -> None:
    """Head or block."""
    head, blocks = small()
    with pytest.raises(CheckpointError, match="head"):
        restore(OPTIONS, [], {0: [blocks[0]]})
    with pytest.raises(CheckpointError, match="block 0"):
        restore(OPTIONS, [head], {})
    with pytest.raises(CheckpointError, match="block 1"):
        restore(OPTIONS, [head], {0: [blocks[0]], 2: [blocks[0]]})


def test_a_sensor_in_two_blocks_is_told() -> None:
    """Which of its pasts is right, nobody could say."""
    head, blocks = small()
    with pytest.raises(CheckpointError, match="two blocks"):
        restore(OPTIONS, [head], {0: [blocks[0]], 1: [blocks[0]]})


def test_state_runs_no_code() -> None:
    """A pickle, with a right checksum even, is no checkpoint."""
    import zlib  # noqa: PLC0415

    body = pickle.dumps(defaultdict(list))
    with pytest.raises(CheckpointError, match="layout"):
        restore(OPTIONS, [zlib.crc32(body).to_bytes(4, "little") + body], {})


def test_an_empty_partition_has_a_checkpoint() -> None:
    """Only ticks so far: a head and no block."""
    state = new_state()
    feed(state, [Record(NOW, tick=True)])
    snapshot = whole(state)
    assert not snapshot.blocks
    assert again(state).next_offset == 1
    assert again(state).watermarks.clock == NOW


def test_a_longer_lateness_keeps_the_windows_that_were_open() -> None:
    """And a shorter one too: the cells of a sensor are as many as the checkpoint needs."""
    records = [Record(NOW, (Reading(HERE[0], float(i), NOW + 1_000 * i),)) for i in range(3)]
    for before, after in ((5_000, 0), (0, 5_000)):
        state = new_state(replace(OPTIONS, allowed_lateness_ms=before))
        feed(state, records)
        snapshot = whole(state)
        blocks = {number: [block] for number, block in snapshot.blocks.items()}
        changed, _ = restore(replace(OPTIONS, allowed_lateness_ms=after), [snapshot.head], blocks)
        told = feed(changed, [*records, Record(NOW + 60_000, tick=True)])
        base = told.windows[HERE[0], 1_000]
        assert len(base) == (3 if before else 1)
        assert np.isfinite(changed.watermarks.clock)
