"""Identities derived from content: what is sent, read or computed again gets the same one, and counts once.

A reading is the same as another when both have the same sensor and
- the same `packet_id` of the same device (of the same sensor, where a reading names no device), the same place in that
  packet, and the same `ts` where given;
- or no `packet_id`, and the same explicit `ts` and value.
A reading with neither is itself alone: its identity is its record's place on the topic.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]


def seed(*parts: object) -> int:
    """Make a 64-bit number of text; parts are told apart, so ("ab", "c") differs from ("a", "bc").

    >>> seed("a", "bc") == seed("ab", "c")
    False
    """
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def content_id(*parts: object) -> str:
    """Make a 128-bit identity in hexadecimal, for events and notifications.

    >>> len(content_id("event", "sensor-1", 1_700_000_000_000))
    32
    """
    text = "\x1f".join(map(str, parts))
    return blake2b(text.encode(), digest_size=16).hexdigest()


def mix(numbers: U64) -> U64:
    """Spread each number over 64 bits: splitmix64's finaliser (Steele, Lea, Flood 2014), shape kept."""
    x = numbers + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def reading_keys(
    sensor: U64, ts: NDArray[np.int64], value: NDArray[np.float64], source: U64
) -> NDArray[np.int64]:
    """One 63-bit key a reading, all of shape (n,).

    `sensor` is `seed(sensor key)`; `source` is 0 where sensor, `ts` (ms) and value are the identity, else a
    number that stands for the packet and the place in it, or for the record.
    """
    by_content = mix(ts.astype(np.uint64)) ^ mix(value.view(np.uint64) + np.uint64(1))
    keys = mix(sensor ^ np.where(source == 0, by_content, source))
    return (keys >> np.uint64(1)).astype(np.int64)
