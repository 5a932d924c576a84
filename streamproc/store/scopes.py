"""A replay's scopes as rows for a query to join, and the rows it finds that the replay has not produced. Pure: no SQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np

from streamproc.core.predict import HORIZON_MS
from streamproc.core.steps import MOST_STEPS
from streamproc.store.comparison import Given, Scope
from streamproc.store.protocol import Ints
from streamproc.store.stamps import LAST_MS
from streamproc.store.window_numbers import window_numbers

#: Rows of numbers looked at together: some megabytes of them.
PAGE = 20_000

#: Times in ms (n,) as a database takes them.
Stamps = Callable[[Ints], list[Any]]


def sensor_rows(
    scope: Scope, ids: dict[str, int], model: int, stamps: Stamps
) -> Iterator[tuple[object, ...]]:
    """Of each registered sensor: its id, from and to when each closed, its newest time, between which targets, and the model.

    Predictions are made when a window closes, for the next one and as many more as there can be.

    >>> scope = Scope("readings", 0, 0, 10, {"a": (1_000, 2_000, 2_500), "stranger": (0, 0, 0)})
    >>> list(sensor_rows(scope, {"a": 7}, 3, lambda ms: ms.tolist()))
    [(7, 1000, 2000, 2500, 11000, 602000, 3)]
    """
    number, low, high, newest = _closed(scope, ids)
    times = (low, high, np.maximum(high, newest), low + HORIZON_MS, high + MOST_STEPS * HORIZON_MS)
    told = [stamps(np.clip(column, 0, LAST_MS)) for column in times]
    yield from zip(number.tolist(), *told, [model] * len(number), strict=True)


def span_rows(scope: Scope, ids: dict[str, int], stamps: Stamps) -> Iterator[tuple[object, ...]]:
    """Of each registered sensor and size of windows: between which starts the windows lie that closed in the scope.

    >>> scope = Scope("readings", 0, 0, 10, {"a": (1_000, 7_000, 7_500)}, sizes_ms=frozenset({1_000, 5_000}))
    >>> list(span_rows(scope, {"a": 7}, lambda ms: ms.tolist()))
    [(7, 1000, 0, 6000), (7, 5000, 0, 2000)]
    """
    number, low, high, _ = _closed(scope, ids)
    for size in sorted(scope.sizes_ms):
        begins, ends = (stamps(np.clip(column - size, 0, LAST_MS)) for column in (low, high))
        yield from zip(number.tolist(), [size] * len(number), begins, ends, strict=True)


def _closed(scope: Scope, ids: dict[str, int]) -> tuple[Ints, ...]:
    """The ids of the scope's sensors that are registered, and from and to when each closed, and its newest time."""
    known = [(ids[sensor], *closed) for sensor, closed in scope.closed.items() if sensor in ids]
    return tuple(np.array(known, dtype=np.int64).reshape(-1, 4).T)


class Strange:
    """Rows that were not given, of those that pages tell: how many, and the numbers of the first `limit`.

    A page has a row's number, or of a window the sensor's id, the size in ms and the start in s.

    >>> strange = Strange(lambda numbers: numbers < 3, limit=1)
    >>> strange.look([(1,), (4,), (5,)])
    >>> strange.count, strange.numbers
    (2, [4])
    """

    def __init__(self, given: Given, limit: int) -> None:
        self._given, self._limit = given, limit
        self.count = 0
        self.numbers: list[int] = []

    def look(self, page: Sequence[Sequence[int]]) -> None:
        """Take in a page, which has a row."""
        columns = np.fromiter(chain.from_iterable(page), dtype=np.int64).reshape(len(page), -1).T
        numbers = (
            columns[0] if len(columns) == 1 else window_numbers(columns[0], columns[1], columns[2] * 1000)
        )
        strange = numbers[~self._given(numbers)]
        self.count += len(strange)
        self.numbers += strange[: self._limit - len(self.numbers)].tolist()
