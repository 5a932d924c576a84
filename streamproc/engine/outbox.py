"""A partition's messages on their way to Kafka: in order, and without the engine waiting for the producer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from streamproc.engine import metrics
from streamproc.engine.outputs import Message

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer

#: Bytes of messages that may wait for Kafka's word; beyond it no further chunk is taken in. A second's worth of windows, so
#: that the engine seldom waits, and bounded, as it can make them faster than a broker on the same machine takes them.
UNCONFIRMED_BYTES = 16_000_000

#: Kafka's word on a message: its place, or why it was not taken.
Word = asyncio.Future[Any]


class Outbox:
    """Messages of one partition, oldest first, each kept until Kafka has it.

    The producer holds one batch for each of Kafka's partitions and lets nobody add to it while it is full and another is on
    its way. Waiting for that here, in a task of its own, lets the engine take in the next chunk meanwhile: by a third more
    readings a second of wall time (measured).
    """

    def __init__(self, producer: AIOKafkaProducer, topic: Callable[[str], str], label: str) -> None:
        """`topic` gives the broker's name for one in topics.yaml; `label` names the partition in metrics."""
        self._producer, self._topic, self._label = producer, topic, label
        self._unsent: deque[tuple[Message, Word]] = deque()
        self._unconfirmed: deque[tuple[Word, int]] = deque()
        self._bytes = 0
        self._task: asyncio.Task[None] | None = None
        #: Why a message was not taken; from then on none is, so that none overtakes it.
        self._fault: Exception | None = None

    @property
    def unconfirmed(self) -> tuple[int, int]:
        """Messages that Kafka has not confirmed yet, and their bytes; UNCONFIRMED_BYTES of these may wait."""
        return len(self._unconfirmed), self._bytes

    def put(self, message: Message) -> Word:
        """Add a message; returns a future of Kafka's confirmation, which a checkpoint waits for."""
        word: Word = asyncio.get_running_loop().create_future()
        size = len(message.value or b"")
        self._unconfirmed.append((word, size))
        self._bytes += size
        if self._fault is not None:
            _refuse(word, self._fault)
            return word
        self._unsent.append((message, word))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._send(), name=f"outbox-{self._label}")
        return word

    async def settle(self) -> None:
        """Drop confirmed messages, and wait while too many are unconfirmed; raises what the producer raised."""
        while self._unconfirmed:
            word, size = self._unconfirmed[0]
            if not word.done():
                if self._bytes <= UNCONFIRMED_BYTES:
                    break
                metrics.WAITS.labels(self._label).inc()
                await asyncio.wait([word])  # unlike awaiting it, this leaves it alone when the worker stops
            word.result()
            self._unconfirmed.popleft()
            self._bytes -= size

    def waiting(self) -> list[Word]:
        """The futures of all messages that Kafka may not have yet."""
        return [word for word, _ in self._unconfirmed]

    def close(self) -> None:
        """Send nothing more; messages that were not sent stay unconfirmed."""
        if self._task is not None:
            self._task.cancel()

    async def _send(self) -> None:
        """Hand all messages to the producer; after one that it does not take, none."""
        while self._unsent:
            message, word = self._unsent.popleft()
            try:
                sent = await self._producer.send(
                    self._topic(message.topic),
                    message.value,
                    message.key,
                    partition=message.partition,
                    headers=list(message.headers),  # aiokafka takes no tuple
                )
            except Exception as error:  # noqa: BLE001  # the task's edge: whoever settles, or takes a checkpoint, gets it
                self._fault = error
                for waiting in (word, *(later for _, later in self._unsent)):
                    _refuse(waiting, error)
                self._unsent.clear()
                return
            sent.add_done_callback(partial(_pass_on, word))


def _pass_on(word: Word, sent: Word) -> None:
    """What the producer's future says, to ours."""
    if sent.cancelled():
        word.cancel()
    elif (error := sent.exception()) is not None:
        _refuse(word, error)
    else:
        word.set_result(sent.result())


def _refuse(word: Word, error: BaseException) -> None:
    """Say why a message was not taken. Whoever settles raises the first of these; none is to be logged when it is freed."""
    word.set_exception(error)
    word.exception()
