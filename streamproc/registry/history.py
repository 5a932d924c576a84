"""Lines of the audit, for people."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from streamproc.store.documents import FORMS, name_field
from streamproc.store.edits import Audited

#: Fields that the entry's name tells already.
_NAMED = {
    "sensor": ("sensor",),
    "device": ("device",),
    "action": ("kind", "cause"),
    **{kind: (name_field(kind),) for kind in FORMS},
}


def told(line: Audited) -> str:
    """A line of the audit: when, who, what, and what differs.

    >>> told(Audited(1, 0, "ann", "change", "sensor", "s", 2, {"sensor": "s"}, {"sensor": "s", "unit": "V", "version": 2}))
    '1970-01-01T00:00:00.000Z  ann  change sensor s, version 2: unit none → "V"'
    """
    at = datetime.fromtimestamp(line.at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    told = {"version", *_NAMED[line.kind]}
    differing = "; ".join(_differences(line.before or {}, line.after or {}, told)) if line.after else ""
    said = f"{line.action} {line.kind} {line.name}, version {line.version}"
    return f"{at}  {line.actor}  {said}{': ' if differing else ''}{differing}"


def _differences(before: dict[str, Any], after: dict[str, Any], told: set[str]) -> Iterator[str]:
    for name in [*after, *(name for name in before if name not in after)]:
        was, now = before.get(name), after.get(name)
        if was != now and name not in told:
            yield f"{name} {_text(was)} → {_text(now)}"


def _text(value: Any) -> str:
    return "none" if value is None else msgspec.json.encode(value).decode()
