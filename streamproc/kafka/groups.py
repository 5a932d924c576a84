"""The committed offsets of a consumer group, asked from outside the group."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from time import monotonic

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.structs import OffsetAndMetadata

from streamproc.kafka import clients
from streamproc.settings.connection import Connection

#: Offsets and their metadata, where there are any.
Committed = dict[TopicPartition, OffsetAndMetadata]

#: A coordinator that has just started reads its groups first: a second, for a large cluster's many.
LONGEST_S = 30.0
_PAUSE_S = 0.1


async def committed(kafka: Connection, group: str, places: Iterable[TopicPartition]) -> Committed:
    """The group's committed offsets of these partitions; waits for a coordinator that is starting. Raises KafkaError.

    aiokafka's own request takes "still loading" and "not allowed" for a group that has committed nothing.
    """
    partitions: dict[str, list[int]] = {}
    for place in places:
        partitions.setdefault(place.topic, []).append(place.partition)
    request = OffsetFetchRequest(group, list(partitions.items()))
    admin = clients.admin(kafka)
    try:
        await admin.start()
        deadline = monotonic() + LONGEST_S
        while True:
            try:
                return await _ask(admin, group, request)
            except KafkaError as error:
                if not error.retriable or monotonic() > deadline:
                    raise
            await asyncio.sleep(_PAUSE_S)
    finally:
        await admin.close()


async def _ask(admin: AIOKafkaAdminClient, group: str, request: OffsetFetchRequest) -> Committed:
    coordinator = await admin.find_coordinator(group)
    answer = await admin._send_request_to_node(coordinator, request)  # noqa: SLF001  # its public one passes errors over
    found: Committed = {}
    codes = [getattr(answer, "error_code", 0)]  # of the group since version 2, before that of each partition
    for topic, its in answer.topics:
        for partition, offset, metadata, code in its:
            codes.append(code)
            if offset >= 0:
                found[TopicPartition(topic, partition)] = OffsetAndMetadata(offset, metadata)
    if failed := [code for code in codes if code]:
        raise for_code(failed[0])(f"offsets of group {group}")
    return found
