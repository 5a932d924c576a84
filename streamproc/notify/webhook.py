"""Messages by POST as JSON, signed, with an identity that tells a receiver of repeats."""

from __future__ import annotations

import hmac
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import sha256
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from streamproc import __version__
from streamproc.notify.channels import Accepted, Answer, Later, Refused
from streamproc.notify.wording import gravest, place, subject
from streamproc.records import Language
from streamproc.store.deliveries import Change, Message

#: A receiver is asked for one message at a time; the second connection is for one that has not closed the first yet.
_CONNECTIONS = 2
_TIMES_OUT = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)


class WebhookChannel:
    """Posts to one URL. The URL is never shown or logged: it may be all that a stranger needs to post there as well."""

    def __init__(
        self, name: str, url: str, secret: str | None, timeout_s: float, language: Language = "en"
    ) -> None:
        self.name = name
        self._url, self._secret, self._timeout_s, self._language = url, secret, timeout_s, language
        parts = urlsplit(url)
        self._host = parts.netloc.rpartition("@")[2]
        self._session: aiohttp.ClientSession | None = None

    async def send(self, message: Message) -> Answer:
        """POST the message; a redirect is not followed, for it would take the message to another receiver."""
        body = orjson.dumps(payload(message, self._language))
        try:
            async with self._opened().post(
                self._url, data=body, headers=self._headers(message, body), allow_redirects=False
            ) as answer:
                return judged(answer.status, answer.reason, answer.headers.get("Retry-After"))
        except TimeoutError:
            return Later(f"{self._host}: no answer within {self._timeout_s:g} s")
        except aiohttp.ClientConnectorError as error:
            return Later(f"{self._host}: cannot connect: {error.strerror or type(error.os_error).__name__}")
        except (aiohttp.ClientError, OSError) as error:
            return Later(f"{self._host}: {type(error).__name__}")  # its text may hold the URL

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
                headers={"User-Agent": f"streamproc/{__version__}"},
            )
        return self._session

    def _headers(self, message: Message, body: bytes) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": message.message_id,
            "X-Streamproc-Attempt": str(message.attempts + 1),
        }
        if self._secret is not None:
            now = int(time.time())
            headers |= {
                "X-Streamproc-Timestamp": str(now),
                "X-Streamproc-Signature": signature(self._secret, now, body),
            }
        return headers


def signature(secret: str, timestamp: int, body: bytes) -> str:
    """What the header X-Streamproc-Signature holds: HMAC-SHA256 of `timestamp.body`; a receiver refuses old timestamps.

    >>> signature("secret", 1700000000, b"{}")[:20]
    'v1=b8569b78799ff9e3c'
    """
    signed = f"{timestamp}.".encode() + body
    return f"v1={hmac.new(secret.encode(), signed, sha256).hexdigest()}"


def payload(message: Message, language: Language) -> dict[str, Any]:
    """The body: the same at each attempt, unless the registry's names have changed meanwhile."""
    first = message.changes[0]
    kind, _, name = message.scope.partition(":")
    return {
        "id": message.message_id,
        "group_id": message.thread_id,
        "severity": gravest(message).name,
        "subject": subject(message, language),
        "scope": {"kind": kind, "id": name, "name": place(message), "site": first.site},
        "changes": [_change(change) for change in message.changes],
        "version": 1,
    }


def _change(change: Change) -> dict[str, Any]:
    return {
        "notification_id": change.notification_id,
        "event_id": change.event_id,
        "kind": change.kind,
        "sensor": change.sensor,
        "name": change.name,
        "device": change.device,
        "severity": change.severity,
        "at": datetime.fromtimestamp(change.at / 1000, UTC).isoformat(timespec="milliseconds"),
        "title": change.title,
        "message": change.text,
    }


def judged(status: int, reason: str | None, retry_after: str | None) -> Answer:
    """What an answer's status means for the message.

    >>> judged(204, None, None), judged(400, "Bad Request", None), judged(503, "Busy", "7")
    (Accepted(note=None), Refused(reason='HTTP 400 Bad Request'), Later(reason='HTTP 503 Busy', after_s=7.0))
    """
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return Accepted()
    told = f"HTTP {status} {reason or ''}".rstrip()
    if status in _TIMES_OUT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Later(told, _seconds(retry_after))
    if status < HTTPStatus.BAD_REQUEST:
        return Refused(f"{told}: redirects are not followed")
    return Refused(told)


def _seconds(retry_after: str | None) -> float | None:
    """The wait that Retry-After asks for: seconds, or until a date; None where it is neither."""
    if retry_after is None:
        return None
    if retry_after.strip().isascii() and retry_after.strip().isdigit():
        return float(retry_after)
    try:
        until = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max((until - datetime.now(UTC)).total_seconds(), 0.0)
