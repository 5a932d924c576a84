"""The keys of all devices, found by their SHA-256. Pure: the time is an argument."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from hashlib import sha256

from streamproc.records import DeviceEntry, DeviceKey


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose a key is; the device's name in lower case, as readings have it."""

    device: str
    key: DeviceKey
    digest: bytes


class Keys:
    """The live keys, kept as the registry tells devices: `put` is its `on_device`.

    A key is found by its hash, which tells who measures the time nothing of any key: to come nearer to one in the table,
    one would have to choose hashes.
    """

    def __init__(self) -> None:
        self._holders: dict[bytes, Holder] = {}
        self._digests: dict[str, list[bytes]] = {}

    def __len__(self) -> int:
        return len(self._holders)

    def put(self, name: str, entry: DeviceEntry | None) -> None:
        """Take a device's keys as they are now; None where it is gone."""
        device = name.lower()
        for known in self._digests.pop(device, ()):
            holder = self._holders.get(known)
            if holder is not None and holder.device == device:
                del self._holders[known]
        if entry is None or not entry.keys:
            return
        holders = [Holder(device, key, _digest(key)) for key in entry.keys]
        self._digests[device] = [holder.digest for holder in holders]
        self._holders |= {holder.digest: holder for holder in holders}

    def find(self, digest: bytes) -> Holder | None:
        """Whose the key with this SHA-256 is; None where nobody's. It may have expired."""
        holder = self._holders.get(digest)
        if holder is None or not hmac.compare_digest(holder.digest, digest):
            return None
        return holder


def _digest(key: DeviceKey) -> bytes:
    """The hash as bytes; one that is no hash is nobody's: it must not end the following of the registry."""
    try:
        return bytes.fromhex(key.sha256)
    except ValueError:
        return b""


def digest(key: str) -> bytes:
    """The SHA-256 of a key as a header has it, whatever bytes that are.

    >>> digest("a").hex()[:8]
    'ca978112'
    """
    return sha256(key.encode("utf-8", "surrogateescape")).digest()
