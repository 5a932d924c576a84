"""Columns as JSON, equal columns encoded once: windows that close together have many numbers in common."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import orjson
from numpy.typing import NDArray

from streamproc.core.windows import Ints


class Printed:
    """JSON of columns of 8-byte numbers, and of the names of their sensors; `names` are those of all slots.

    A sensor that reads once a minute closes windows of one reading: mean, least, greatest, first and last are one number, the
    same in the windows of all sizes. Printing a number costs 24 ns, comparing it with one that was printed less than one.
    """

    def __init__(self, names: list[str | None]) -> None:
        self._names = names
        self._made: dict[tuple[str, bytes], list[tuple[bytes, orjson.Fragment]]] = {}

    def column(self, column: NDArray[Any]) -> orjson.Fragment:
        """The JSON of a column (n,)."""
        return self._of(column.dtype.kind, column, column)

    def sensors(self, slot: Ints) -> orjson.Fragment:
        """The JSON of the names of these slots (n,), of which there is one at least."""
        return self._of("names", slot, None)

    def _of(self, kind: str, told: NDArray[Any], column: NDArray[Any] | None) -> orjson.Fragment:
        raw = (
            told.tobytes()
        )  # 0.0 and -0.0 are not the same; and bytes are compared five times as fast as numbers
        # Columns that begin alike may be the same; all others are told apart by this.
        alike = self._made.setdefault((kind, raw[: told.itemsize]), [])
        for known, fragment in alike:
            if known == raw:
                return fragment
        printed = named(self._names, told) if column is None else column
        fragment = orjson.Fragment(orjson.dumps(printed, option=orjson.OPT_SERIALIZE_NUMPY))
        alike.append((raw, fragment))
        return fragment


def named(names: Sequence[str | None], slot: Ints) -> tuple[str | None, ...]:
    """The sensors' keys; twice as fast as a comprehension, for each of millions of windows."""
    return itemgetter(*slot.tolist())(names) if len(slot) > 1 else (names[int(slot[0])],)
