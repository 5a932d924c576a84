"""Whether a process can work, as several checks, each with its detail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a process needs in order to work; `detail` describes its state for people, good or bad."""

    name: str
    ok: bool
    detail: str


def report(checks: Sequence[Check]) -> dict[str, Any]:
    """The body of `/ready`; it has a `detail` if something fails.

    >>> report([Check("broker", False, "silent for 9 s"), Check("lag", True, "0 records")])["detail"]
    'broker: silent for 9 s'
    """
    failing = [check for check in checks if not check.ok]
    body: dict[str, Any] = {"status": "not ready" if failing else "ready"}
    if failing:
        body["detail"] = "; ".join(f"{check.name}: {check.detail}" for check in failing)
    body["checks"] = [asdict(check) for check in checks]
    return body
