"""Fetched records as columns: chunks without an object for each record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from aiokafka.errors import CorruptRecordException
from faust.types import TP

from streamproc.core.chunk import Chunk, Headers

#: A chunk ends with the batch in which it reaches so many records: 75 ms of work. A fetch of single readings has fewer.
CHUNK_RECORDS = 32_768


@dataclass(frozen=True, slots=True)
class Refused:
    """Stands in for Columns: aiokafka cannot parse the batch of the record at `offset` (see `streamproc.kafka.reread`)."""

    offset: int


class Columns:
    """The parsed records of one partition, without an object or a call for each.

    `fill` stands in for aiokafka's `PartitionRecords._unpack_records`, whose ConsumerRecords cost more than decoding the
    readings in them, and ten thousand of which at a time cost as much again in garbage collections.
    """

    __slots__ = ("headers", "offsets", "timestamps", "values")

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self.offsets: list[int] = []
        self.timestamps: list[int] = []
        self.values: list[bytes | None] = []
        self.headers: dict[int, Headers] = {}

    def fill(self, fetched: Any) -> Iterator[Columns | Refused]:
        """Take in what was fetched of a partition, and stop at each CHUNK_RECORDS and at the end to be taken from.

        It ends at a batch with a header whose name is not UTF-8. Raises CorruptRecordException where one is damaged; what
        comes before it can be taken first.
        """
        source = fetched._records
        while source.has_next():
            batch = source.next_batch()
            if fetched._check_crcs and not batch.validate_crc():
                raise CorruptRecordException(f"Invalid CRC - {fetched._tp}")
            if not _is_void(fetched, batch):
                # A seek may point into a batch; what lies before it was read already.
                known = batch.base_offset < fetched.next_fetch_offset
                try:
                    self.add(
                        (record for record in batch if record.offset >= fetched.next_fetch_offset)
                        if known
                        else batch
                    )
                except UnicodeDecodeError:
                    yield from self._stop(fetched, batch.base_offset)
            fetched.next_fetch_offset = batch.next_offset
            while len(self.offsets) >= CHUNK_RECORDS:
                yield self  # until it was taken from
        if self.offsets:
            yield self

    def _stop(self, fetched: Any, base_offset: int) -> Iterator[Columns | Refused]:
        """What there is before the refused record, until it was taken, and then that record's place, for ever."""
        done = self.offsets[-1] + 1 if self.offsets else 0
        fetched.next_fetch_offset = max(fetched.next_fetch_offset, base_offset, done)
        while self.offsets:
            yield self
        while True:
            yield Refused(fetched.next_fetch_offset)

    def add(self, records: Iterable[Any]) -> None:
        """Take in records, as aiokafka parses or wraps them."""
        offset, timestamp, value = self.offsets.append, self.timestamps.append, self.values.append
        for record in records:
            if record.headers:
                self.headers[len(self.offsets)] = tuple(record.headers)
            offset(record.offset)
            timestamp(record.timestamp)
            value(record.value)

    def take(self, tp: TP) -> Chunk:
        """What was gathered since the last time."""
        chunk = Chunk(
            topic=tp.topic,
            partition=tp.partition,
            offsets=np.array(self.offsets, dtype=np.int64),
            timestamps=np.array(self.timestamps, dtype=np.int64),
            values=self.values,
            headers=self.headers,
        )
        self._clear()
        return chunk


def _is_void(fetched: Any, batch: Any) -> bool:
    """Whether a batch holds no records for a reader: the marker of a transaction, or what was aborted in one."""
    if batch.producer_id is None:
        return bool(batch.is_control_batch)
    fetched._consume_aborted_up_to(batch.base_offset)
    if batch.is_control_batch:
        if fetched._contains_abort_marker(batch):
            fetched._aborted_producers.discard(batch.producer_id)
        return True
    return bool(batch.is_transactional and batch.producer_id in fetched._aborted_producers)


def gather(tp: TP, drained: list[Any]) -> Chunk:
    """One chunk of what aiokafka gave for a partition: its own records, or Columns."""
    if isinstance(drained[0], Columns):
        return drained[0].take(tp)
    columns = Columns()
    columns.add(drained)
    return columns.take(tp)
