"""Takes what aiokafka has fetched as chunks; it reaches into aiokafka's private parts, since nothing public does this."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from inspect import GEN_CREATED, getgeneratorstate
from typing import Any

from aiokafka import TopicPartition
from faust.types import TP

from streamproc.core.chunk import Chunk
from streamproc.kafka.columns import Columns, Refused, gather
from streamproc.kafka.reread import reread


def spare_records(fetcher: Any) -> None:
    """Have aiokafka fill Columns from what it has fetched: to it, a partition's Columns are one record."""
    for result in fetcher._records.values():
        fetched = getattr(result, "_partition_records", None)
        # What aiokafka has begun to unpack by itself, in a rebalance, it has to go on with.
        if fetched is not None and getgeneratorstate(fetched._records_iterator) == GEN_CREATED:
            fetched._records_iterator = Columns().fill(fetched)


async def gathered(
    fetcher: Any, drained: Mapping[TopicPartition, list[Any]]
) -> AsyncIterator[tuple[TopicPartition, Chunk]]:
    """A chunk of each partition that something was drained of; a batch that aiokafka refuses is read once more here."""
    for tp, records in drained.items():
        if isinstance(records[0], Refused):
            columns = await reread(fetcher, tp, records[0])
            if columns is not None:
                yield tp, columns.take(TP(*tp))
        else:
            let_go(fetcher, tp)
            yield tp, gather(TP(*tp), records)


def let_go(fetcher: Any, tp: TopicPartition) -> None:
    """Let a partition be fetched again as soon as it is drained; aiokafka would notice a call later."""
    fetched = getattr(fetcher._records.get(tp), "_partition_records", None)
    if fetched is not None and not fetched._records.has_next():
        fetched._records_iterator = None  # it refers back: its megabytes would wait for the garbage collector
        del fetcher._records[tp]
        fetcher._notify(fetcher._wait_consume_future)


async def wait_for_more(fetcher: Any, timeout: float) -> None:  # noqa: ASYNC109  # one wait, not a scope
    """Wait until more has been fetched, but not for long: the flow may be stopped meanwhile."""
    waiter = fetcher._create_fetch_waiter()
    done, _ = await asyncio.wait([waiter], timeout=timeout)
    if done:
        waiter.result()  # raises what the fetch raised
    else:
        waiter.cancel()
