"""One partition's engine in a replay, and the rows that the sink would make of its outputs."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from streamproc.core.checkpoint import Snapshot, snapshot
from streamproc.core.chunk import Chunk
from streamproc.core.codec import decode
from streamproc.core.engine import Outputs, PartitionState, run
from streamproc.core.learners import LearnerBank
from streamproc.core.ownership import Owners
from streamproc.core.predict import HORIZON_MS
from streamproc.core.registry import RegistryLog
from streamproc.core.windows import NEVER
from streamproc.engine.outputs import messages
from streamproc.replay.ranges import Overlaid
from streamproc.settings import Settings
from streamproc.sink.batches import batch
from streamproc.sink.rows import Decoder, Piece
from streamproc.store.protocol import (
    Batch,
    Columns,
    EventColumns,
    NotificationColumns,
    PredictionColumns,
    WindowColumns,
    take,
)

#: Topics that the sink makes rows of, but for `readings`, whose records are there already; trials are not compared.
OUTPUTS = tuple(topic for topic in Decoder.TOPICS if topic not in {"readings", "trial-events"})


class Made:
    """What a chunk gave: the rows that the sink would write, and where each comes from."""

    def __init__(self, engine: Engine, rows: Batch, outs: list[Outputs]) -> None:
        self._engine, self.rows, self._outs = engine, rows, outs
        self.readings = sum(out.readings + out.duplicates for out in outs)

    def lineage(self, rows: Columns, index: int) -> dict[str, Any]:
        """The records, window, rule and versions that row `index` of one of the tables was made of."""
        place = {"topic": self._engine.topic, "partition": self._engine.partition}
        if isinstance(rows, EventColumns):
            told: dict[str, Any] = msgspec.to_builtins(rows.event[index].lineage)
            return told
        if isinstance(rows, NotificationColumns):
            source = rows.notification[index].event_id
            events = (event for out in self._outs for event in out.events if event.event_id == source)
            return next((msgspec.to_builtins(event.lineage) for event in events), place)
        if isinstance(rows, PredictionColumns):
            return place | self._window_before(rows, index)
        if isinstance(rows, WindowColumns):
            return place | {
                "first_offset": int(rows.first_offset[index]),
                "last_offset": int(rows.last_offset[index]),
                "window": {"start": int(rows.start[index]), "size_ms": int(rows.size_ms[index])},
            }
        offset = int(rows.offset[index])
        return place | {"first_offset": offset, "last_offset": offset}

    def _window_before(self, rows: PredictionColumns, index: int) -> dict[str, Any]:
        """The window that a prediction was made with, and its records."""
        start = int(rows.made_at[index]) - HORIZON_MS
        slot = self._engine.state.sensors.slot_of(rows.sensor[index])
        told: dict[str, Any] = {"window": {"start": start, "size_ms": HORIZON_MS}}
        for closed in (closed for out in self._outs for closed in out.windows):
            at = np.flatnonzero((closed.slot == slot) & (closed.rows.start == start))
            if closed.size_ms == HORIZON_MS and len(at):
                told["first_offset"] = int(closed.rows.first_offset[at[0]])
                told["last_offset"] = int(closed.rows.last_offset[at[0]])
        return told | {"versions": {"learners": LearnerBank.VERSION}}


class Engine:
    """A partition's state, moved on chunk by chunk; `only` names the sensors whose rows count (None: all)."""

    def __init__(
        self, state: PartitionState, settings: Settings, registry: RegistryLog, only: frozenset[str] | None
    ) -> None:
        self.state, self._settings, self._registry, self._only = state, settings, registry, only
        self._owners = Owners(registry.original if isinstance(registry, Overlaid) else registry)
        self.topic, self.partition = state.options.topic, state.options.partition
        self._decoder = Decoder(
            settings.allowed_skew_ms, settings.topic_prefix, settings.sink_window_sizes_ms
        )

    def warm(self, chunk: Chunk) -> None:
        """Take in records from before the range."""
        for _ in run(self.state, chunk, self._registry):
            pass

    def make(self, chunk: Chunk) -> Made:
        """Take in records of the range, and give the rows that the sink would write for them."""
        outs: list[Outputs] = []
        stored: list[Piece] = []
        values: dict[str, list[bytes | None]] = {}
        readings = decode(chunk, self._settings.allowed_skew_ms, for_sink=True)
        # Engine and sink decode alike, but for what was sent again for the sink alone: once is enough.
        alike = not any(chunk.is_for_sink(index) for index in chunk.headers)
        for part, out in run(self.state, chunk, self._registry, readings if alike else None):
            outs.append(out)
            position = self.state.registry_position  # the part was judged by it
            stored.append(
                self._decoder.judged(part, position, self._owners, readings if part is chunk else None)
            )
            for message in messages(self.state, part, out):
                if message.topic in OUTPUTS:
                    values.setdefault(message.topic, []).append(message.value)
        pieces = [*stored, *(self._piece(topic, told) for topic, told in values.items())]
        if self._only is not None:
            pieces = [self._chosen(piece, self._only) for piece in pieces]
        places = {(piece.chunk.topic, piece.chunk.partition): None for piece in pieces}
        return Made(self, batch("", pieces, dict(places)), outs)

    def _piece(self, topic: str, values: list[bytes | None]) -> Piece:
        """The rows of messages that the engine would send."""
        count = np.arange(len(values), dtype=np.int64)
        name = self._settings.topic(topic)
        return self._decoder.piece(Chunk(name, self.partition, count, np.zeros_like(count), values))

    @staticmethod
    def _chosen(piece: Piece, only: frozenset[str]) -> Piece:
        at = [index for index, sensor in enumerate(piece.rows.sensor) if sensor in only]
        return Piece(piece.chunk, take(piece.rows, np.array(at, dtype=np.intp)), [])

    @property
    def clock(self) -> int:
        """The partition's clock in ms, 0 before its first record: a database knows no time as early as NEVER."""
        return max(self.state.watermarks.clock, 0)

    def closed(self) -> dict[str, tuple[int, int]]:
        """Of each sensor that counts: up to where its windows are closed, and its newest `ts`, in ms."""
        names, marks = self.state.sensors.names, self.state.watermarks
        pairs = zip(
            names, marks.closed.tolist(), marks.newest.tolist(), strict=False
        )  # there is room for more
        return {
            name: (closed, newest)
            for name, closed, newest in pairs
            if name is not None and newest != NEVER and (self._only is None or name in self._only)
        }

    def snapshot(self) -> Snapshot:
        """The whole state."""
        return snapshot(self.state)
