"""A count with its noun, in the singular or plural."""

from __future__ import annotations


def counted(count: int, noun: str, many: str | None = None) -> str:
    """A count and its noun; `many` is the noun's plural where that is not its singular and an s.

    >>> counted(1, "sensor"), counted(1_200, "reading"), counted(0, "other entry", "other entries")
    ('1 sensor', '1,200 readings', '0 other entries')
    """
    return f"{count:,} {noun if count == 1 else many or f'{noun}s'}"
