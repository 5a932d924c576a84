"""What the gateway answers, as types."""

from __future__ import annotations

import msgspec


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a body, a packet or a reading is not taken; `kind` is one of `problems.KINDS`.

    `field` is a JSON path and `index` a reading's place, both within the packet. `limit` names the limit that was hit,
    `retry_after` the seconds after which it may be tried again.
    """

    kind: str
    reason: str
    field: str | None = None
    index: int | None = None
    limit: str | None = None
    retry_after: int | None = None
