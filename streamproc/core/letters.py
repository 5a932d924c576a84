"""Dead letters: what could not be understood or stored, as it goes to the topic `dead-letter`."""

from __future__ import annotations

from base64 import b64encode
from typing import Literal

import msgspec

from streamproc.core.chunk import Chunk
from streamproc.records import DeadLetter

#: Kafka takes messages of up to 1 MiB by default; a payload whose JSON is longer than this is left where it
#: is.
PAYLOAD_LIMIT = 700_000


def letter(
    stage: Literal["engine", "sink"],
    chunk: Chunk,
    index: int,
    reason: str,
    field: str | None = None,
    part: bytes | None = None,
) -> DeadLetter:
    """The dead letter for a record of a chunk, or for a `part` of it that is told in place of its value.

    The same record and reason give the same letter.
    """
    value, again = chunk.values[index] if part is None else part, chunk.redriven(index)
    payload, encoding = None, "utf-8"
    if value is not None:
        try:
            payload = value.decode()
        except UnicodeDecodeError:
            payload, encoding = b64encode(value).decode(), "base64"
        if len(msgspec.json.encode(payload)) > PAYLOAD_LIMIT:
            payload, encoding = None, "utf-8"
            reason = f"{reason} (its {len(value)} bytes are too many to repeat here)"
    return DeadLetter(
        stage=stage,
        reason=reason,
        topic=chunk.topic,
        partition=chunk.partition,
        offset=int(chunk.offsets[index]),
        payload=payload,
        encoding="base64" if encoding == "base64" else "utf-8",
        field=field,
        size=None if value is None else len(value),
        first=":".join(map(str, chunk.origin(index))),
        letter=again.letter if again else None,
        attempt=again.attempt if again else 0,
    )
