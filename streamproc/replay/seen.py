"""Which rows of a table a replay has produced, by row number: one bit a row, in pages, few of them in memory."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol
from zlib import compress, decompress

import numpy as np

from streamproc.store.comparison import Bools
from streamproc.store.protocol import Ints

#: Numbers of one page: 8 KB on disk, mostly less. Rows of a range mostly have numbers close to one another.
PAGE = 65_536
#: Pages of one table in memory, at a byte a number: 32 MB.
PAGES = 512


class Pages(Protocol):
    """Where pages are kept."""

    def page(self, table: str, number: int) -> bytes | None:
        """A page that was kept, if it was."""

    def keep(self, table: str, number: int, bits: bytes) -> None:
        """Keep a page."""


class Seen:
    """The numbers that were added, of one table."""

    def __init__(self, table: str, pages: Pages) -> None:
        self.table, self._kept = table, pages
        self._held: OrderedDict[int, Bools] = OrderedDict()
        self._changed: set[int] = set()

    def add(self, numbers: Ints) -> None:
        """Remember these numbers (n,), all above 0."""
        for page, at in self._by_page(numbers):
            self._page(page)[numbers[at] % PAGE] = True
            self._changed.add(page)

    def has(self, numbers: Ints) -> Bools:
        """Which of these numbers (n,) were added."""
        has = np.zeros(len(numbers), dtype=np.bool_)
        for page, at in self._by_page(numbers):
            has[at] = self._page(page)[numbers[at] % PAGE]
        return has

    def flush(self) -> None:
        """Keep what has changed."""
        for page in sorted(self._changed):
            self._write(page)
        self._changed.clear()

    def _by_page(self, numbers: Ints) -> list[tuple[int, Ints]]:
        pages = numbers // PAGE
        return [(int(page), np.flatnonzero(pages == page)) for page in np.unique(pages)]

    def _page(self, number: int) -> Bools:
        if number not in self._held:
            kept = self._kept.page(self.table, number)
            bits = np.frombuffer(decompress(kept) if kept else bytes(PAGE // 8), dtype=np.uint8)
            self._held[number] = np.unpackbits(bits).astype(np.bool_)
            if len(self._held) > PAGES:
                oldest = next(iter(self._held))
                if oldest in self._changed:
                    self._write(oldest)
                    self._changed.discard(oldest)
                del self._held[oldest]
        self._held.move_to_end(number)
        return self._held[number]

    def _write(self, number: int) -> None:
        self._kept.keep(self.table, number, compress(np.packbits(self._held[number]).tobytes(), 1))
