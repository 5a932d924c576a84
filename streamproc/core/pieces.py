"""Splits a sealed block that is too large for one record into pieces, and joins them.

A piece names the version of its block and its place in it. An incomplete block is no version: a worker was killed while it
wrote it, or a stale owner has written over part of it.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator

from streamproc.errors import CheckpointError

#: The topics' records may have 12 MiB, a request of the worker's 12 MB, with key and frame.
PIECE_BYTES = 11_900_000
#: The block's `next_offset`, the piece's place, and how many there are.
_LABEL = struct.Struct("<qII")


def sliced(sealed: bytes, most: int = PIECE_BYTES) -> list[bytes]:
    """The bytes in slices of so many at most; one for no bytes.

    >>> sliced(b"abcde", 2)
    [b'ab', b'cd', b'e']
    """
    return [sealed[at : at + most] for at in range(0, len(sealed), most)] or [b""]


def labelled(next_offset: int, slices: list[bytes]) -> list[bytes]:
    """The slices of a block's version as pieces that tell what they are of."""
    return [_LABEL.pack(next_offset, place, len(slices)) + each for place, each in enumerate(slices)]


def whole(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The versions of a block of which all pieces are among these; raises CheckpointError where one says nothing.

    >>> list(whole([*labelled(7, [b"ab", b"c"]), *labelled(9, [b"ab", b"cd"])[:1]]))
    [b'abc']
    """
    versions = defaultdict[tuple[int, int], dict[int, bytes]](dict)
    for piece in pieces:
        if len(piece) < _LABEL.size:
            raise CheckpointError(f"a piece of a checkpoint's block is damaged: {len(piece)} bytes")
        next_offset, place, count = _LABEL.unpack_from(piece)
        versions[next_offset, count][place] = piece[_LABEL.size :]
    for (_, count), its in versions.items():
        # Not by `range(count)`: what is damaged may say that it is one of billions.
        if len(its) == count and max(its) == count - 1:
            yield b"".join(its[place] for place in range(count))
