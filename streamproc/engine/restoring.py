"""Finds a partition's state: its checkpoint, else its newest snapshot, else its records from the beginning.

What cannot be made good is reported, never passed over: records that Kafka deleted before they were taken in, a state rebuilt
without some of the records that it was made of, and a checkpoint that belongs to another topic than the present one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streamproc.core.checkpoint import resume
from streamproc.core.counted import counted
from streamproc.core.engine import Options, PartitionState
from streamproc.engine import metrics
from streamproc.engine.checkpoints import Checkpoints, read
from streamproc.engine.snapshots import find
from streamproc.errors import CheckpointError
from streamproc.kafka.reading import Manner, bounds, consuming
from streamproc.settings import Settings

#: For one record: Kafka gives the batch that it is in, and no more.
LOOK = Manner(fetch_bytes=1)
#: Longest wait for that record. It is there at once, unless the end of a producer's transaction lies in its place.
LOOK_MS = 1_000

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Committed:
    """Kafka's commit for a partition: the next offset, and from where on `checkpoints` must be read."""

    offset: int = 0
    low: int = 0


#: A partition's state, and its checkpoints from here on.
Restored = tuple[PartitionState, Checkpoints]


class Restoring:
    """Restores the partitions of a worker."""

    def __init__(self, settings: Settings, producer: AIOKafkaProducer) -> None:
        self._kafka, self._topic, self._producer = settings.kafka, settings.topic, producer

    async def restore(
        self, options: Mapping[int, Options], committed: Mapping[int, Committed]
    ) -> dict[int, Restored]:
        """The states of these partitions, by number.

        Raises CheckpointError where a checkpoint reaches beyond the records that there are.
        """
        starts = {number: committed.get(number, Committed()).low for number in options}
        found = await read(self._kafka, self._topic("checkpoints"), starts)
        restored, refused = dict[int, Restored](), dict[int, Options]()
        for number, its in options.items():
            try:
                restored[number] = self._from_checkpoint(its, found[number], committed.get(number))
            except CheckpointError as error:
                metrics.FALLBACKS.labels(str(number)).inc()
                _log.error("checkpoint cannot be used", partition=number, reason=str(error))
                refused[number] = its
        # Only now: whoever had the partitions may have gone on until the checkpoints were read.
        async with consuming(self._kafka, LOOK) as consumer:
            places = {number: TopicPartition(self._topic("readings"), number) for number in options}
            limits = await bounds(consumer, places.values())
            if refused:
                ends = {number: limits[places[number]][1] for number in refused}
                restored |= await self._anew(refused, ends)
            for number, (state, _) in restored.items():
                begin, end = limits[places[number]]
                place(state, (begin, end), committed.get(number), anew=number in refused)
                if begin < state.next_offset:
                    await _compare(consumer, places[number], state)
        return restored

    def _checkpoints(self, options: Options) -> Checkpoints:
        return Checkpoints(self._producer, self._topic("checkpoints"), options.partition)

    def _from_checkpoint(
        self, options: Options, found: Mapping[bytes, list[tuple[int, bytes]]], committed: Committed | None
    ) -> Restored:
        checkpoints = self._checkpoints(options)
        state = checkpoints.restore(options, found)
        if state is None and committed is not None:
            raise CheckpointError(f"{counted(committed.offset, 'record')} taken in, but there is none")
        return state or PartitionState(options), checkpoints

    async def _anew(self, refused: Mapping[int, Options], ends: Mapping[int, int]) -> dict[int, Restored]:
        """The states from the newest snapshots: all that was made before them is with Kafka."""
        snapshots = await find(self._kafka, self._topic("snapshots"), ends)
        restored = {}
        for number, options in refused.items():
            snapshot = snapshots.get(number)
            state = resume(options, snapshot) if snapshot else PartitionState(options)
            _log.warning(
                "state is built anew",
                partition=number,
                source="snapshot" if snapshot else "beginning",
                next_offset=state.next_offset,
            )
            restored[number] = state, self._checkpoints(options)
        return restored


def place(state: PartitionState, limits: tuple[int, int], committed: Committed | None, *, anew: bool) -> None:
    """Let the state go on at a record that exists, within `limits` (first, end), and report what it misses.

    `anew` tells that it was made without its checkpoint. Raises CheckpointError where it reaches beyond the end.
    """
    (begin, end), number, topic = limits, state.options.partition, state.options.topic
    if state.next_offset > end:
        raise _other_topic(number, f"reaches offset {state.next_offset}, but {topic} ends at {end}")
    if state.next_offset >= begin:
        return
    taken_in = max(state.next_offset, committed.offset if committed and anew else 0)
    if anew:
        metrics.HISTORY_LOST.labels(str(number)).inc()
        _log.error(
            "the state lacks records that Kafka has deleted: results may differ from before",
            partition=number,
            built_up_to=state.next_offset,
            first_record=begin,
        )
    if begin > taken_in and (committed or anew or state.next_offset):
        tell_lost(number, taken_in, begin)
    state.next_offset = begin


async def _compare(consumer: AIOKafkaConsumer, place: TopicPartition, state: PartitionState) -> None:
    """See that the last record taken in is still the one before `next_offset`; raises CheckpointError.

    In a topic that was made anew, and has grown as long since, there is a younger one than the state has ever seen.
    """
    consumer.seek(place, state.next_offset - 1)
    for record in (await consumer.getmany(place, timeout_ms=LOOK_MS)).get(place, ())[:1]:
        if record.offset == state.next_offset - 1 and record.timestamp > state.watermarks.clock:
            raise _other_topic(
                place.partition,
                f"was made before record {record.offset} of {place.topic}, which it has taken in",
            )


def _other_topic(partition: int, reason: str) -> CheckpointError:
    return CheckpointError(
        f"the checkpoint of partition {partition} {reason}: the topic was made anew, or Kafka has lost records of it. "
        "Bring it back, or go on with what is there: stop all workers, delete the topics `checkpoints` and `snapshots`, "
        "and run `streamproc topics apply`"
    )


def tell_lost(partition: int, begin: int, end: int) -> None:
    """Report that Kafka has deleted the records from one offset to before another, and nobody has taken them in."""
    metrics.RECORDS_LOST.labels(str(partition)).inc(end - begin)
    _log.error(
        "records were deleted by Kafka before they were taken in: `readings` is retained for too short a time",
        partition=partition,
        records=end - begin,
        first=begin,
        last=end - 1,
    )
