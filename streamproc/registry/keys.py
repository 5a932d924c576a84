"""Device keys: 256 random bits as text; only their SHA-256 is stored."""

from __future__ import annotations

import secrets
from base64 import b32encode, urlsafe_b64encode
from hashlib import sha256

from streamproc.records import DeviceKey

#: What every key begins with, so that people, and programs that look for leaked secrets, know one when they see it.
PREFIX = "sp1"
#: 40 bits: enough that no two keys have the same, few enough to be read out.
_ID_BYTES = 5
_SECRET_BYTES = 32


def new_key(now_ms: int, expires_at: int | None = None) -> tuple[str, DeviceKey]:
    """A new key: as the device sends it, and as it is stored.

    >>> text, key = new_key(1)
    >>> text.startswith(f"sp1_{key.key_id}_"), len(text), key.sha256 == hashed(text)
    (True, 56, True)
    """
    key_id = b32encode(secrets.token_bytes(_ID_BYTES)).decode().lower()
    secret = urlsafe_b64encode(secrets.token_bytes(_SECRET_BYTES)).decode().rstrip("=")
    text = f"{PREFIX}_{key_id}_{secret}"
    return text, DeviceKey(key_id, hashed(text), now_ms, expires_at)


def hashed(key: str) -> str:
    """The SHA-256 of a key's text, as 64 hexadecimal digits."""
    return sha256(key.encode()).hexdigest()
