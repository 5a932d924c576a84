"""Produce requests encoded in one go: the bytes of aiokafka's own."""

from __future__ import annotations

import pytest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.struct import Struct

from streamproc.kafka import clients  # noqa: F401  # which makes all producers
from streamproc.kafka.requests import VERSIONS, encode

TOPICS = [
    ("windows", [(0, b"a batch"), (3, bytearray(b"another")), (4, b"")]),
    ("évents", []),
    ("none", None),
]


@pytest.mark.parametrize("kind", VERSIONS, ids=lambda kind: f"v{kind.API_VERSION}")
@pytest.mark.parametrize("topics", [TOPICS, [], None], ids=["some", "empty", "null"])
def test_requests_are_encoded_as_aiokafka_does(kind: type[Struct], topics: object) -> None:
    """In each version of the protocol, with absent lists and batches of either kind of bytes."""
    for transaction in (None, "t"):
        request = kind(*[transaction] * ("transactional_id" in kind.SCHEMA.names), -1, 30_000, topics)
        assert encode(request) == Struct.encode(request)


def test_producers_encode_so() -> None:
    """Whatever version a broker speaks."""
    assert set(VERSIONS) >= set(ProduceRequest._CLASSES)
    assert all(kind.encode is encode for kind in VERSIONS)
