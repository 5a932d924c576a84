"""Bodies and whole requests that are nearly right, as bytes: what no client that knows HTTP would send."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import re
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PATHS = (
    *[b"/ingest/packets", b"/ingest/readings", b"/ingest/readings/bulk"] * 6,
    *[b"/sensors/s/status", b"/sensors/%2F%00/status", b"/ready", b"/%00"],
)
#: Where admins edit; what is put there has the same names again and again, so that it is found, changed and removed.
ADMIN_PATHS = (
    *[
        b"/admin/sensors/%b" % name
        for name in (b"d", b"e", b"a%2Fb", b"%C3%84", b"device%2Fx", b"%00", b"%ff")
    ],
    *[b"/admin/devices/%b" % name for name in (b"d", b"e", b"a%2Fb", b"%C3%84", b"x" * 129)],
    *[
        b"/admin/devices/e",
        b"/admin/devices/e?sensors=true",
        b"/admin/devices/e/keys",
        b"/admin/devices/e/keys/x",
    ],
    *[b"/admin/sensors?limit=2", b"/admin/sensors?limit=-1&after=%00", b"/admin/devices?site=%ff"],
    *[
        b"/admin/audit?limit=3",
        b"/admin/audit?kind=sensor&name=d",
        b"/admin/audit?before=9999999999999999999",
    ],
)
ADMIN_METHODS = (*[b"PUT"] * 10, *[b"GET"] * 4, *[b"DELETE"] * 2, b"POST", b"PATCH")
ENTRIES = (
    *["{}"] * 2,
    '{"device": "d"}',
    '{"device": "e", "sensor_id": 7, "unit": "\\ud800"}',
    '{"sensor_id": 99999999999999999999}',
    '{"sensor_id": 2147483648, "name": "\\u0000"}',
    '{"warning": {"low": 1e999, "high": -0.0}, "critical": {"clear_low": 1e-320}}',
    '{"warning": {"low": 1, "high": 9, "clear_high": 8}, "critical": {"high": 1e300}}',
    '{"rules": [{"rule": "delta_spike", "absolute": 5, "severity": 2}, {"rule": "x"}]}',
    '{"rules": [{"rule": "no_data", "seconds": 60}, {"rule": "stuck_value", "seconds": 1e308, "tolerance": -0.0}]}',
    '{"rules": [{"rule": "rate_of_change", "per_second": 1e-308, "window": "1s", "for_windows": 1e9}]}',
    '{"rules": [{"rule": "expression", "expression": "mean_1s > 1"}, {"rule": "expression", "expression": "((((("}]}',
    '{"rules": [{"rule": "delta_spike", "percent": 0.1, "within_seconds": 1e308}]}',
    '{"version": 0, "site": "s", "tenant": ""}',
    '{"enabled": false, "keys": [{"key_id": "k", "sha256": "x", "created_at": -1}]}',
    '{"expires_at": 99999999999999999999}',
    '{"expires_at": 4000000000000}',
    "[]",
    "",
)
TAGS = (*[b""] * 8, b'If-Match: "1"', b"If-Match: *", b'If-Match: "99999999999"', b"If-None-Match: *")
METHODS = (*[b"POST"] * 40, b"PUT", b"GET", b"GET", b"HEAD", b"OPTIONS", b"post", b"BREW", b"")
VERSIONS = (*[b"HTTP/1.1"] * 30, *[b"HTTP/1.0"] * 5, b"HTTP/2.0", b"HTTP/9", b"", b"HTTP/1.1\x00")
HEADERS = (
    b"Content-Encoding: gzip",
    b"Content-Encoding: zstd",
    b"Content-Encoding: gzip, gzip",
    b"Content-Type: application/x-ndjson",
    b"Content-Type: \xff",
    b"Idempotency-Key: k",
    b"Idempotency-Key: k\r\nIDEMPOTENCY-KEY: j",
    b"X-Device-Key: k\r\nX-Device-Key: k",
    b"Idempotency-Key: \xc3\xb1",
    b"Content-Length: 5",
    b"Content-Length: -1",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Expect: 100-continue",
    b"Connection: close",
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"X-API-Key: \x80",
    b"If-None-Match: *",
    b": nothing",
    b"X: " + b"y" * 9_000,
)
VALUES = (
    *["1", "23.5"] * 20,
    "-0.0",
    "1e400",
    "NaN",
    "null",
    '"x"',
    "[]",
    "1e99",
    "true",
    "0x1",
    "1" * 400,
    "-1e-320",
)
STAMPS = (
    "1700000000",
    '"2026-11-21T14:19:26Z"',
    "-1",
    '"now"',
    "1e18",
    '"9999-12-31T23:59:59-23:59"',
    "null",
)
#: A request may be answered 503 after as long as the gateway waits for Kafka; who is silent for longer hangs.
HANG_S = 60.0
#: An answer, and the connection is left open: for what comes next.
_PAUSE_S = 5.0
_ANSWER = 1 << 20
#: Ends what is not whole, and has the connection closed behind what is. (A client that closes its side gets no answer.)
_BEHIND = b"\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
#: An older one has its connection closed anyway, and nothing may follow.
_END = b"\r\n\r\n"
_status = re.compile(rb"HTTP/\d\.\d (\d{3}) ")


@dataclass(slots=True)
class Answers:
    """What was answered, by status; 0 is a connection that was closed without a word."""

    counts: dict[int, int] = field(default_factory=dict)

    def add(self, status: int) -> None:
        """Count an answer."""
        self.counts[status] = self.counts.get(status, 0) + 1


def body(chance: random.Random, path: bytes) -> bytes:
    """What is posted to the path (or to another), or lines or an array of it, some of it wrong."""
    path = path if chance.random() < 0.9 else chance.choice(PATHS)
    made = "\n".join(_item(chance, path) for _ in range(chance.choice((1, 1, 1, 1, 2, 3))))
    if chance.random() < 0.2:
        made = f"[{made.replace(chr(10), ',')}]"
    raw = bytearray(made.encode("utf-8", "surrogatepass"))
    for _ in range(chance.choice((*[0] * 10, 1, 2, 5))):
        at = chance.randrange(len(raw) + 1)
        raw[at : at + chance.randrange(4)] = chance.randbytes(chance.randrange(4))
    return bytes(raw) if chance.random() > 0.02 else b"[" * chance.randrange(1, 100_000)


def _item(chance: random.Random, path: bytes) -> str:
    if path == b"/ingest/readings":
        return _reading(chance, ("sensor_id", "sensor_uuid"))
    readings = ", ".join(
        _reading(chance, ("sensor_uuid",)) for _ in range(chance.choice((0, *[1, 2, 5] * 5)))
    )
    if path == b"/ingest/readings/bulk":
        return f'{{"readings": [{readings}]}}'
    return f'{{"device_uuid": {_name(chance)}, "readings": [{readings}], "ts": {chance.choice(STAMPS)}}}'


def _reading(chance: random.Random, names: tuple[str, ...]) -> str:
    name = chance.choice(names) if chance.random() < 0.97 else "x"
    return f'{{"{name}": {_name(chance)}, "value": {chance.choice(VALUES)}}}'


def _name(chance: random.Random) -> str:
    plain = chance.choice(
        (*["d"] * 30, "Ä", "İ" * 64, "x" * 128, "x" * 129, "", "\x00", "\ud800", "a/b", "device/x")
    )
    return json.dumps(plain) if chance.random() < 0.97 else "7"


def compressed(chance: random.Random, raw: bytes) -> tuple[bytes, bytes]:
    """The body in some encoding, which may not be the one told, or broken."""
    name, packed = chance.choice(
        (
            (b"gzip", gzip.compress(raw, 1)),
            (b"deflate", zlib.compress(raw, 1)),
            (b"zstd", zstd.compress(raw, 1)),
        )
    )
    if chance.random() < 0.3:
        packed = packed[: chance.randrange(len(packed))] + chance.randbytes(chance.randrange(3))
    return b"Content-Encoding: " + name, packed


def admins(chance: random.Random) -> tuple[bytes, bytes, bytes, list[bytes]]:
    """An admin's method, path, body and headers."""
    raw = bytearray(chance.choice(ENTRIES).encode())
    if chance.random() < 0.1:
        at = chance.randrange(len(raw) + 1)
        raw[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
    tag = chance.choice(TAGS)
    return chance.choice(ADMIN_METHODS), chance.choice(ADMIN_PATHS), bytes(raw), [tag] if tag else []


def request(chance: random.Random, keys: Mapping[str, str] | None = None) -> bytes:
    """A whole request, with these keys, an admin's now and then; framing, length and headers may be wrong."""
    method, path = chance.choice(METHODS), chance.choice(PATHS)
    headers = [b"Host: x"]
    if keys and chance.random() < 0.4:
        method, path, sent, more = admins(chance)
        headers += more
    else:
        sent = body(chance, path)
    if chance.random() < 0.95:
        headers += [f"{name}: {key}".encode() for name, key in (keys or {}).items()]
    if chance.random() < 0.2:
        header, sent = compressed(chance, sent)
        headers.append(header)
    if chance.random() < 0.2:
        headers.append(b"Transfer-Encoding: chunked")
        sent = _chunked(chance, sent)
    else:
        headers.append(b"Content-Length: %d" % (len(sent) + chance.choice((*[0] * 20, -1, 1, 10**12))))
    headers += chance.choices(HEADERS, k=chance.choice((0, 0, 0, 0, 0, 1, 1, 2)))
    chance.shuffle(headers)
    line = b" ".join((method, path, chance.choice(VERSIONS)))
    raw = bytearray(b"\r\n".join((line, *headers, b"", sent)))
    if chance.random() < 0.05:
        at = chance.randrange(len(raw))
        raw[at : at + 1] = chance.randbytes(1)
    return bytes(raw)


def _chunked(chance: random.Random, sent: bytes) -> bytes:
    middle = chance.randrange(len(sent) + 1)
    parts = [part for part in (sent[:middle], sent[middle:]) if part]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return framed + chance.choice(
        (b"0\r\n\r\n", b"0\r\n\r\n", b"0\r\n\r\n", b"", b"zz\r\n", b"0\r\nX: y\r\n\r\n")
    )


async def requests_as_bytes(
    place: tuple[str, int], count: int, number: int, keys: Mapping[str, str] | None = None
) -> Answers:
    """Send so many requests, made by the seed `number`, each on a connection of its own, some at once.

    `keys` are headers that most of them have; with some, admins edit the registry as well.

    Raises AssertionError with the request where the gateway fails, hangs or answers what is not HTTP.
    """
    chance, answers = random.Random(number), Answers()  # noqa: S311  # not for secrets
    places = asyncio.Semaphore(16)

    async def one(raw: bytes) -> None:
        async with places:
            answers.add(await _exchange(place, raw))

    await asyncio.gather(*(one(request(chance, keys)) for _ in range(count)))
    return answers


async def _exchange(place: tuple[str, int], raw: bytes) -> int:
    """Send a request and one that is right behind it; gives the status of the first answer, 0 where there is none."""
    reader, writer = await asyncio.open_connection(*place)
    try:
        writer.write(raw + (_BEHIND if b" HTTP/1.1\r\n" in raw else _END))
        answer = await _read(reader)
    except ConnectionError:
        return 0  # refused in the midst of sending; the answer was dropped with it
    except TimeoutError:
        raise AssertionError(f"no end within {HANG_S:g} s to {raw[:2_000]!r}") from None
    finally:
        writer.close()
    if not answer:
        return 0
    found = [int(status) for status in _status.findall(answer)]
    assert found, f"{answer[:200]!r} is no answer to {raw[:2_000]!r}"
    assert all(status < 500 or status == 503 for status in found), f"{answer[:500]!r} to {raw[:2_000]!r}"
    return next((status for status in found if status >= 200), 0)


async def _read(reader: asyncio.StreamReader) -> bytes:
    """Read to the end, or until the gateway waits for more after it has answered."""
    found = bytearray()
    try:
        while part := await asyncio.wait_for(reader.read(_ANSWER), _PAUSE_S if _final(found) else HANG_S):
            found += part
    except TimeoutError:
        if not _final(found):
            raise
    except ConnectionError:
        pass  # it has said what it had to say
    return bytes(found)


def _final(answer: bytearray) -> bool:
    return any(not status.startswith(b"1") for status in _status.findall(answer))
