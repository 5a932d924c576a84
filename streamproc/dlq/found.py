"""Records of the topic `dead-letter` as letters and marks, and the selection of those that are asked for. Pure."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from streamproc.dlq.reasons import CODES, reason_of
from streamproc.records import DeadLetter, RedriveMark

#: A record of `dead-letter` with this header is no letter but a RedriveMark.
MARK = "streamproc-mark"

_letter = msgspec.json.Decoder(DeadLetter).decode
_mark = msgspec.json.Decoder(RedriveMark).decode
_place = re.compile(r"(\d{1,9}):(\d{1,18})")
_named = re.compile(r'"sensor(?:_uuid|_id)?"\s*:\s*(?:"([^"]*)"|(\d+))')


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """The place of a letter on `dead-letter`; `partition:offset` is the id that people use."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Place | None:
        """The place in a text, None if it is none.

        >>> Place.parse("0:17")
        Place(partition=0, offset=17)
        """
        match = _place.fullmatch(text)
        return cls(int(match[1]), int(match[2])) if match else None


@dataclass(frozen=True, slots=True)
class Found:
    """A letter, its place and its time (ms)."""

    place: Place
    at: int
    letter: DeadLetter

    @property
    def first(self) -> str:
        """Where the record first arrived; if the letter does not say, where it was refused."""
        letter = self.letter
        return letter.first or f"{letter.partition}:{letter.offset}:?"


def read(record: Any) -> Found | RedriveMark | None:
    """The letter or mark in a consumer's record of `dead-letter`; None if it is neither."""
    decode = _mark if any(name == MARK for name, _ in record.headers) else _letter
    try:
        read = decode(record.value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    place = Place(record.partition, record.offset)
    return Found(place, record.timestamp, read) if isinstance(read, DeadLetter) else read


def payload(letter: DeadLetter) -> bytes | None:
    """The refused record's value, if the letter repeats it."""
    if letter.payload is None:
        return None
    if letter.encoding == "base64":
        return b64decode(letter.payload)
    return letter.payload.encode()


def is_left_out(letter: DeadLetter) -> bool:
    """Whether the record's value was too large for the letter."""
    if letter.payload is not None:
        return False
    return letter.size is not None or "are too many to repeat here" in letter.reason


def sensors(letter: DeadLetter) -> set[str]:
    """The keys of the sensors that the letter names, as far as they can be found, even in invalid JSON."""
    text = letter.payload if letter.payload is not None and letter.encoding == "utf-8" else ""
    named = {(name or number).lower() for name, number in _named.findall(text)}
    try:
        told = msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return named
    columns = told.get("sensor") if isinstance(told, dict) else None
    if isinstance(columns, list):  # windows and predictions
        named |= {name.lower() for name in columns if isinstance(name, str)}
    return named


@dataclass(frozen=True, slots=True)
class Filter:
    """Selects letters that match everything that is given. Times in ms of the letter, `until` exclusive.

    `reason` is a class's code or any part of the reason's text; `topic` goes without the prefix or with it.
    """

    reason: str | None = None
    stage: str | None = None
    topic: str | None = None
    since: int | None = None
    until: int | None = None
    sensor: str | None = None
    places: frozenset[Place] = frozenset()
    prefix: str = ""

    def takes(self, found: Found) -> bool:
        """Whether the filter selects the letter."""
        letter = found.letter
        return (
            (self.stage is None or letter.stage == self.stage)
            and (self.topic is None or self.topic in {letter.topic, letter.topic.removeprefix(self.prefix)})
            and (self.since is None or found.at >= self.since)
            and (self.until is None or found.at < self.until)
            and (not self.places or found.place in self.places)
            and (self.reason is None or self._is_reason(letter))
            and (self.sensor is None or self._names(letter))
        )

    def _is_reason(self, letter: DeadLetter) -> bool:
        wanted = (self.reason or "").lower()
        if wanted in CODES:
            return reason_of(letter).code == wanted
        return wanted in letter.reason.lower()

    def _names(self, letter: DeadLetter) -> bool:
        wanted = (self.sensor or "").lower()
        return (
            wanted in sensors(letter)
            or re.search(rf"unknown sensor {re.escape(wanted)}(;|$)", letter.reason.lower()) is not None
        )


def parse_places(texts: Iterable[str]) -> frozenset[Place]:
    """The places in these texts; raises ValueError with those that are none."""
    found = {text: Place.parse(text) for text in texts}
    wrong = [text for text, place in found.items() if place is None]
    if wrong:
        raise ValueError(f"{', '.join(wrong)}: a letter is named PARTITION:OFFSET, as `dlq list` shows it")
    return frozenset(place for place in found.values() if place)
