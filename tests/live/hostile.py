"""Clients that mean no good, as a process of their own: `python -m tests.live.hostile KIND HOST PORT COUNT`.

Says "ready" when all are at it, and goes on until it is killed. They come from other addresses than 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import gzip
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

#: Each address has so many of the clients, fewer than the gateway takes from one.
EACH = 2_000
HEAD = b"POST /ingest/packets HTTP/1.1\r\nHost: x\r\n"
#: The time between two bytes of those who are slow.
DRIBBLE_S = 0.2
#: How many connect at a time: the kernel's queue of a listener is bounded.
AT_ONCE = 100

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Behaviour = Callable[[Streams], Awaitable[None]]


async def slow_body(streams: Streams) -> None:
    """Announce a body, and send a byte of it now and then."""
    streams[1].write(HEAD + b"Content-Length: 100000\r\n\r\n")
    await _dribble(streams[1], b" ")


async def slow_head(streams: Streams) -> None:
    """Send a head byte by byte."""
    streams[1].write(HEAD + b"X-Slow: ")
    await _dribble(streams[1], b"y")


async def _dribble(writer: asyncio.StreamWriter, byte: bytes) -> None:
    while not writer.is_closing():
        writer.write(byte)
        await writer.drain()
        await asyncio.sleep(DRIBBLE_S)


async def half_closed(streams: Streams) -> None:
    """Send half of a body, close one side, and wait."""
    streams[1].write(HEAD + b"Content-Length: 100\r\n\r\n{")
    streams[1].write_eof()
    await streams[0].read()


async def header_flood(streams: Streams) -> None:
    """Send headers without an end, as many as are taken."""
    streams[1].write(HEAD)
    for number in range(1_000_000):
        streams[1].write(b"X-%d: " % number + b"y" * 4_000 + b"\r\n")
        await streams[1].drain()
        await asyncio.sleep(0.001)


async def bomb(streams: Streams) -> None:
    """Send a body that is small, and a thousand times as large when it is inflated."""
    reader, writer = streams
    head = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(_BOMB)
    while True:
        writer.write(head + _BOMB)
        await writer.drain()
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.05)


_BOMB = gzip.compress(b" " * 200_000_000, 9)


async def idle(streams: Streams) -> None:
    """Ask once, and then do nothing."""
    streams[1].write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    await streams[0].read()


async def pipeline(streams: Streams) -> None:
    """Ask and ask, and read no answer."""
    while True:
        streams[1].write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
        await streams[1].drain()
        await asyncio.sleep(0.01)


async def wrong_keys(streams: Streams) -> None:
    """Try keys, one after the other."""
    reader, writer = streams
    for number in range(1_000_000_000):
        body = b"{}"
        writer.write(HEAD + b"X-API-Key: %d\r\nContent-Length: %d\r\n\r\n" % (number, len(body)) + body)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
        await reader.readexactly(int(length.split()[1]))
        await asyncio.sleep(0.02)


KINDS: dict[str, tuple[Behaviour, int]] = {
    "slow_body": (slow_body, 500),
    "slow_head": (slow_head, 500),
    "half_closed": (half_closed, 50),
    "header_flood": (header_flood, 20),
    "bomb": (bomb, 4),
    "idle": (idle, 10_000),
    "pipeline": (pipeline, 4),
    "wrong_keys": (wrong_keys, 20),
}


class Crowd:
    """Clients, of which some connect at a time; `there` is set once each of them has."""

    def __init__(self, count: int) -> None:
        self._missing = count
        self.turn = asyncio.Semaphore(AT_ONCE)
        self.there = asyncio.Event()

    def connected(self) -> None:
        """Count one that has connected for the first time."""
        self._missing -= 1
        if not self._missing:
            self.there.set()


async def behave(behaviour: Behaviour, place: tuple[str, int], number: int, crowd: Crowd) -> None:
    """Be one client: connect, behave, and when it is thrown out, come again after a while."""
    local = (f"127.0.0.{2 + number // EACH}", 0)
    first = True
    while True:
        with suppress(OSError, asyncio.IncompleteReadError, StopIteration):
            async with crowd.turn:
                streams = await asyncio.open_connection(*place, local_addr=local)
            if first:
                crowd.connected()
                first = False
            await behaviour(streams)
            streams[1].close()
        await asyncio.sleep(0.05)


async def main(kind: str, host: str, port: int, count: int) -> None:
    """Be so many clients of this kind."""
    crowd = Crowd(count)
    behaviour = KINDS[kind][0]
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(behave(behaviour, (host, port), number, crowd))
        await crowd.there.wait()
        sys.stdout.write("ready\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
