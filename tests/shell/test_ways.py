"""The short way and aiohttp's own: the same bytes have the same answers and come to the same records."""

from __future__ import annotations

import asyncio
import random
import re
from contextlib import suppress

import pytest

from streamproc.gateway import connections
from streamproc.settings import Settings
from streamproc.settings.access import Window
from tests.fuzz.wire import request
from tests.shell.served import MemoryPublisher, Served, application

#: Some of its requests end too soon on purpose, and wait for the end of their time.
pytestmark = pytest.mark.live

SOON_S = 60
REQUESTS = 150
#: What is not whole is waited for so long, each time.
PAUSE_S = 0.2
#: Ends what is not whole, and has the connection closed behind what is.
BEHIND = b"\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
#: What differs from one moment to the next, and from one gateway to another.
MOMENT = re.compile(rb'Date: [^\r]*|"offset":\d+|_offset":\d+|-?\d+ ms ahead')


class Way:
    """A gateway whose readings go one of the ways, over a Kafka in memory."""

    def __init__(self, *, short: bool) -> None:
        settings = Settings.model_validate({"gateway_port": 0, "body_timeout_seconds": 3})
        self.publisher = MemoryPublisher()
        self.served = Served(application(settings, self.publisher), settings)
        self.served.short_way = short

    async def answers(self, raw: bytes) -> list[bytes]:
        """All that is answered to these bytes, until the connection ends: lines, without what is of the moment.

        What has come whole is answered before more is sent: only then it is answered without a task of its own.
        """
        reader, writer = await asyncio.open_connection("127.0.0.1", self.served.port)
        found = bytearray()
        try:
            writer.write(raw)
            with suppress(TimeoutError):
                found += await asyncio.wait_for(reader.read(1 << 20), PAUSE_S)
            writer.write(BEHIND)
            while part := await asyncio.wait_for(reader.read(1 << 20), SOON_S):
                found += part
        except ConnectionError:
            pass  # what was not read of it ended it sooner than the answer came
        finally:
            writer.close()
        return sorted(MOMENT.sub(b"", bytes(found)).split(b"\r\n"))

    @property
    def records(self) -> list[tuple[str, bytes]]:
        """What has come to Kafka."""
        return sorted((message.key, message.value) for message, _ in self.publisher.sent)


async def test_a_header_that_is_there_twice() -> None:
    """Refused in the same words, however it is written; one of the same name in another request counts."""
    body = b'{"sensor_id": "s", "value": 1}'
    head = b"POST /ingest/readings HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % len(body)
    twice = head + b"Idempotency-Key: k\r\nidempotency-key: k\r\n\r\n" + body
    once = head + b"Idempotency-Key: k\r\n\r\n" + body
    for way in (Way(short=True), Way(short=False)):
        async with way.served:
            told = await way.answers(twice)
            assert b"HTTP/1.1 400 Bad Request" in told
            assert any(b'"field":"Idempotency-Key"' in line for line in told)
            assert b"HTTP/1.1 202 Accepted" in await way.answers(once)
        assert len(way.records) == 1


@pytest.mark.parametrize("number", range(2))
async def test_the_same_bytes_have_the_same_answers(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is sent, nearly right: bodies, encodings, framings, headers."""
    monkeypatch.setattr(connections, "_FAULTS", Window(10_000, 1))
    chance = random.Random(number)  # noqa: S311  # not for secrets
    short, long = Way(short=True), Way(short=False)
    places = asyncio.Semaphore(16)

    async def compare(raw: bytes) -> bool:
        async with places:
            one, other = await asyncio.gather(short.answers(raw), long.answers(raw))
            assert not one or not other or one == other, raw
            return bool(one and other)

    async with short.served, long.served:
        compared = await asyncio.gather(*(compare(request(chance)) for _ in range(REQUESTS)))
    assert sum(compared) > REQUESTS * 0.9
    assert short.records == long.records
    assert len(short.records) > REQUESTS / 20
