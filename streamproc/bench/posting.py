"""Posts packets to one address and reports the answers: the load of `streamproc bench gateway`, in a process of its own.

It uses plain sockets and requests made beforehand, so it costs a fraction of any server. Each connection has one request at
a time: the next is sent as soon as the last is answered or, at a given rate, when it is due, and is then timed from there.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from array import array
from collections import Counter
from itertools import cycle
from pathlib import Path

import msgspec
import numpy as np

from streamproc.bench.latency import PACKET_READINGS, bodies

#: Load before anything is counted: caches, the producer and the kernel's buffers are then in use.
WARM_UP_S = 2.0
#: Connections are made in such groups, each waited for, so that none overflows the listener's queue.
_TOGETHER = 100
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to post: with `connections`, for `seconds` after the warm-up, at `rate` packets a second (None: all it takes).

    `pids` are the server's processes, whose CPU time and memory are read.
    """

    port: int
    connections: int
    seconds: float
    pids: tuple[int, ...]
    rate: float | None = None
    warm_up_s: float = WARM_UP_S
    #: Once in so many seconds, the server's memory is told.
    look_s: float | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What was answered in `wall_s` seconds; `cpu_s` is the server's, latencies in ms, memory in bytes.

    `statuses` counts all answers, those of the warm-up too; `broken` the connections that ended.
    """

    packets: int
    wall_s: float
    cpu_s: float
    p50: float
    p99: float
    greatest: float
    statuses: dict[str, int]
    broken: int
    rss_before: int
    rss_after: int

    @property
    def per_second(self) -> float:
        """Packets a second."""
        return self.packets / self.wall_s

    @property
    def per_cpu_second(self) -> float:
        """Packets for each second of the server's CPU time."""
        return self.packets / self.cpu_s


def cpu_s(pids: tuple[int, ...]) -> float:
    """CPU time that the processes have used, in seconds."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS


def rss(pids: tuple[int, ...]) -> int:
    """Memory that the processes have resident, in bytes."""
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE for pid in pids)


class _Connection(asyncio.Protocol):
    """One client: posts, waits for the answer, posts again."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._requests = cycle(load.requests)
        for _ in range(random.randrange(len(load.requests))):  # noqa: S311  # no secret
            next(self._requests)
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def start(self) -> None:
        """Post first now or, at a rate, at a moment of one's own."""
        pause = self._load.pause_s
        delay = random.random() * pause if pause else 0.0  # noqa: S311  # no secret
        self._post_at(time.perf_counter() + delay)

    def _post_at(self, due: float) -> None:
        """Post when it is due, at once where that is past; the time counts from then on."""
        wait = due - time.perf_counter()
        self._due = due
        if wait > 0:
            asyncio.get_running_loop().call_later(wait, self._post)
        else:
            self._post()

    def _post(self) -> None:
        if self._transport is not None and not self._load.done:
            self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        head = data.find(b"\r\n\r\n")
        at = data.find(b"\r\nContent-Length: ", 0, head)
        if head < 0 or at < 0 or len(data) < head + 4 + int(data[at + 18 : data.find(b"\r\n", at + 18)]):
            self._rest = data
            return
        self._rest = b""
        now = time.perf_counter()
        self._load.answered(data[9:12], now - self._due)
        pause = self._load.pause_s
        self._post_at(self._due + pause if pause else now)

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        if not self._load.done:
            self._load.broken += 1


class _Load:
    """All connections, and what they were answered."""

    def __init__(self, order: Order) -> None:
        self.requests = requests(order.port)
        self.pause_s = order.connections / order.rate if order.rate else None
        self.statuses: Counter[bytes] = Counter()
        self.took = array("d")
        self.measuring = self.done = False
        self.broken = 0

    def answered(self, status: bytes, took_s: float) -> None:
        self.statuses[status] += 1
        if self.measuring:
            self.took.append(took_s)


def requests(port: int) -> list[bytes]:
    """Make the requests that are posted in turn, as they go over the wire."""
    head = (
        f"POST /ingest/packets HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: streamproc-bench\r\n"
        "Content-Type: application/json\r\nContent-Length: "
    )
    return [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies()]


async def post(order: Order) -> Outcome:
    """Carry out the order; raises OSError where nobody listens."""
    load, loop = _Load(order), asyncio.get_running_loop()
    clients: list[_Connection] = []
    for begin in range(0, order.connections, _TOGETHER):
        count = min(_TOGETHER, order.connections - begin)
        made = [
            loop.create_connection(lambda: _Connection(load), "127.0.0.1", order.port) for _ in range(count)
        ]
        clients += [client for _, client in await asyncio.gather(*made)]
    for client in clients:
        client.start()
    await asyncio.sleep(order.warm_up_s)
    before, used, began = rss(order.pids), cpu_s(order.pids), time.perf_counter()
    load.measuring = True
    await _watch(order, load, began)
    load.measuring = False
    wall, used = time.perf_counter() - began, cpu_s(order.pids) - used
    load.done = True
    p50, p99, greatest = np.percentile(load.took, (50, 99, 100)) * 1e3 if load.took else (np.nan,) * 3
    return Outcome(
        packets=len(load.took),
        wall_s=wall,
        cpu_s=used,
        p50=float(p50),
        p99=float(p99),
        greatest=float(greatest),
        statuses={status.decode(errors="replace"): count for status, count in load.statuses.items()},
        broken=load.broken,
        rss_before=before,
        rss_after=rss(order.pids),
    )


async def _watch(order: Order, load: _Load, began: float) -> None:
    """Let the load run, and tell the server's memory meanwhile."""
    look_s = order.look_s or order.seconds
    ends = began + order.seconds
    while (left := ends - time.perf_counter()) > 0:
        await asyncio.sleep(min(look_s, left))
        if order.look_s:
            megabytes = rss(order.pids) / 1e6
            line = f"  {time.perf_counter() - began:5.0f} s  {megabytes:6.1f} MB  {len(load.took):,} packets"
            print(line, file=sys.stderr, flush=True)


def child() -> None:
    """The process: an Order as JSON on standard input, its Outcome on standard output."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(post(order))))


__all__ = ["PACKET_READINGS", "Order", "Outcome", "child", "post"]
