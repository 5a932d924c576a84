"""Partitions as Kafka's own Java clients choose them."""

from __future__ import annotations

import pytest
from aiokafka.partitioner import murmur2 as peer
from hypothesis import given
from hypothesis import strategies as st

from streamproc.core.routing import home, murmur2


@pytest.mark.parametrize(
    ("key", "signed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_the_hash_is_kafkas(key: bytes, signed: int) -> None:
    """The values of Kafka's own unit test, which are signed there."""
    assert murmur2(key) == signed % 2**32


@given(st.binary(max_size=40))
def test_the_hash_is_its_clients(key: bytes) -> None:
    """Of every length."""
    assert murmur2(key) == peer(key) & 0xFFFFFFFF


@given(st.text(max_size=40), st.integers(1, 300))
def test_the_home_is_kafkas(key: str, partitions: int) -> None:
    """The hash without its sign bit, modulo the partitions."""
    assert home(key, partitions) == (peer(key.encode()) & 0x7FFFFFFF) % partitions
