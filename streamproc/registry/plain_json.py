"""Reads JSON in which nothing is lost without a word: of two values with the same name, parsers silently take the last."""

from __future__ import annotations

import json
from typing import Any

import msgspec


def load(text: str | bytes) -> Any:
    """What the text is, with bytes in UTF-8.

    Raises ValueError, msgspec.DecodeError or RecursionError where it is no JSON, and where a name is there twice.

    >>> load('{"critical": {"low": 1.5}}')
    {'critical': {'low': 1.5}}
    """
    decoded = msgspec.json.decode(text)
    json.loads(text, object_pairs_hook=_once)
    return decoded


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return found
