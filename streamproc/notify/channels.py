"""The interface of a channel: it takes a message, and says how that went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from streamproc.store.deliveries import Message


@dataclass(frozen=True, slots=True)
class Accepted:
    """The receiver has the message; `note` is what an operator should know of it none the less."""

    note: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The receiver does not take this message, now or later."""

    reason: str


@dataclass(frozen=True, slots=True)
class Later:
    """The receiver may take it later, not before `after_s` seconds where it has said so."""

    reason: str
    after_s: float | None = None


Answer = Accepted | Refused | Later


class Channel(Protocol):
    """A way to people. What it says of failures holds no secret: it goes to the log and the database."""

    @property
    def name(self) -> str:
        """What the channel is called in the database, the log and metrics: the same at each start."""
        ...

    async def send(self, message: Message) -> Answer:
        """Hand a message over. If it is cancelled, nothing is sent any more."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
