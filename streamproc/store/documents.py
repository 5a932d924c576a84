"""Documents of the registry: all entries other than sensors, devices and recommended actions, kept and edited in one way.

Each is a struct of `records.alerting` whose first field is its name. To add a kind, add it there and here, and its checks in
`registry.document_checks`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from streamproc.records.alerting import HandlingEntry, LearnersEntry, PolicyEntry, SilenceEntry, TrialEntry

DocumentKind = Literal["policy", "silence", "handling", "trial", "learners"]
AlertingEntry = PolicyEntry | SilenceEntry | HandlingEntry | TrialEntry | LearnersEntry
#: The struct of each kind; a kind with a slash behind it is what its keys on the topic begin with.
FORMS: dict[str, type[AlertingEntry]] = {
    "policy": PolicyEntry,
    "silence": SilenceEntry,
    "handling": HandlingEntry,
    "trial": TrialEntry,
    "learners": LearnersEntry,
}


class Unreadable(msgspec.Struct, frozen=True):
    """A row that is no document of its kind, and why: somebody has written it by SQL. It never goes to the topic."""

    kind: str
    name: str
    body: str
    reason: str
    version: int = 1

    @property
    def key(self) -> str:
        """What its key on the topic would be."""
        return f"{self.kind}/{self.name}"


DocumentEntry = AlertingEntry | Unreadable


@dataclass(frozen=True, slots=True)
class PutDocument:
    """Have the registry hold this document; `expected` is the version that is to be changed, 0: there is to be none yet."""

    entry: AlertingEntry
    expected: int | None = None


@dataclass(frozen=True, slots=True)
class RemoveDocument:
    """Take a document out of the registry."""

    kind: DocumentKind
    name: str
    expected: int | None = None


def name_field(kind: str) -> str:
    """Which field of a kind of documents is its name.

    >>> name_field("policy"), name_field("handling")
    ('kind', 'sensor')
    """
    return msgspec.structs.fields(FORMS[kind])[0].name
