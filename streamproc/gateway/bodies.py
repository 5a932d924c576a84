"""Bodies as HTTP delivers them: which types and encodings are taken, and inflating within bounds. Pure."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Literal, Protocol

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from streamproc.gateway.problems import Problem

Form = Literal["json", "lines"]
Encoding = Literal["gzip", "deflate", "zstd"]

#: What a 415 and an OPTIONS tell (RFC 9110, 12.5.3; Accept-Post is the Linked Data Platform's).
ACCEPT_ENCODING = {"Accept-Encoding": "gzip, deflate, zstd, identity"}
ACCEPT_POST = {"Accept-Post": "application/json, application/x-ndjson"}
_LINES = frozenset(
    (
        "application/x-ndjson",
        "application/ndjson",
        "application/jsonl",
        "application/jsonlines",
        "application/x-jsonlines",
        "text/x-ndjson",
    )
)
#: JSON by its name, and what clients say that have not been told to say anything: curl -d, a browser's fetch, urllib.
_JSON = frozenset(
    (
        "application/json",
        "text/json",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/octet-stream",
        "",
    )
)
_ENCODINGS: dict[str, Encoding] = {
    "gzip": "gzip",
    "x-gzip": "gzip",
    "deflate": "deflate",
    "zstd": "zstd",
}
#: A gzip of several members or a zstd of several frames is one body; each costs a copy of what follows it. bgzip makes one
#: of each 64 KiB: so these are 4 MiB.
_PARTS = 64
#: 8 MiB: what RFC 9659 has a sender of zstd over HTTP keep to. The decoder's own bound would be 128 MiB a body.
_WINDOW_LOG = 23
_RAW, _ZLIB, _GZIP = -zlib.MAX_WBITS, zlib.MAX_WBITS, zlib.MAX_WBITS | 16
_FAULTS = (zlib.error, zstd.ZstdError)


class _Inflater(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


@lru_cache(maxsize=256)  # of a few clients' few; who makes up others only has them parsed again
def form_of(content_type: str) -> Form | None:
    """Tell by its Content-Type what a body is: JSON, lines of it, or None for what is not taken.

    >>> form_of("application/json; charset=utf-8"), form_of("application/x-ndjson"), form_of("text/xml")
    ('json', 'lines', None)
    """
    name = content_type.partition(";")[0].strip().lower()
    if name in _LINES:
        return "lines"
    is_json = name in _JSON or (name.startswith("application/") and name.endswith("+json"))
    return "json" if is_json else None


def check_form(content_type: str) -> Form:
    """Tell what a body is; raises the Problem of one that is not taken."""
    form = form_of(content_type)
    if form is None:
        detail = f"{content_type[:64]!r}: send JSON (application/json) or lines of it (application/x-ndjson)"
        raise Problem("media-type", detail, headers=ACCEPT_POST)
    return form


def check_encoding(given: Iterable[str]) -> Encoding | None:
    """Tell by the Content-Encoding headers how a body is compressed; raises the Problem of more than one way, or another."""
    text = ",".join(given)
    names = [name for part in text.split(",") if (name := part.strip().lower()) not in {"", "identity"}]
    if not names:
        return None
    encoding = _ENCODINGS.get(names[0])
    if encoding is None or len(names) > 1:
        raise Problem(
            "encoding", f"{text[:64]!r}: compress it in one way that is taken", headers=ACCEPT_ENCODING
        )
    return encoding


def inflate(body: bytes, encoding: Encoding, limit_bytes: int) -> bytes:
    """Inflate the body, but not beyond the limit, whatever it would come to.

    Raises the Problem of one that is too large, or not what its encoding says.
    """
    if not body:
        return body
    out, rest = bytearray(), body
    make = _inflater(encoding, body)
    for _ in range(_PARTS):
        inflater = make()
        try:
            out += inflater.decompress(rest, limit_bytes + 1 - len(out))
        except _FAULTS as error:
            raise _broken(encoding, str(error)) from None
        if len(out) > limit_bytes:
            detail = f"a body may come to {limit_bytes} bytes when it is inflated"
            raise Problem("too-large", detail, limit="inflated_limit_bytes", allowed=limit_bytes)
        if not inflater.eof:
            raise _broken(encoding, "it ends too soon")
        rest = inflater.unused_data
        if not rest:
            return bytes(out)
        if encoding == "deflate":
            raise _broken(encoding, "more follows its end")
    raise _broken(encoding, f"it has more than {_PARTS} parts")


def _inflater(encoding: Encoding, body: bytes) -> Callable[[], _Inflater]:
    if encoding == "zstd":
        options = {int(zstd.DecompressionParameter.window_log_max): _WINDOW_LOG}
        return lambda: zstd.ZstdDecompressor(options=options)
    window = _GZIP if encoding == "gzip" else _ZLIB if _is_zlib(body) else _RAW
    return lambda: zlib.decompressobj(window)


def _is_zlib(body: bytes) -> bool:
    """Tell by the first two bytes (RFC 1950) whether a deflate has zlib's frame, as it ought to; many leave it out."""
    return len(body) > 1 and body[0] & 0x0F == zlib.DEFLATED and int.from_bytes(body[:2], "big") % 31 == 0


def _broken(encoding: Encoding, reason: str) -> Problem:
    return Problem("encoding-broken", f"the body is not {encoding}: {reason}")
