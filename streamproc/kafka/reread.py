"""Reads batches once more that aiokafka refuses because of one header's name.

Kafka stores header names as bytes, and only declares that they are UTF-8; a producer in C can send any bytes. Java's client
replaces invalid ones; aiokafka 0.14 raises in the middle of the batch. The engine looks for none of those names.
"""

from __future__ import annotations

import struct
from typing import Any

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, NotLeaderForPartitionError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.default_records import _DefaultRecordBatchPy

from streamproc.kafka.columns import Columns, Refused

#: Kafka gives a batch whole however little is asked for; what comes behind it is fetched again as ever.
_BYTES = 1
_READ_COMMITTED = 1
#: A batch's length is behind its base offset, and counts what comes after both (Kafka's record format).
_LENGTH = struct.Struct(">qi")

_log = structlog.get_logger(__name__)


async def reread(fetcher: Any, place: TopicPartition, refused: Refused) -> Columns | None:
    """The records of a refused batch from `refused.offset` on; aiokafka goes on behind it.

    None where the partition is another's by now, or Kafka does not answer: then aiokafka fetches and refuses it again. Raises
    CorruptRecordException where not only a name is wrong.
    """
    result = fetcher._records.pop(place)  # aiokafka fetches nothing of it while this is there
    try:
        batch = await _fetch(fetcher._client, place, refused.offset)
    except KafkaError as error:
        _log.warning(
            "batch could not be read again", topic=place.topic, partition=place.partition, error=repr(error)
        )
        return None
    finally:
        fetcher._notify(fetcher._wait_consume_future)
    assignment = result._assignment
    if batch.base_offset > refused.offset or not assignment.active:
        return None
    state = assignment.state_value(place)
    if state.position != refused.offset:
        return None
    columns = Columns()
    columns.add(record for record in batch if record.offset >= refused.offset)
    state.consumed_to(batch.next_offset)
    _log.warning(
        "header name is not UTF-8",
        topic=place.topic,
        partition=place.partition,
        offset=refused.offset,
        last_offset=batch.next_offset - 1,
    )
    return columns


async def _fetch(client: Any, place: TopicPartition, offset: int) -> Any:
    """The batch that holds this offset, or the next one; raises KafkaError."""
    node = client.cluster.leader_for_partition(place)
    if node is None or node < 0:
        raise NotLeaderForPartitionError(place)
    asked = [(place.topic, [(place.partition, offset, _BYTES)])]
    answer = await client.send(node, FetchRequest(0, 0, _BYTES, _READ_COMMITTED, asked))
    ((_, ((_, code, *_, data),)),) = answer.topics
    if code:
        raise for_code(code)(place)
    if len(data) < _LENGTH.size:
        raise KafkaError(f"no batch at {offset}")
    _, length = _LENGTH.unpack_from(data)
    batch = _DefaultRecordBatchPy(data[: _LENGTH.size + length])
    iter(batch)  # it decompresses
    batch._buffer = _Lenient(batch._buffer)
    return batch


class _Lenient(bytearray):
    """Bytes that decode as Java's client does: what is no UTF-8 becomes U+FFFD."""

    def __getitem__(self, at: Any) -> Any:
        got = super().__getitem__(at)
        return _Lenient(got) if isinstance(at, slice) else got

    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        """The text."""
        return super().decode(encoding, errors)
