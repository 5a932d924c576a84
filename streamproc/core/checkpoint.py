"""A partition's state as bytes and back, in blocks of sensors, so that only what has changed is written.

The state of a partition is a head and one block for each BLOCK slots. A block is what its sensors were at its `next_offset`;
blocks that have not changed since are not written again, and the head says which version of each it counts on.

A worker that was paused and thrown out may write an old block over its successor's. So several versions of a block may be
found: the highest `next_offset` counts. If a block is older than the head counts on, the partition is read again from where
that block was, and the other blocks skip what they have seen. Nothing here can run code: the bytes are numbers and names.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec
import numpy as np

from streamproc.core.engine import Options, PartitionState
from streamproc.core.learners import LearnerBank
from streamproc.core.predict import Forecasts
from streamproc.core.sensors import BLOCK
from streamproc.core.severity import SlotSeverity
from streamproc.core.windows import COLUMNS, NEVER, Moments
from streamproc.errors import CheckpointError

#: The layout below. A reader of another version refuses, and the state is built from the topic again.
FORMAT = 1

_CLOCKS = ("newest", "arrival", "closed")


class Head(msgspec.Struct, array_like=True):
    """What a partition's blocks have in common; `blocks` is the `next_offset` of each block that this head counts on."""

    format: int
    learners: str
    next_offset: int
    clock: int
    depth: int
    blocks: list[int]
    packets: list[tuple[int, int]]


class Block(msgspec.Struct, array_like=True):
    """The state of BLOCK sensors or fewer; columns are little-endian bytes in slot order."""

    format: int
    learners: str
    next_offset: int
    clock: int
    names: list[str | None]
    clocks: list[bytes]
    windows: list[list[bytes]]
    forecasts: list[bytes]
    learnt: bytes
    severities: list[SlotSeverity]
    recent: list[bytes]


_Part = TypeVar("_Part", Head, Block)


class Snapshot(msgspec.Struct, frozen=True):
    """What a checkpoint writes: the head, and the blocks that have changed, by number."""

    next_offset: int
    head: bytes
    blocks: dict[int, bytes]


