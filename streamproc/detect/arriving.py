"""Lines from a pipe: those that have arrived, without waiting for more."""

from __future__ import annotations

import os
from codecs import getincrementaldecoder
from collections import deque
from collections.abc import Iterator
from io import IncrementalNewlineDecoder

#: Read at once, at most: as much as a pipe of Linux holds.
READ_BYTES = 65_536


class Arriving(Iterator[str]):
    """The lines of a file descriptor as they come, `at_once` bytes at most; those that are no UTF-8 stay visible."""

    def __init__(self, descriptor: int, at_once: int = READ_BYTES) -> None:
        self._descriptor, self._at_once = descriptor, at_once
        self._text = IncrementalNewlineDecoder(getincrementaldecoder("utf-8")("replace"), translate=True)
        self._lines = deque[str]()
        self._begun = ""
        self._over = False

    @property
    def waiting(self) -> bool:
        """Whether the next line has come."""
        return bool(self._lines)

    def __next__(self) -> str:
        """The next line, which is waited for."""
        while not self._lines:
            if self._over:
                raise StopIteration
            self._read()
        return self._lines.popleft()

    def _read(self) -> None:
        data = os.read(self._descriptor, self._at_once)
        self._over = not data
        *lines, begun = (self._begun + self._text.decode(data, final=self._over)).split("\n")
        self._lines += [f"{line}\n" for line in lines]
        if self._over and begun:
            self._lines.append(begun)
            begun = ""
        self._begun = begun
