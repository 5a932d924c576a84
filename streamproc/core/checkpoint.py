"""A partition's state as bytes and back, in blocks of sensors, so that only what has changed is written.

The state of a partition is a head and one block for each BLOCK slots. A block is the state of its sensors at its
`next_offset`; unchanged blocks are not written again, and the head says which version of each it counts on.

A worker that was paused and thrown out of the group may write an old block over its successor's, so several versions of a
block may be found: the highest `next_offset` counts. If a block is older than the head expects, the partition is read again
from that block's offset, and the other blocks skip what they have seen. Nothing here can run code: the bytes are numbers and
names.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec
import numpy as np

from streamproc.core.attention.state import Attended
from streamproc.core.engine import Options, PartitionState
from streamproc.core.learners import LearnerBank
from streamproc.core.predict import Forecasts
from streamproc.core.sensor_state import SensorState
from streamproc.core.sensors import BLOCK
from streamproc.core.silent_devices import Returned, SilentDevice
from streamproc.core.slot_severity import SlotSeverity
from streamproc.core.trials import TrialState
from streamproc.core.windows import COLUMNS, NEVER, Ints, Moments
from streamproc.errors import CheckpointError

#: The layout below. A reader of another version refuses, and the state is built from the topic again.
FORMAT = 7
_CLOCKS = ("newest", "arrival", "closed")
#: A sensor's place in its block, and a time after what is closed: as small as they can be, since there is one a reading.
_PLACE, _AFTER = np.uint8, np.uint32


class Head(msgspec.Struct, array_like=True):
    """What a partition's blocks have in common; `blocks` is the `next_offset` of each block that this head counts on.

    `registry` is the position of the registry that the record at `next_offset` is judged by, -1 where there was none yet.
    """

    format: int
    learners: str
    next_offset: int
    clock: int
    registry: int
    depth: int
    blocks: list[int]


class Block(msgspec.Struct, array_like=True):
    """The state of BLOCK sensors or fewer; columns are little-endian bytes in slot order."""

    format: int
    learners: str
    next_offset: int
    clock: int
    registry: int
    names: list[str | None]
    clocks: list[bytes]
    windows: list[list[bytes]]
    forecasts: list[bytes]
    learnt: bytes
    severities: list[SlotSeverity]
    states: list[bytes]
    #: Of this generation and of the one before.
    recent: list[list[bytes]]
    packets: list[bytes]
    rests: list[bytes]
    lasts: list[bytes]
    steps: list[bytes]
    #: Places of sensors by the device that first named them, which sensors wait for their devices, and silent devices and
    #: those that are back.
    spoken: dict[str, bytes] = {}
    waiting: dict[int, int] = {}
    silent: list[SilentDevice] = []
    returned: list[Returned] = []
    trials: list[TrialState] = []
    attended: list[Attended] = []


_Part = TypeVar("_Part", Head, Block)


class Snapshot(msgspec.Struct, frozen=True):
    """A state as sealed bytes: its head, and its blocks by number; in a checkpoint those that have changed."""

    next_offset: int
    head: bytes
    blocks: dict[int, bytes]


def encode(state: PartitionState, written: list[int]) -> Snapshot:
    """The state as it is; `written` holds the `next_offset` of the blocks as last written, and is brought up to date."""
    count = -(-len(state.sensors) // BLOCK)
    state.recent.settle(state.watermarks.closed)
    blocks = {}
    for number in range(count):
        new = number >= len(written)
        # A block that was restored from beyond here is written when the others have come up to it.
        ahead = any(offset > state.next_offset for offset in state.sensors.block_next[number : number + 1])
        if new or (state.dirty[number] and not ahead):
            blocks[number] = _seal(_block(state, number))
    for number in blocks:
        state.dirty[number] = False
        written[number:] = [state.next_offset, *written[number + 1 :]]
    return Snapshot(state.next_offset, _seal(_head(state, list(written))), blocks)


def snapshot(state: PartitionState) -> Snapshot:
    """The whole state as it is; what the next checkpoint writes stays the same.

    Raises CheckpointError while restored blocks are ahead of the rest: then the state is of no one offset.
    """
    if is_uneven(state):
        raise CheckpointError("blocks of the state are ahead of the rest")
    state.recent.settle(state.watermarks.closed)
    count = -(-len(state.sensors) // BLOCK)
    blocks = {number: _seal(_block(state, number)) for number in range(count)}
    return Snapshot(state.next_offset, _seal(_head(state, [state.next_offset] * count)), blocks)


def is_uneven(state: PartitionState) -> bool:
    """Whether a restored block has taken in records that the rest of the state has not."""
    return any(offset > state.next_offset for offset in state.sensors.block_next)


def block_count(head: bytes) -> int:
    """How many blocks a snapshot has, by its head; raises CheckpointError if that is damaged or of another version."""
    return len(_open(head, Head).blocks)


def check(snapshot: Snapshot) -> None:
    """See that a snapshot is whole, of one offset and readable here; raises CheckpointError."""
    head = _open(snapshot.head, Head)
    count = len(head.blocks)
    if snapshot.blocks.keys() != set(range(count)):
        raise CheckpointError(
            f"the head counts {count} blocks, but those found are {sorted(snapshot.blocks)}"
        )
    parts: list[Head | Block] = [head, *(_open(snapshot.blocks[number], Block) for number in range(count))]
    offsets = {part.next_offset for part in parts}
    if offsets != {snapshot.next_offset}:
        raise CheckpointError(f"parts of offsets {sorted(offsets)} under the name of {snapshot.next_offset}")


def resume(options: Options, snapshot: Snapshot) -> PartitionState:
    """The state of a snapshot that `check` has passed; raises CheckpointError if it does not fit together."""
    state, _ = restore(
        options, [snapshot.head], {number: [block] for number, block in snapshot.blocks.items()}
    )
    return state


def _head(state: PartitionState, blocks: list[int]) -> Head:
    return Head(
        format=FORMAT,
        learners=LearnerBank.VERSION,
        next_offset=state.next_offset,
        clock=state.watermarks.clock,
        registry=state.registry_position,
        depth=state.open[0].depth,
        blocks=blocks,
    )


def _block(state: PartitionState, number: int) -> Block:
    first = number * BLOCK
    names = state.sensors.names[first : first + BLOCK]
    end = first + len(names)
    waiting, silent, returned = state.inhibition.dump(first, end)
    return Block(
        format=FORMAT,
        learners=LearnerBank.VERSION,
        next_offset=state.next_offset,
        clock=state.watermarks.clock,
        registry=state.registry_position,
        names=names,
        clocks=[getattr(state.watermarks, name)[first:end].tobytes() for name in _CLOCKS],
        windows=[
            _open_rows(size.rows, first * size.depth, end * size.depth, size.depth) for size in state.open
        ],
        forecasts=[getattr(state.forecasts, name)[first:end].tobytes() for name in Forecasts.COLUMNS],
        learnt=state.router.learners.dump(range(first, end)).tobytes(),
        severities=state.router.severity.dump(range(first, end)),
        states=[
            getattr(state.router.classifier.states, name)[first:end].tobytes() for name in SensorState.COLUMNS
        ],
        recent=_recent(state, first, end),
        packets=[column.tobytes() for column in state.packets.dump(number)],
        rests=state.router.window_rules.rests.dump(first, end),
        lasts=state.router.window_rules.lasts.dump(first, end),
        steps=state.forecasts.errors.dump(first, end),
        spoken=_spoken(state, first, end),
        waiting=waiting,
        silent=silent,
        returned=returned,
        trials=state.trials.dump(number, end),
        attended=state.attention.dump(range(first, end)),
    )


def _spoken(state: PartitionState, first: int, end: int) -> dict[str, bytes]:
    """The places of the block's sensors by the device that first named them."""
    places: dict[str, list[int]] = {}
    for slot in range(first, end):
        if device := state.sensors.spoken.get(slot):
            places.setdefault(device, []).append(slot - first)
    return {device: bytes(its) for device, its in places.items()}


