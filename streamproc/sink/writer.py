"""Writes chunks into the database: each row once, each record's offset with its rows, whatever fails in between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from time import monotonic
from typing import TypeVar

import numpy as np
import structlog

from streamproc.core.chunk import Chunk
from streamproc.errors import RowsRefused, StaleOwner, StoreError, StoreUnavailable
from streamproc.monitor.standing import Standing
from streamproc.records import DeadLetter
from streamproc.registry.following import Followed
from streamproc.settings import Settings
from streamproc.sink import metrics
from streamproc.sink.batches import Bounds, Refusals, batch, cut, group, letters, split, without
from streamproc.sink.judging import Judge
from streamproc.sink.rows import Decoder, Piece
from streamproc.store.protocol import Batch, Place, Store, Written

T = TypeVar("T")
DeadLetters = Callable[[list[DeadLetter]], Awaitable[None]]

_log = structlog.get_logger(__name__)


class Writer:
    """Writes chunks of the sink's topics, for the sink's consumer group.

    `dead_letters` must return once Kafka has what it was given; whose a sensor is, `registry` tells; `pause` waits so many
    seconds, between two tries.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        dead_letters: DeadLetters,
        registry: Followed,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store, self._dead_letters, self._pause = store, dead_letters, pause
        self.bounds = Bounds(settings.sink_batch_rows, settings.sink_batch_bytes)
        self._group = settings.group("sink")
        self._decoder = Decoder(
            settings.allowed_skew_ms, settings.topic_prefix, settings.sink_window_sizes_ms
        )
        self._readings = settings.topic("readings")
        self._judge = Judge(registry, settings.watchdog_seconds)
        #: Of each partition the next offset, and the registry's position that its record is judged by (-1: none known).
        self._known: dict[Place, int | None] = {}
        self._judged_by: dict[Place, int] = {}
        self._turn = asyncio.Lock()
        self.standing = Standing(metrics.RETRIES)

    def next_offset(self, place: Place) -> int:
        """How far the partition is in the database, as far as is known; 0 if it is not."""
        return self._known.get(place) or 0

    async def positions(self, partitions: Collection[Place]) -> dict[Place, int]:
        """Where to read on, by the database; an unknown partition starts at its beginning.

        To be asked whenever partitions are assigned: what another sink wrote meanwhile is known afterwards.
        """
        async with self._turn:
            return await self._positions(partitions)

    async def _positions(self, partitions: Collection[Place]) -> dict[Place, int]:
        reached = await self._patiently(lambda: self._store.reached(self._group))
        known = {place: reached[place].next_offset for place in partitions if place in reached}
        self._known.update((place, known.get(place)) for place in partitions)
        self._judged_by.update(
            (place, reached[place].registry if place in known else -1) for place in partitions
        )
        return known

    async def write(self, chunks: Sequence[Chunk]) -> None:
        """Write the rows of all chunks, each partition's in offset order, without those written before.

        Tries for as long as the database is away; raises StaleOwner where another sink has a partition now.
        Calls take turns: a database has one writer, and a batch of several chunks costs less.
        """
        places = {(chunk.topic, chunk.partition) for chunk in chunks}
        async with self._turn:
            try:
                if not places <= self._known.keys():
                    await self._positions(places)
                await self._read_registry(chunks)
                for pieces in group(self._pieces(chunks), self.bounds):
                    await self._write(pieces)
            except BaseException:  # cancelled, say, and yet the transaction may succeed: ask again
                for place in places:
                    self._known.pop(place, None)
                raise

    async def _read_registry(self, chunks: Sequence[Chunk]) -> None:
        """Wait until the registry is read as far as these chunks need it; partitions wait side by side."""
        fresh: dict[Place, list[Chunk]] = {}
        for chunk in chunks:
            place = (chunk.topic, chunk.partition)
            if chunk.topic == self._readings and len(part := chunk.since(self._known[place])):
                fresh.setdefault(place, []).append(part)
        await asyncio.gather(
            *(self._judge.read_for(its, self._judged_by[place]) for place, its in fresh.items())
        )

    def _pieces(self, chunks: Sequence[Chunk]) -> Iterator[Piece]:
        following, judged_by = dict(self._known), dict(self._judged_by)
        for chunk in chunks:
            place = (chunk.topic, chunk.partition)
            fresh = chunk.since(following[place])
            metrics.PASSED_OVER.inc(len(chunk) - len(fresh))
            if len(fresh):
                following[place] = fresh.next_offset
                # Before they are decoded: rows of one part are held at a time, whatever was fetched at once.
                for part in cut(fresh, self.bounds.size_bytes):
                    for piece in self._decoded(part, judged_by):
                        metrics.SKIPPED.inc(piece.skipped)
                        yield from split(piece, self.bounds.rows)

    def _decoded(self, part: Chunk, judged_by: dict[Place, int]) -> Iterator[Piece]:
        """The part's rows; those of readings by the registry from where it stands in `judged_by`, which is moved on."""
        if part.topic != self._readings:
            yield self._decoder.piece(part)
            return
        place = (part.topic, part.partition)
        begin = self._judge.begin(part, judged_by[place])
        for judged, (position, owners) in self._judge.parts(part, begin):
            judged_by[place] = position
            yield self._decoder.judged(judged, position, owners)

    async def _write(self, pieces: list[Piece]) -> None:
        """One transaction; dead letters go out before it, so that no offset passes a record not kept."""
        rows = batch(self._group, pieces, self._known)
        await self._announce([fault for piece in pieces for fault in piece.letters])
        started = monotonic()
        while True:
            try:
                written = await self._commit(rows)
                break
            except RowsRefused as error:
                refused = await self._refused(rows, error)
                metrics.REFUSED.inc(len(refused.rows))
                await self._announce(letters(pieces, rows, refused))
                rows = without(rows, refused)
        self._known.update((place, following) for place, (_, following) in rows.offsets.items())
        self._judged_by.update(rows.registry)
        _tell_foreign(pieces)
        metrics.BATCH_BYTES.observe(sum(piece.chunk.size_bytes for piece in pieces))
        _count(rows, written, monotonic() - started)

    async def _commit(self, rows: Batch) -> Written:
        tried = 0

        async def attempt() -> Written:
            nonlocal tried
            tried += 1
            return await self._store.write(rows)

        try:
            return await self._patiently(attempt)
        except StaleOwner:
            # A commit may succeed and its answer be lost: then the offsets are where this batch has put them.
            if tried > 1 and await self._is_written(rows):
                return Written()
            metrics.STALE.inc()
            raise

    async def _is_written(self, rows: Batch) -> bool:
        known = await self._patiently(lambda: self._store.offsets(self._group))
        return all(known.get(place) == following for place, (_, following) in rows.offsets.items())

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        return await self.standing.patiently(call, pause=self._pause)

    async def look(self) -> None:
        """Run a transaction that writes nothing, if nothing else has asked the database lately.

        So that an idle sink knows whether it could write. Raises what the database raises but StoreUnavailable.
        """
        if self._turn.locked() or self.standing.fresh():
            return
        async with self._turn:
            with suppress(StoreUnavailable), self.standing.asking():
                await self._store.probe(batch(self._group, [], {}))

    async def _announce(self, faults: list[DeadLetter]) -> None:
        if faults:
            places: dict[tuple[str, int], list[DeadLetter]] = {}
            for fault in faults:
                places.setdefault((fault.topic, fault.partition), []).append(fault)
            for (topic, partition), its in places.items():
                _log.warning(
                    "records not stored",
                    topic=topic,
                    partition=partition,
                    offset=min(fault.offset for fault in its),
                    last_offset=max(fault.offset for fault in its),
                    count=len(its),
                    reason=its[0].reason,
                )
            await self._dead_letters(faults)
            metrics.LETTERS.inc(len(faults))

    async def _refused(self, rows: Batch, error: RowsRefused) -> Refusals:
        """Which rows the database does not take."""
        if error.sensors:
            return _unknown(rows, error.sensors)
        refused = Refusals([], [])
        await self._halve(rows, list(range(len(rows))), refused, None)
        if not refused:  # none by itself: only together. What comes last is then what is too much
            await self._halve(rows, list(range(len(rows))), refused, [])
        if not refused:
            raise StoreError(f"the database refuses a batch, but none of its rows: {error}") from error
        return refused

    async def _halve(self, rows: Batch, at: list[int], refused: Refusals, accepted: list[int] | None) -> None:
        """Find the refused ones of these rows; where `accepted` is kept, each part is tried with it."""
        try:
            tried = np.array([*(accepted or []), *at], dtype=np.intp)
            await self._patiently(lambda: self._store.probe(rows.take(tried)))
        except RowsRefused as error:
            if len(at) > 1:
                middle = len(at) // 2
                await self._halve(rows, at[:middle], refused, accepted)
                await self._halve(rows, at[middle:], refused, accepted)
            elif at:
                refused.rows.append(at[0])
                refused.reasons.append(str(error))
        else:
            if accepted is not None:
                accepted.extend(at)


