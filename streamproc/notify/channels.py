"""The interface of a channel: it takes a message, and says how that went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from streamproc.store.deliveries import Message


@dataclass(frozen=True, slots=True)
class Accepted:
    """The receiver has the message; `note` is what an operator should know nevertheless."""

    note: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The receiver does not take this message, now or later."""

    reason: str


@dataclass(frozen=True, slots=True)
class Later:
    """The receiver may take it later; not before `after_s` seconds, if it said so."""

    reason: str
    after_s: float | None = None


Answer = Accepted | Refused | Later


class Channel(Protocol):
    """A way to reach people. Its failure reasons contain no secrets, because they go to the log and the database."""

    @property
    def name(self) -> str:
        """The channel's name in the database, the log and metrics: the same at each start."""
        ...

    async def send(self, message: Message) -> Answer:
        """Deliver a message. After a cancellation nothing more is sent."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...
