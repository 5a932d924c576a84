"""Checks that a partition can be read from an offset."""

from __future__ import annotations

import structlog
from faust.types import TP

from streamproc.errors import BrokerError

_log = structlog.get_logger(__name__)


def check_position(tp: TP, offset: int, begin: int, end: int) -> None:
    """Log an error if records from `offset` to the partition's beginning are gone; raises BrokerError beyond its end.

    Kafka itself would start at the beginning in both cases, without a word, and what is before `offset` would be skipped.
    """
    if offset > end:
        raise BrokerError(
            f"{tp.topic}/{tp.partition} ends at {end}, but was read up to {offset}: the topic was made anew or has lost "
            "records; bring it back, or begin anew beside it with another STREAMPROC_TOPIC_PREFIX and STREAMPROC_DATABASE"
        )
    if 0 < offset < begin:
        _log.error(
            "records were deleted before they were read",
            topic=tp.topic,
            partition=tp.partition,
            first=offset,
            count=begin - offset,
        )