def _unknown(rows: Batch, sensors: frozenset[str]) -> Refusals:
    names = [sensor for table in rows.tables() for sensor in table.sensor]
    found = [row for row, sensor in enumerate(names) if sensor in sensors]
    return Refusals(found, [_told(names[row]) for row in found])


def _told(name: str) -> str:
    """Why a row of this unknown sensor is not stored; the registry takes no name that ends in a blank."""
    return f"unknown sensor {name}" + ("; a name that ends in a blank is none" if name.endswith(" ") else "")


def _tell_foreign(pieces: Sequence[Piece]) -> None:
    """Count the readings that were left out as foreign, and say where they were: the engine has a letter for each record."""
    for piece in pieces:
        if piece.foreign:
            metrics.FOREIGN.inc(piece.foreign)
            _log.info(
                "foreign readings not stored",
                topic=piece.chunk.topic,
                partition=piece.chunk.partition,
                offset=int(piece.chunk.offsets[0]),
                last_offset=int(piece.chunk.offsets[-1]),
                count=piece.foreign,
                sampled=True,
            )


def _count(rows: Batch, written: Written, seconds: float) -> None:
    counts = asdict(written)
    for table, count in counts.items():
        metrics.ROWS.labels(table=table).inc(count)
    metrics.KNOWN.inc(len(rows) - sum(counts.values()))
    metrics.BATCH_ROWS.observe(len(rows))
    metrics.SECONDS.observe(seconds)
