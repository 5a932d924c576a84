"""Blocks in pieces: a version counts if it is whole, in whatever order its pieces are found."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.core.pieces import labelled, sliced, whole
from streamproc.errors import CheckpointError


@given(
    st.lists(st.tuples(st.binary(max_size=20), st.integers(1, 7), st.integers(0, 9)), max_size=4),
    st.randoms(use_true_random=False),
)
def test_what_is_whole_is_found(blocks: list[tuple[bytes, int, int]], chance: random.Random) -> None:
    """Versions of which a piece is missing are not there; pieces of others change nothing, nor does one that comes twice."""
    pieces, wanted = list[bytes](), list[bytes]()
    for offset, (sealed, most, lost) in enumerate(blocks):
        its = labelled(offset, sliced(sealed, most))
        if lost < len(its):
            del its[lost]
        else:
            wanted.append(sealed)
        pieces += its
    chance.shuffle(pieces)
    assert sorted(whole(pieces + pieces[:2])) == sorted(wanted)


def test_damage_is_told() -> None:
    """What cannot say what it is of; and what says that it is one of billions is not whole, and not waited for."""
    with pytest.raises(CheckpointError, match="damaged: 9 bytes"):
        list(whole([b"too short"]))
    assert not list(whole([b"\xff" * 16 + b"one of four billion"]))
