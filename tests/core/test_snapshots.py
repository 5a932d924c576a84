"""Snapshots of the whole state: a start from just there, and nothing else changes by them."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.core import checkpoint
from streamproc.core.checkpoint import FORMAT, Block, Snapshot, check, encode, resume, snapshot
from streamproc.core.engine import PartitionState
from streamproc.core.sensors import BLOCK
from streamproc.errors import CheckpointError
from tests.core.oracle import (
    HERE,
    NOW,
    OPTIONS,
    Reading,
    Record,
    cuttings,
    feed,
    new_state,
    story,
    streams,
    whole,
)


def resumed(taken: Snapshot) -> PartitionState:
    """The state of a snapshot, once it is found to be sound."""
    check(taken)
    return resume(OPTIONS, taken)


@pytest.mark.live
@settings(deadline=None, max_examples=60)
@given(streams(), cuttings, st.integers(0, 30))
def test_resumed_anywhere_it_goes_on_the_same(records: list[Record], cuts: list[int], at: int) -> None:
    """Outputs and later states are those of one that was never bytes, however the records are cut."""
    state = new_state()
    feed(state, records[:at], cuts)
    copy = resumed(snapshot(state))
    assert feed(copy, records, cuts) == feed(state, records)
    assert snapshot(copy) == snapshot(state)


@pytest.mark.live
@settings(deadline=None, max_examples=10)
@given(st.integers(0, 50), st.integers(0, 60), st.booleans())
def test_the_next_checkpoint_is_the_same(seed: int, at: int, taken: bool) -> None:
    """Taking a snapshot leaves which blocks are to be written as it is, and what is in them."""
    records = story(seed, sensors=300, seconds=6)
    written, wanted = list[int](), list[int]()
    state, twin = new_state(), new_state()
    for each, offsets in ((state, written), (twin, wanted)):
        feed(each, records[:at])
        encode(each, offsets)
        feed(each, records[: at + 1])
    if taken:
        snapshot(state)
    assert encode(state, written) == encode(twin, wanted)
    assert written == wanted


def test_a_snapshot_is_all_blocks() -> None:
    """Also those that have not changed since a checkpoint, and none is older than the head."""
    state = new_state()
    feed(state, story(1, sensors=540, seconds=3))
    wanted = whole(state)
    assert snapshot(state) == wanted
    assert len(wanted.blocks) == 3


def test_none_is_taken_of_an_uneven_state() -> None:
    """A restored block that is ahead of the rest would be of another offset; once the rest has come up, all is well."""
    records = one_each(BLOCK + 5)
    state, written = new_state(), list[int]()
    feed(state, records[:100])
    head = encode(state, written).head
    feed(state, records[:150])
    blocks = {number: [block] for number, block in encode(state, written).blocks.items()}
    state, _ = checkpoint.restore(OPTIONS, [head], blocks)
    assert checkpoint.is_uneven(state)
    with pytest.raises(CheckpointError, match="ahead"):
        snapshot(state)
    feed(state, records[:150])
    assert not checkpoint.is_uneven(state)
    twin = new_state()
    feed(twin, records[:150])
    assert snapshot(state) == snapshot(twin)


def one_each(sensors: int) -> list[Record]:
    """A reading of each of so many sensors."""
    return [
        Record(NOW + i, (Reading(name, 1.0, NOW + i),), HERE[-1]) for i, name in enumerate(HERE[:sensors], 1)
    ]


@cache
def taken_of(sensors: int) -> Snapshot:
    """A snapshot of two blocks."""
    state = new_state()
    feed(state, one_each(sensors))
    return snapshot(state)


def test_a_missing_block_is_told() -> None:
    """Or one too many."""
    taken = taken_of(BLOCK + 2)
    with pytest.raises(CheckpointError, match="counts 2 blocks"):
        check(msgspec.structs.replace(taken, blocks={0: taken.blocks[0]}))
    with pytest.raises(CheckpointError, match="counts 2 blocks"):
        check(msgspec.structs.replace(taken, blocks={**taken.blocks, 2: taken.blocks[0]}))


def test_parts_of_two_snapshots_are_told() -> None:
    """A block of another offset, however sound, is no part of this one."""
    taken, later = taken_of(BLOCK + 2), taken_of(BLOCK + 3)
    with pytest.raises(CheckpointError, match="offsets"):
        check(msgspec.structs.replace(taken, blocks={**taken.blocks, 1: later.blocks[1]}))
    with pytest.raises(CheckpointError, match="offsets"):
        check(msgspec.structs.replace(taken, next_offset=later.next_offset))


@settings(deadline=None, max_examples=60)
@given(st.floats(0, 1, exclude_max=True), st.integers(0, 7), st.sampled_from([None, 0, 1]))
def test_damage_is_told(place: float, bit: int, number: int | None) -> None:
    """A flipped bit in the head or any block."""
    taken = taken_of(BLOCK + 1)
    part = bytearray(taken.head if number is None else taken.blocks[number])
    part[int(place * len(part))] ^= 1 << bit
    damaged: dict[str, Any] = (
        {"head": bytes(part)} if number is None else {"blocks": {**taken.blocks, number: bytes(part)}}
    )
    with pytest.raises(CheckpointError):
        check(msgspec.structs.replace(taken, **damaged))


def test_another_version_is_told() -> None:
    """Even of one block alone."""
    taken = taken_of(BLOCK + 1)
    block = msgspec.msgpack.decode(taken.blocks[1][4:], type=Block)
    other = checkpoint._seal(msgspec.structs.replace(block, format=FORMAT + 1))
    with pytest.raises(CheckpointError, match="format"):
        check(msgspec.structs.replace(taken, blocks={**taken.blocks, 1: other}))


def test_an_empty_partition_has_a_snapshot() -> None:
    """Only ticks so far: a head and no block."""
    state = new_state()
    feed(state, [Record(NOW, tick=True)])
    taken = snapshot(state)
    assert not taken.blocks
    assert resumed(taken).watermarks.clock == NOW
