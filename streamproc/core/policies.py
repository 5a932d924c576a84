"""The policies at a place in the stream; a sensor follows its kind's policy, or else the one for all kinds."""

from __future__ import annotations

from collections.abc import Mapping

from streamproc.records import ANY_KIND, SensorEntry
from streamproc.records.alerting import Document, PolicyEntry

#: What holds where no policy says otherwise.
USUAL = PolicyEntry(ANY_KIND)

#: Policies by the kind of sensors that they are for.
Policies = Mapping[str, PolicyEntry]


def policies_of(documents: Mapping[str, Document]) -> Policies:
    """The policies among documents of the registry."""
    found = (entry for entry in documents.values() if isinstance(entry, PolicyEntry))
    return {entry.kind: entry for entry in found}


def policy_of(entry: SensorEntry | None, policies: Policies) -> PolicyEntry:
    """The policy of a sensor by its entry in the registry; USUAL where there is none for it.

    >>> pumps = PolicyEntry("pump", down_windows=10)
    >>> policy_of(SensorEntry("a", kind="Pump"), {"pump": pumps}).down_windows, policy_of(None, {}).down_windows
    (10, 5)
    """
    if not policies:
        return USUAL
    kind = entry.kind.lower() if entry and entry.kind else ANY_KIND
    return policies.get(kind) or policies.get(ANY_KIND, USUAL)
