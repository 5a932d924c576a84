"""Row numbers for windows, which have none in a database: made of the sensor, size and start."""

from __future__ import annotations

import numpy as np

from streamproc.records import WINDOW_SIZES_MS
from streamproc.store.protocol import Ints

#: Sensors are in groups, in a group by time, so that those of one
#: time lie together. 34 bits hold three sizes of each second until 2100.
_GROUP_BITS, _TIME_BITS = 10, 34
_SIZES = np.array(WINDOW_SIZES_MS, dtype=np.int64)


def window_numbers(sensor_id: Ints, size_ms: Ints, start: Ints) -> Ints:
    """The number of each window, of shape (n,); `start` is in ms.

    >>> numbers = window_numbers(np.array([1, 5_000]), np.array([1_000, 10_000]), np.array([1_700_000_001_000, 0]))
    >>> [column.tolist() for column in window_keys(numbers)]
    [[1, 5000], [1000, 10000], [1700000001000, 0]]
    """
    cell = start // 1000 * len(_SIZES) + np.searchsorted(_SIZES, size_ms)
    inside = sensor_id & (2**_GROUP_BITS - 1)
    numbers: Ints = (sensor_id >> _GROUP_BITS << _TIME_BITS + _GROUP_BITS) | (cell << _GROUP_BITS) | inside
    return numbers


def window_keys(numbers: Ints) -> tuple[Ints, Ints, Ints]:
    """The sensor's id, size and start in ms of each window, columns of shape (n,)."""
    inside = numbers & (2**_GROUP_BITS - 1)
    cell = (numbers >> _GROUP_BITS) & (2**_TIME_BITS - 1)
    sensor_id = numbers >> _TIME_BITS + _GROUP_BITS << _GROUP_BITS | inside
    return sensor_id, _SIZES[cell % len(_SIZES)], cell // len(_SIZES) * 1000
