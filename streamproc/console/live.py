"""Passes on what comes on the topics to each client that follows: bounded, and resumable after a break.

Each client gets every change of severity, in order, and the newest window of the sensors that it follows. The latest changes
are kept, so a client that was away for a moment misses nothing; one that was away for longer is told to read everything anew.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from streamproc.console import metrics
from streamproc.console.answers import Change, LiveWindow
from streamproc.records import Severity, SeverityEvent, WindowRows
from streamproc.store.sensor_status import SeverityName

#: Changes that are kept for those who come back: minutes where much happens, some 500 bytes each.
KEPT = 2_000
#: However long they are.
KEPT_BYTES = 8_388_608
#: Changes that wait for one client, who takes them at once where all is well. Beyond, he is cut off, and comes back.
WAITING = 500

#: Changes that are written at once, some 50 KB: a slow line takes them well within the time that a write may take.
PIECE = 100

_NAMES: dict[Severity, SeverityName] = {
    Severity.NORMAL: "NORMAL",
    Severity.WARN: "WARN",
    Severity.CRITICAL: "CRITICAL",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_encode = msgspec.json.Encoder().encode


class _Told(NamedTuple):
    partition: int
    offset: int
    message: bytes


def message(name: str, body: object, place: str | None = None) -> bytes:
    """A server-sent event; with `place`, where a client can go on after it.

    >>> message("state", {"live": True}, "0:5").splitlines()
    [b'id: 0:5', b'event: state', b'data: {"live":true}', b'']
    """
    head = b"" if place is None else b"id: %b\n" % place.encode()
    return b"%bevent: %b\ndata: %b\n\n" % (head, name.encode(), _encode(body))


class Client:
    """A client that follows: up to `most` waiting changes, and the `sensors` whose windows of `size_ms` it follows."""

    def __init__(self, sensors: Collection[str], size_ms: int, most: int = WAITING) -> None:
        self.sensors, self.size_ms = frozenset(sensors), size_ms
        #: Nothing comes any more once what waits is taken.
        self.over = False
        self._most = self._room = most
        self._messages: deque[bytes] = deque()
        self._windows: dict[str, LiveWindow] = {}
        self._there = asyncio.Event()

    def put(self, text: bytes) -> None:
        """Queue a message; a client with too many waiting is cut off, and told so."""
        if self.over:
            return
        if len(self._messages) >= self._room:
            metrics.CUT_OFF.inc()
            self.end("too slow: connect again, and go on where you were")
            return
        self._messages.append(text)
        self._there.set()

    def catch_up(self, missed: Collection[bytes]) -> None:
        """Queue everything that the client missed, whatever the bound: if cut off, it would only come back for as much."""
        self._messages.extend(missed)
        self._room = self._most + len(self._messages)
        self._there.set()

    def show(self, window: LiveWindow) -> None:
        """Queue a window in place of an older one of its sensor."""
        if not self.over:
            self._windows[window.sensor] = window
            self._there.set()

    def end(self, reason: str) -> None:
        """Tell why nothing more comes, and drop what waits: the next connection brings it."""
        if not self.over:
            self.over = True
            self._messages.clear()
            self._windows.clear()
            self._messages.append(message("end", {"reason": reason}))
            self._there.set()

    async def take(self, within_s: float) -> bytes:
        """What waits, or the first part of it, once there is something; nothing if nothing comes in time."""
        try:
            async with asyncio.timeout(within_s):
                await self._there.wait()
        except TimeoutError:
            return b""
        texts = [self._messages.popleft() for _ in range(min(len(self._messages), PIECE))]
        if not self._messages:
            self._there.clear()
            self._room = self._most
            windows, self._windows = self._windows, {}
            texts += [message("window", window) for window in windows.values()]
        return b"".join(texts)


class Live:
    """Passes what comes on to up to `most` clients; the last `kept` changes are kept for clients that come back."""

    def __init__(self, most: int, kept: int = KEPT) -> None:
        #: Who follows now.
        self.clients: set[Client] = set()
        #: Whether Kafka answers, so that what is shown is of now.
        self.is_live = False
        #: The next offset of each partition of `events`.
        self.reached: dict[int, int] = {}
        self._most, self._bound = most, kept
        self._kept: deque[_Told] = deque()
        self._bytes = 0
        #: From this offset on, all of the partition is kept.
        self._since: dict[int, int] = {}
        self._closed = False

    def join(self, client: Client, places: Mapping[int, int] | None) -> bool:
        """Let a client follow, from where it was or from now on; False if there are too many already."""
        if self._closed or len(self.clients) >= self._most:
            metrics.REFUSED.inc()
            return False
        missed = None if places is None else self._missed(places)
        is_lost = places is not None and missed is None
        # This place lies behind what was missed: he is told of it with the last of that, for he may be cut off before.
        now = self._place()
        client.put(message("state", {"live": self.is_live}, None if missed or is_lost else now))
        if is_lost:
            client.put(message("reset", {"reason": "what was missed is not kept any more"}, now))
        client.catch_up(missed or ())
        self.clients.add(client)
        return True

    def leave(self, client: Client) -> None:
        """Pass nothing more on to a client."""
        self.clients.discard(client)

    def begin(self, places: Mapping[int, int]) -> None:
        """Go on from these offsets of `events`; if they do not follow what was told, all clients must read anew."""
        if any(places.get(partition) != at for partition, at in self.reached.items()):
            self._lose(places)
            return
        self.reached |= places
        self._since = {**places, **self._since}

    def _lose(self, places: Mapping[int, int]) -> None:
        """Begin anew from these offsets: what came before them nobody has seen."""
        self._kept.clear()
        self._bytes = 0
        self.reached, self._since = dict(places), dict(places)
        self._tell(message("reset", {"reason": "some changes could not be followed"}, self._place()))

    def stand(self, *, is_live: bool) -> None:
        """Tell all clients whether Kafka answers, if that has changed."""
        if is_live != self.is_live:
            self.is_live = is_live
            self._tell(message("state", {"live": is_live}))

    def change(self, partition: int, offset: int, event: SeverityEvent | None) -> None:
        """Pass on the next record of `events`; None: one that no client is told of."""
        told = None if event is None else _change(event)
        if offset != self.reached.get(partition, offset):
            self._lose({**self.reached, partition: offset})
        self.reached[partition] = offset + 1
        if told is None:
            return
        metrics.CHANGES.inc()
        text = message("change", told, self._place())
        self._kept.append(_Told(partition, offset, text))
        self._bytes += len(text)
        while len(self._kept) > self._bound or self._bytes > KEPT_BYTES:
            oldest = self._kept.popleft()
            self._bytes -= len(oldest.message)
            self._since[oldest.partition] = oldest.offset + 1
        self._tell(text)

    def windows(self, rows: WindowRows) -> None:
        """Pass on the windows of followed sensors; raises IndexError if columns differ in length."""
        columns = (rows.start, rows.count, rows.mean, rows.min, rows.max, rows.last)
        if any(len(column) != len(rows.sensor) for column in columns):
            raise IndexError("columns of different lengths")
        metrics.WINDOWS.inc(len(rows.sensor))
        wanted: dict[str, list[Client]] = {}
        for client in self.clients:
            if client.size_ms == rows.size_ms:
                for sensor in client.sensors:
                    wanted.setdefault(sensor, []).append(client)
        if not wanted:
            return
        for row, sensor in enumerate(rows.sensor):
            if sensor in wanted:
                window = _window(rows, row)
                for client in wanted[sensor]:
                    client.show(window)

    def follows(self, size_ms: int) -> bool:
        """Whether somebody follows windows of this size."""
        return any(client.sensors and client.size_ms == size_ms for client in self.clients)

    def close(self) -> None:
        """End all clients' streams, and let nobody follow any more."""
        self._closed = True
        for client in self.clients:
            client.end("the console stops")

    def _tell(self, text: bytes) -> None:
        for client in self.clients:
            client.put(text)

    def _place(self) -> str:
        return ",".join(f"{partition}:{offset}" for partition, offset in sorted(self.reached.items()))

    def _missed(self, places: Mapping[int, int]) -> list[bytes] | None:
        """What came since these places, or None where not all of it is kept, or they are of other topics."""
        if places.keys() != self.reached.keys():
            return None
        if any(not self._since[each] <= at <= self.reached[each] for each, at in places.items()):
            return None
        return [told.message for told in self._kept if told.offset >= places[told.partition]]


def _change(event: SeverityEvent) -> Change:
    return Change(
        event_id=event.event_id,
        sensor=event.sensor,
        severity=_NAMES[event.severity],
        previous=_NAMES[event.previous],
        at=_time(event.at),
        cause=event.cause,
        explanation=event.explanation,
        recommended_action=event.recommended_action,
        value=event.value,
    )


def _window(rows: WindowRows, row: int) -> LiveWindow:
    return LiveWindow(
        sensor=rows.sensor[row],
        size_ms=rows.size_ms,
        start=_time(rows.start[row]),
        count=rows.count[row],
        mean=rows.mean[row],
        min=rows.min[row],
        max=rows.max[row],
        last=rows.last[row],
    )


def _time(ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=ms)
