"""Which partition a key lives in: Kafka's default partitioner, murmur2 of the key, as the Java clients have it."""

from __future__ import annotations

from struct import unpack_from

_MASK = 0xFFFFFFFF
_M = 0x5BD1E995


def murmur2(data: bytes) -> int:
    """The unsigned 32-bit murmur2 hash that Kafka partitions by (seed 0x9747b28c).

    >>> murmur2(b"21")  # Kafka's own test has -973932308, signed
    3321034988
    """
    length = len(data)
    h = 0x9747B28C ^ length
    whole = length & ~3
    for word in unpack_from(f"<{length >> 2}I", data):
        k = word * _M & _MASK
        h = (h * _M & _MASK) ^ ((k ^ k >> 24) * _M & _MASK)
    if length > whole:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


def home(key: str, partitions: int) -> int:
    """The partition, 0..partitions-1, of a record with this key (a lower-case `device_uuid`, or a sensor's key).

    >>> home("21", 1000)
    340
    """
    return (murmur2(key.encode()) & 0x7FFFFFFF) % partitions
