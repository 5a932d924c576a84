"""Cuts a replay's rows into parts that a transaction can hold. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamproc.sink.batches import Bounds
from streamproc.store.protocol import Batch, Columns, EventColumns, Ints, NotificationColumns, TrialColumns

#: Of a number in JSON, at most, with the comma after it: those of the sink's bound are bytes of records in JSON.
_NUMBER_BYTES = 20

_encode = msgspec.json.Encoder().encode


def parts(rows: Batch, at: NDArray[np.intp], bounds: Bounds) -> Iterator[Batch]:
    """The rows at these indexes, ascending, as many together as the bounds allow; one beyond them is alone."""
    sizes = np.concatenate([_sizes(table) for table in rows.tables()])[at]
    begin = held = 0
    for index, size in enumerate(sizes.tolist()):
        if index > begin and (index - begin >= bounds.rows or held + size > bounds.size_bytes):
            yield rows.take(at[begin:index])
            begin, held = index, 0
        held += size
    if begin < len(at):
        yield rows.take(at[begin:])


def _sizes(rows: Columns) -> Ints:
    """About how many bytes each row has on its topic, of shape (n,); texts, which may be long, are counted."""
    match rows:
        case EventColumns():
            sizes = [len(_encode(event)) for event in rows.event]
        case NotificationColumns():
            sizes = [len(_encode(notification)) for notification in rows.notification]
        case TrialColumns():
            sizes = [len(_encode(tried)) for tried in rows.tried]
        case _:
            numbers = _NUMBER_BYTES * len(fields(rows))
            sizes = [numbers + len(sensor.encode()) for sensor in rows.sensor]
    return np.array(sizes, dtype=np.int64)