def _recent(state: PartitionState, first: int, end: int) -> list[list[bytes]]:
    """The readings in open windows: places in the block, ms after what is closed of their sensors, and keys."""
    now, found = state.recent.generation(state.watermarks.clock), []
    for log in (state.recent.of(now), state.recent.of(now - 1)):
        at = slice(*np.searchsorted(log.slot[: len(log)], [first, end]).tolist())
        slot = log.slot[at]
        after = log.ts[at] - state.watermarks.closed[slot]
        found.append(
            [(slot - first).astype(_PLACE).tobytes(), after.astype(_AFTER).tobytes(), log.key[at].tobytes()]
        )
    return found


def _open_rows(rows: Moments, first: int, end: int, depth: int) -> list[bytes]:
    """The windows that are open, with their sensors' places in the block."""
    at = first + np.flatnonzero(rows.start[first:end] != NEVER)
    if not len(at):  # the rule for the larger sizes, where sensors read seldom
        return [b""] * (1 + len(COLUMNS))
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

    `state.next_offset` is where to read on, by `core.engine.run`, which gives the state the registry as of its
    `registry_position`: where it reads on, even if some blocks are of beyond that; they have seen the edits that come again,
    and ranges are no part of them. Raises CheckpointError if anything is damaged, missing or of another version.
    """
    head = max((_open(sealed, Head) for sealed in heads), key=lambda part: part.next_offset, default=None)
    if head is None:
        raise CheckpointError("the head of a checkpoint is missing")
    found = [_newest(number, blocks.get(number, ())) for number in range(_count(head, blocks))]
    state = PartitionState(options, head.depth)
    for number, block in enumerate(found):
        try:
            _load(state, number, block)
        except (ValueError, IndexError) as error:
            raise CheckpointError(f"block {number} of a checkpoint does not fit together: {error}") from error
    reached = [_reached(head, number, block) for number, block in enumerate(found)]
    # Not beyond the head, even if all blocks are: sensors that are new since may stand in a block never written.
    state.next_offset = min([head.next_offset, *reached])
    parts: list[Head | Block] = [head, *found]
    here = next(part for part in parts if part.next_offset == state.next_offset)
    state.watermarks.clock, state.registry_position = here.clock, here.registry
    # A block that the head counts on has seen what the head has, though it has not changed since it was written.
    state.trials.reached = [
        block.registry if at < head.next_offset else max(block.registry, head.registry)
        for block, at in zip(found, reached, strict=True)
    ]
    if any(offset > state.next_offset for offset in reached):
        state.sensors.block_next = reached
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


def _load(state: PartitionState, number: int, block: Block) -> None:
    first = number * BLOCK
    while len(state.sensors) < first:  # an older version of the block before may hold fewer sensors
        state.sensors.put(None)
    end = first + len(block.names)
    for name in block.names:
        if name is not None and state.sensors.slot_of(name) is not None:
            raise CheckpointError(f"sensor {name} stands in two blocks of a checkpoint")
        state.sensors.put(name)
    for device, places in block.spoken.items():
        named = _slots(places, _PLACE, first, end).tolist()
        state.sensors.spoken |= dict.fromkeys(named, device)
        state.sensors.named |= dict.fromkeys(named, block.next_offset)
    state.fit()
    state.inhibition.load(first, block.waiting, block.silent, block.returned)
    for column, data in zip(_CLOCKS, block.clocks, strict=True):
        getattr(state.watermarks, column)[first:end] = np.frombuffer(data, dtype=np.int64)
    for size, columns in zip(state.open, block.windows, strict=True):
        size.put(_slots(columns[0], np.int64, first, end), Moments.from_bytes(columns[1:]))
    for column, data in zip(Forecasts.COLUMNS, block.forecasts, strict=True):
        held = getattr(state.forecasts, column)
        held[first:end] = np.frombuffer(data, dtype=held.dtype)
    state.router.learners.load(first, np.frombuffer(block.learnt).reshape(end - first, -1))
    state.router.severity.load(first, block.severities)
    for column, data in zip(SensorState.COLUMNS, block.states, strict=True):
        held = getattr(state.router.classifier.states, column)
        held[first:end] = np.frombuffer(data, dtype=held.dtype)
    for age, (places, after, known) in enumerate(block.recent):
        slot = _slots(places, _PLACE, first, end)
        ts = state.watermarks.closed[slot] + np.frombuffer(after, dtype=_AFTER)
        log = state.recent.of(state.recent.generation(block.clock) - age)
        log.add(slot, ts, np.frombuffer(known, dtype=np.int64))
    keys, clocks = (np.frombuffer(data, dtype=np.int64) for data in block.packets)
    state.packets.load(number, keys, clocks)
    state.router.window_rules.rests.load(first, end, block.rests)
    state.router.window_rules.lasts.load(first, end, block.lasts)
    state.forecasts.errors.load(first, end, block.steps)
    state.trials.load(number, end - first, block.trials)
    state.attention.load(first, block.attended, block.clock)


def _slots(places: bytes, dtype: type[np.integer[Any]], first: int, end: int) -> Ints:
    """The slots of places in a block; raises ValueError where it has no such place."""
    slots = np.frombuffer(places, dtype=dtype).astype(np.int64) + first
    if len(slots) and not first <= slots.min() <= slots.max() < end:
        raise ValueError(f"a place is beyond the block's {end - first} sensors")
    return slots