def encode(state: PartitionState, written: list[int]) -> Snapshot:
    """The state as it is; `written` holds the `next_offset` of the blocks as last written, and is brought up to date."""
    count = -(-len(state.sensors) // BLOCK)
    dirty = [number for number in range(count) if number >= len(written) or state.dirty[number]]
    written.extend([0] * (count - len(written)))
    blocks = {}
    for number in dirty:
        blocks[number] = _seal(_block(state, number))
        written[number] = state.next_offset
    state.dirty[:] = False
    head = Head(
        format=FORMAT,
        learners=LearnerBank.VERSION,
        next_offset=state.next_offset,
        clock=state.watermarks.clock,
        depth=state.open[0].depth,
        blocks=list(written),
        packets=list(state.packets.seen.items()),
    )
    return Snapshot(state.next_offset, _seal(head), blocks)


def _block(state: PartitionState, number: int) -> Block:
    first = number * BLOCK
    names = state.sensors.names[first : first + BLOCK]
    rows = slice(first, first + len(names))
    recent = state.recent
    here = np.flatnonzero(recent.slot[: len(recent)] // BLOCK == number)
    live = here[recent.ts[here] >= state.watermarks.closed[recent.slot[here]]]
    return Block(
        format=FORMAT,
        learners=LearnerBank.VERSION,
        next_offset=state.next_offset,
        clock=state.watermarks.clock,
        names=names,
        clocks=[getattr(state.watermarks, name)[rows].tobytes() for name in _CLOCKS],
        windows=[
            _open_rows(size.rows, first * size.depth, (first + len(names)) * size.depth, size.depth)
            for size in state.open
        ],
        forecasts=[getattr(state.forecasts, name)[rows].tobytes() for name in Forecasts.COLUMNS],
        learnt=state.judge.learners.dump(range(first, first + len(names))).tobytes(),
        severities=state.judge.severity.dump(range(first, first + len(names))),
        recent=[(recent.slot[live] - first).tobytes(), recent.ts[live].tobytes(), recent.key[live].tobytes()],
    )


def _open_rows(rows: Moments, first: int, end: int, depth: int) -> list[bytes]:
    """The windows that are open, with their sensors' places in the block."""
    at = first + np.flatnonzero(rows.start[first:end] != NEVER)
    columns = rows.take(at)
    return [((at - first) // depth).tobytes(), *(getattr(columns, name).tobytes() for name in COLUMNS)]


def _seal(part: Head | Block) -> bytes:
    body = msgspec.msgpack.encode(part)
    return zlib.crc32(body).to_bytes(4, "little") + body


def _open(sealed: bytes, kind: type[_Part]) -> _Part:
    if len(sealed) < 4 or zlib.crc32(sealed[4:]) != int.from_bytes(sealed[:4], "little"):  # noqa: PLR2004  # the checksum
        raise CheckpointError(f"a {kind.__name__.lower()} of a checkpoint is damaged: {len(sealed)} bytes")
    try:
        part = msgspec.msgpack.decode(sealed[4:], type=kind)
    except msgspec.MsgspecError as error:
        raise CheckpointError(
            f"a {kind.__name__.lower()} of a checkpoint is of another layout: {error}"
        ) from error
    if part.format != FORMAT or part.learners != LearnerBank.VERSION:
        raise CheckpointError(
            f"a checkpoint of format {part.format}, learners {part.learners!r}; "
            f"this program reads format {FORMAT}, learners {LearnerBank.VERSION!r}"
        )
    return part


def restore(
    options: Options, heads: Iterable[bytes], blocks: Mapping[int, Iterable[bytes]]
) -> tuple[PartitionState, list[int]]:
    """The state that these versions of a partition's head and blocks hold, and its `written` for `encode`.

    `state.next_offset` is where to read on. Raises CheckpointError if anything is damaged, missing or of another version.
    """
    head = max((_open(sealed, Head) for sealed in heads), key=lambda part: part.next_offset)
    found = [_newest(number, blocks.get(number, ())) for number in range(_count(head, blocks))]
    state = PartitionState(options, head.depth)
    state.watermarks.clock = head.clock
    for number, block in enumerate(found):
        while (
            len(state.sensors) < number * BLOCK
        ):  # an older version of the block before may hold fewer sensors
            state.sensors.put(None)
        _load(state, block)
    reached = [_reached(head, number, block) for number, block in enumerate(found)]
    state.next_offset = min(reached, default=head.next_offset)
    if state.next_offset < head.next_offset:
        state.watermarks.clock = min(block.clock for block in found if block.next_offset == state.next_offset)
    if any(offset > state.next_offset for offset in reached):
        state.sensors.block_next = reached
    state.packets.seen = dict(head.packets)
    state.dirty[:] = False
    return state, [block.next_offset for block in found]


def _count(head: Head, blocks: Mapping[int, Iterable[bytes]]) -> int:
    return max(len(head.blocks), max(blocks, default=-1) + 1)


def _newest(number: int, versions: Iterable[bytes]) -> Block:
    opened = [_open(sealed, Block) for sealed in versions]
    if not opened:
        raise CheckpointError(f"block {number} of a checkpoint is missing")
    return max(opened, key=lambda part: part.next_offset)


def _reached(head: Head, number: int, block: Block) -> int:
    """The offset up to which a block's sensors have been taken in."""
    counted_on = head.blocks[number] if number < len(head.blocks) else 0
    if block.next_offset < counted_on:
        return block.next_offset
    return max(block.next_offset, head.next_offset)


def _load(state: PartitionState, block: Block) -> None:
    first = len(state.sensors)
    end = first + len(block.names)
    for name in block.names:
        # Of a sensor that stands in two blocks, which only a stale owner's block can bring about, the first one counts.
        state.sensors.put(None if name is not None and state.sensors.slot_of(name) is not None else name)
    state.fit()
    for name, column in zip(_CLOCKS, block.clocks, strict=True):
        getattr(state.watermarks, name)[first:end] = np.frombuffer(column, dtype=np.int64)
    for size, columns in zip(state.open, block.windows, strict=True):
        place = np.frombuffer(columns[0], dtype=np.int64) + first
        size.put(place, Moments.from_bytes(columns[1:]))
    for name, column in zip(Forecasts.COLUMNS, block.forecasts, strict=True):
        held = getattr(state.forecasts, name)
        held[first:end] = np.frombuffer(column, dtype=held.dtype)
    state.judge.learners.load(first, np.frombuffer(block.learnt).reshape(end - first, -1))
    state.judge.severity.load(first, block.severities)
    slot, ts, key = (np.frombuffer(column, dtype=np.int64) for column in block.recent)
    state.recent.add(slot + first, ts, key)
