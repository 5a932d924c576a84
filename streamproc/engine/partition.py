"""One partition in a worker: takes chunks through the core, sends the outputs, and takes checkpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from time import monotonic, perf_counter, process_time, time
from typing import TYPE_CHECKING

import structlog

from streamproc.core.checkpoint import Snapshot, is_uneven, snapshot
from streamproc.core.chunk import EDIT, TICK, Chunk
from streamproc.core.engine import Outputs, PartitionState, run
from streamproc.core.windows import NEVER
from streamproc.engine import metrics
from streamproc.engine.outbox import Outbox, Word
from streamproc.engine.outputs import Message, messages
from streamproc.errors import CheckpointError, RegistryError
from streamproc.registry.following import Followed, read_for

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer

    from streamproc.engine.checkpoints import Checkpoints

#: Checkpoints may take this part of the worker's CPU time, those of all its partitions: large states are written less often.
CHECKPOINT_SHARE = 0.02
#: A position of the registry that a partition has read and not taken is written again, not sooner than this: as often as an
#: edit should at least be live. It happens where the registry's broker has a clock ahead of the partition's broker.
ANNOUNCE_AGAIN_S = 1.0

_log = structlog.get_logger(__name__)


class Partition:
    """The engine of one partition; `topic` gives the broker's name for a topic of topics.yaml."""

    def __init__(
        self,
        state: PartitionState,
        checkpoints: Checkpoints,
        producer: AIOKafkaProducer,
        registry: Followed,
        topic: Callable[[str], str],
    ) -> None:
        self.state, self.checkpoints, self.registry = state, checkpoints, registry
        #: The registry's position as last written into the partition, when, and Kafka's word on it.
        self._announced, self._announced_at = -1, 0.0
        self._announcement: Word | None = None
        self.number = state.options.partition
        self.label = str(self.number)
        self.outbox = Outbox(producer, topic, self.label)
        #: Everything before this offset is in a checkpoint that Kafka has confirmed.
        self.marked = -1
        #: The same, or where the state was restored at: a restart begins there.
        self.kept = state.next_offset
        self.progressed = self.checkpointed = monotonic()
        self.checkpoint_cpu_s = 0.0
        #: Whether all messages of all steps are in the outbox; a checkpoint stands for them.
        self._whole = True
        #: Held from a step until all of its messages are in the outbox: a checkpoint covers whole chunks.
        self._stepping = asyncio.Lock()
        self._writing = asyncio.Lock()

    async def process(self, chunk: Chunk) -> int:
        """Take in a chunk, without what was taken in before; returns the readings that count."""
        fresh = chunk.since(self.state.next_offset)
        metrics.PASSED_OVER.labels(self.label).inc(len(chunk) - len(fresh))
        self.progressed = monotonic()
        if not len(fresh):
            return 0
        await self._read_registry(fresh)
        readings = 0
        async with self._stepping:
            self._whole = False
            for part, out in _timed(run(self.state, fresh, self.registry.log)):
                for message in messages(self.state, part, out):
                    self.outbox.put(message)
                self._count(part, out)
                readings += out.readings
            self._whole = True
            await self.outbox.settle()
        self._tell_ignored(fresh)
        return readings

    async def _read_registry(self, chunk: Chunk) -> None:
        """Wait until the registry is read as far as the chunk needs it; the watchdog sees to it that this ends."""
        state = self.state
        if not await read_for(self.registry, chunk, state.registry_position, begins=state.entries is None):
            metrics.EDITS_IGNORED.labels(self.label).inc()
            _log.warning(
                "registry ends before the checkpoint's position: judged as of the time of its records",
                partition=self.number,
                position=state.registry_position,
                registry=self.registry.log.position,
            )

    def _tell_ignored(self, chunk: Chunk) -> None:
        """Tell of records that name a position which the registry did not have then: no owner of it wrote them."""
        reached = self.state.registry_position
        ignored = [index for index, position in chunk.edits() if not 0 <= position <= reached]
        if ignored:
            metrics.EDITS_IGNORED.labels(self.label).inc(len(ignored))
            _log.warning(
                "registry did not have the position that records name: taken as ticks",
                **_place(chunk, chunk.offsets[ignored].tolist()),
                registry=self.registry.log.position,
            )

    def due(self, interval_s: float, partitions: int = 1) -> bool:
        """Whether there is something to checkpoint and it is time to, in a worker of so many partitions."""
        pause = max(interval_s, partitions * self.checkpoint_cpu_s / CHECKPOINT_SHARE)
        return self.state.next_offset > self.marked and monotonic() - self.checkpointed >= pause

    async def checkpoint(self) -> tuple[int, int]:
        """Write a checkpoint; returns the offset that it reaches, and where a restart reads the checkpoints' topic from."""
        async with self._writing:
            snapshot = await self._frozen(self._checkpointed)
            low = await self.checkpoints.write(snapshot)
            self.marked = self.kept = snapshot.next_offset
        metrics.CHECKPOINT_SECONDS.observe(monotonic() - self.checkpointed)
        _log.debug("checkpoint", partition=self.number, next_offset=self.marked, bytes=self.checkpoints.bytes)
        return self.marked, low

    def _checkpointed(self, state: PartitionState) -> Snapshot:
        began, self.checkpointed = process_time(), monotonic()
        snapshot = self.checkpoints.snapshot(state)
        self.checkpoint_cpu_s = process_time() - began
        return snapshot

    async def _frozen(self, freeze: Callable[[PartitionState], Snapshot]) -> Snapshot:
        """The state between two chunks as `freeze` gives it, once Kafka has confirmed all that was made of it."""
        async with self._stepping:
            if not self._whole:
                raise CheckpointError("a chunk was taken in whose outputs were not all sent")
            frozen = freeze(self.state)
            waiting = self.outbox.waiting()
        if waiting:
            await asyncio.wait(waiting)
        for sent in waiting:
            sent.result()
        return frozen

    async def snapshot(self) -> Snapshot | None:
        """The whole state, for a start from just here; None while restored blocks are of different offsets."""
        if is_uneven(self.state):
            return None
        return await self._frozen(_timed_snapshot)

    async def tick(self, silence_s: float, end: int | None) -> None:
        """Write a tick if the partition is silent and a window is open, or something is due by the clock.

        Nothing else would move the clock. `end` is the offset at which the partition ends; records that wait before it
        will move the clock themselves.
        """
        silent = (
            end is not None and end <= self.state.next_offset and monotonic() - self.progressed >= silence_s
        )
        if not silent or not (has_open_windows(self.state) or self._is_any_due()):
            return
        self.progressed = monotonic()
        self.outbox.put(Message("readings", b"tick", None, self.state.options.partition, ((TICK, b"1"),)))
        metrics.TICKS.labels(self.label).inc()

    def _is_any_due(self) -> bool:
        """Whether by now a silence is one, or people are to be told of a sensor again, as far as can be known here.

        The tick's own timestamp decides.
        """
        state, router, marks = self.state, self.state.router, self.state.watermarks
        times = [
            router.silence_rules.next_at(marks, router.severity.silence_at),
            state.inhibition.next_at(),
            state.trials.next_at(marks),
            state.attention.next_at(),
        ]
        due = [at for at in times if at is not None]
        # The brokers' clock goes on since the last record at least; after a start that may be long ago.
        return bool(due) and max(
            marks.clock + 1_000 * (monotonic() - self.progressed), 1_000 * time()
        ) >= min(due)

    async def announce(self) -> None:
        """Write a control record for new edits of the registry, if the partition has records and does not know them."""
        state, position = self.state, self.registry.log.position
        if state.entries is not None and position < state.registry_position:
            raise RegistryError(
                f"the registry's topic ends at {position}, but partition {self.label} was judged by it as of "
                f"{state.registry_position}: it was made anew, and edits before now cannot be found again. The next start "
                "goes on with what is on it; `streamproc registry export -o FILE` and `streamproc registry import FILE` "
                "send all that the database has"
            )
        if not 0 <= state.registry_position < position:
            return
        if position <= self._announced and not self._was_ignored():
            return
        self._announced, self._announced_at = position, monotonic()
        header = (EDIT, str(position).encode())
        self._announcement = self.outbox.put(
            Message("readings", b"registry", None, state.options.partition, (header,))
        )
        metrics.EDITS.labels(self.label).inc()
        _log.info("registry edits announced", partition=self.number, position=position)

    def _was_ignored(self) -> bool:
        """Whether the last announcement was taken in some time ago, and did not move the partition's position."""
        sent = self._announcement
        if sent is None or not sent.done() or monotonic() - self._announced_at < ANNOUNCE_AGAIN_S:
            return False
        return bool(self.state.next_offset > sent.result().offset)

    def _count(self, chunk: Chunk, out: Outputs) -> None:
        metrics.CHUNK_RECORDS.observe(len(chunk))
        metrics.count(self.label, out)
        again = [index for index in chunk.headers if chunk.is_redriven(index)]
        if again:
            metrics.REDRIVEN.labels(self.label).inc(len(again))
            _log.info("redriven", **_place(chunk, chunk.offsets[again].tolist()))
        for name, offsets in (
            ("late", [late.offset for late in out.late]),
            ("rejected", [int(chunk.offsets[fault.record]) for fault in out.rejected]),
            ("misrouted", [int(chunk.offsets[index]) for index, _ in out.moved]),
        ):
            if offsets:
                _log.info(name, **_place(chunk, offsets), sampled=True)


def _place(chunk: Chunk, offsets: list[int]) -> dict[str, object]:
    """Which records of the chunk a line is about: the first and the last of them, and of how many things it tells."""
    return {
        "topic": chunk.topic,
        "partition": chunk.partition,
        "offset": min(offsets),
        "last_offset": max(offsets),
        "count": len(offsets),
    }


def _timed_snapshot(state: PartitionState) -> Snapshot:
    with metrics.SNAPSHOT_SECONDS.time():
        return snapshot(state)


def _timed(parts: Iterable[tuple[Chunk, Outputs]]) -> Iterator[tuple[Chunk, Outputs]]:
    """The same, with the time that the core takes for each observed."""
    began = perf_counter()
    for stepped in parts:
        metrics.STEP_SECONDS.observe(perf_counter() - began)
        yield stepped
        began = perf_counter()


def has_open_windows(state: PartitionState) -> bool:
    """Whether any sensor has an open window."""
    return any(bool((size.rows.start != NEVER).any()) for size in state.open)
