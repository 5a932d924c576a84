"""The loop of a replay: read, step, compare, write where asked to, and save the progress."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from time import monotonic, process_time

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from streamproc.core.checkpoint import resume
from streamproc.core.chunk import Chunk
from streamproc.core.engine import PartitionState
from streamproc.core.predict import MODEL
from streamproc.core.registry import RegistryLog
from streamproc.engine.options import options
from streamproc.kafka.chunks import read
from streamproc.replay.compare import Comparison
from streamproc.replay.engine import Engine
from streamproc.replay.journal import Journal
from streamproc.replay.refused import Refused
from streamproc.replay.request import Request
from streamproc.replay.span import Span, snapshot_before
from streamproc.settings import Settings
from streamproc.sink.batches import Bounds
from streamproc.store.comparison import Scope
from streamproc.store.protocol import Store

#: Saves may take this part of the CPU time: large states are saved less often.
SAVE_SHARE = 0.05


_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Pace:
    """How far a replay is: records done of all, those of an earlier run among them, and the partition under way."""

    total: int
    done: int = 0
    earlier: int = 0
    readings: int = 0
    partition: int = -1
    began: float = field(default_factory=monotonic)
    cpu: float = field(default_factory=process_time)

    def skip(self, records: int) -> None:
        """Count records that an earlier run has done."""
        self.done += records
        self.earlier += records


@dataclass(frozen=True, slots=True)
class Site:
    """What a replay works with; `show` is told the pace after each chunk, `stopped` asked whether to stop."""

    settings: Settings
    request: Request
    store: Store
    consumer: AIOKafkaConsumer
    journal: Journal
    registry: RegistryLog
    show: Callable[[Pace], None]
    stopped: Callable[[], bool]


class Replay:
    """One pass over the spans; with `write` the database holds what comes out afterwards."""

    def __init__(self, site: Site, spans: list[Span], *, write: bool) -> None:
        self._site, self._journal = site, site.journal
        self._spans = [span for span in spans if span.begin < span.end]
        ranges = {span.partition: (span.begin, span.end) for span in self._spans}
        self._refused = Refused(site.settings, ranges)
        bounds = Bounds(site.settings.sink_batch_rows, site.settings.sink_batch_bytes)
        self._comparison = Comparison(
            site.store, site.journal, self._refused, bounds, site.stopped, write=write
        )
        self._topic = site.settings.topic("readings")
        self._interval_s = site.settings.checkpoint_interval_seconds
        self._saved, self._cost = monotonic(), 0.0
        self.pace = Pace(sum(span.end - span.start for span in self._spans))

    async def run(self) -> bool:
        """Do all that an earlier run has not; whether it came to the end. Raises StreamprocError."""
        try:
            return await self._run()
        finally:
            self._refused.close()

    async def _run(self) -> bool:
        for span in self._spans:
            if self._journal.fact(f"done {span.partition}"):
                self.pace.skip(span.end - span.start)
            elif not await self._partition(span):
                return False
        await self._comparison.extras([self._scope(span) for span in self._spans], self._site.request.sensors)
        self._journal.commit()
        return True

    async def _partition(self, span: Span) -> bool:
        engine = await self._engine(span)
        self.pace.partition = span.partition
        begin = max(engine.state.next_offset, span.first)
        self.pace.skip(max(begin - span.start, 0))
        _log.debug(
            "replay begins", partition=span.partition, next_offset=begin, begin=span.begin, end=span.end
        )
        place = TopicPartition(self._topic, span.partition)
        async for chunk in _cut(
            read(self._site.consumer, place, begin, span.end, self._site.stopped), span.begin
        ):
            if chunk.offsets[0] < span.begin:
                engine.warm(chunk)
            else:
                await self._compare(engine, chunk)
            self.pace.done += len(chunk)
            self._site.show(self.pace)
            if monotonic() - self._saved > max(self._interval_s, self._cost / SAVE_SHARE):
                await self._save(engine)
        ended = not self._site.stopped()
        if ended:
            self._journal.end(span.partition, engine.closed(), cold=span.cold)
            self._journal.put(f"clock {span.partition}", engine.clock)
            self._journal.put(f"done {span.partition}", True)
        await self._save(engine)
        return ended

    async def _engine(self, span: Span) -> Engine:
        """The partition's state: that of an earlier run of this replay, or one to be warmed up."""
        settings = self._site.settings
        wanted = options(settings, span.partition, span.partitions)
        kept = self._journal.state(span.partition)
        if kept is None and span.is_snapshot:
            kept = await snapshot_before(settings, span.partition, span.start)
        state = PartitionState(wanted) if kept is None else resume(wanted, kept)
        sensors = self._site.request.sensors
        only = None if sensors is None else frozenset(sensors)
        return Engine(state, settings, self._site.registry, only)

    async def _compare(self, engine: Engine, chunk: Chunk) -> None:
        name = f"begun {engine.partition}"
        if not self._journal.fact(name):
            self._journal.begin(engine.partition, engine.closed())
            self._journal.put(name, True)
        made = engine.make(chunk)
        self.pace.readings += made.readings
        await self._comparison.take(made)

    async def _save(self, engine: Engine) -> None:
        """Make what was done up to here last."""
        await self._comparison.settle()
        began = process_time()
        self._comparison.flush()
        self._journal.save(engine.partition, engine.snapshot())
        self._journal.commit()
        self._cost, self._saved = process_time() - began, monotonic()
        _log.debug("replay saved", partition=engine.partition, next_offset=engine.state.next_offset)

    def _scope(self, span: Span) -> Scope:
        closed = self._journal.closed(span.partition)
        sizes_ms = self._site.settings.sink_window_sizes_ms
        clock = self._journal.fact(f"clock {span.partition}") or 0  # a journal of an earlier version has none
        return Scope(self._topic, span.partition, span.begin, span.end, closed, MODEL, sizes_ms, clock)


async def _cut(chunks: AsyncIterator[Chunk], at: int) -> AsyncIterator[Chunk]:
    """The chunks, of which none reaches over the offset `at`."""
    async for chunk in chunks:
        index = int(chunk.offsets.searchsorted(at))
        for part in (
            (chunk.cut(0, index), chunk.cut(index, len(chunk))) if 0 < index < len(chunk) else (chunk,)
        ):
            yield part
