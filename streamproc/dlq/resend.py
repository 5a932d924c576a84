"""Makes the record to send again from a letter. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from streamproc.core.chunk import LETTER, REDRIVEN
from streamproc.core.codec import Rejected, parse, record_key
from streamproc.dlq.found import Found, payload
from streamproc.records import RedriveMark


@dataclass(frozen=True, slots=True)
class Resend:
    """A record to send: its topic, the partition that it was refused in, and its own bytes."""

    found: Found
    first: str
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]

    def mark(self, sent: str, at_ms: int) -> RedriveMark:
        """The mark on `dead-letter` that the record was sent again, to `sent`: topic/partition/offset."""
        letter = self.found.letter
        return RedriveMark(
            letter=str(self.found.place),
            stage=letter.stage,
            topic=letter.topic,
            first=self.found.first,
            attempt=letter.attempt,
            sent=sent,
            at=at_ms,
        )


def resend(found: Found, first: str, value: bytes | None = None, prefix: str = "") -> Resend | None:
    """The record of a letter; None if there is no value to send.

    `first` is the place where the record first arrived, partition:offset:timestamp; `value` that of the record where the
    letter does not repeat it.
    """
    value = payload(found.letter) if value is None else value
    if value is None:
        return None
    letter = found.letter
    told = f"{letter.stage}:{letter.attempt + 1}:{letter.letter or found.place}"
    headers = ((REDRIVEN, first.encode()), (LETTER, told.encode()))
    return Resend(found, first, key(letter.topic.removeprefix(prefix), value), value, headers)


def key(topic: str, value: bytes) -> bytes | None:
    """The key that such a record has on its topic, as far as its value says.

    >>> key("readings", b'{"device_uuid": "D", "readings": [{"sensor_uuid": "a", "value": 1}]}')
    b'd'
    """
    if topic == "readings":
        parsed = parse(value)
        return None if isinstance(parsed, Rejected) else record_key(parsed).encode()
    if topic in {"events", "notifications", "trial-events"}:
        try:
            told = msgspec.json.decode(value)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        sensor = told.get("sensor") if isinstance(told, dict) else None
        return sensor.encode() if isinstance(sensor, str) else None
    return None
