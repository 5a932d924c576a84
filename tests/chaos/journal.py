"""What producers were told: the evidence that nothing acknowledged is lost, and that what was sent once is there once."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A body that was acknowledged, and where it is said to be; offset -1 where the broker had it already."""

    body: bytes | None
    partition: int
    offset: int
    reason: str | None = None


@dataclass(slots=True)
class Journal:
    """All acknowledgements so far, and which bodies may be on the topic more than once."""

    acknowledged: list[Acknowledged] = field(default_factory=list)
    repeated: set[bytes] = field(default_factory=set)
    refused: dict[str, int] = field(default_factory=dict)

    def add(self, body: bytes | None, partition: int, offset: int, reason: str | None = None) -> None:
        """Note an acknowledgement."""
        self.acknowledged.append(Acknowledged(body, partition, offset, reason))

    def unsure(self, body: bytes | None, why: str) -> None:
        """Note that a body was not acknowledged: it may be on the topic, and more than once."""
        if body is not None:
            self.repeated.add(body)
        self.refused[why] = self.refused.get(why, 0) + 1
