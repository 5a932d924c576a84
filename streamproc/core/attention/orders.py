"""What users have set about alerting, as of one position of the registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from streamproc.core.attention.silences import Silences
from streamproc.core.policies import Policies, policies_of, policy_of
from streamproc.records import SensorEntry
from streamproc.records.alerting import Document, HandlingEntry, PolicyEntry, SilenceEntry


@dataclass(frozen=True, slots=True)
class Orders:
    """Policies by kind of sensor, silences, and how alarms are handled, by sensor."""

    policies: Policies = field(default_factory=dict)
    silences: Silences = field(default_factory=Silences)
    handlings: Mapping[str, HandlingEntry] = field(default_factory=dict)
    #: The documents that these were made of.
    source: Mapping[str, Document] = field(default_factory=dict)

    @classmethod
    def of(cls, documents: Mapping[str, Document]) -> Orders:
        """The orders among a registry's documents.

        >>> Orders.of({"policy/pump": PolicyEntry("pump", cooldown_seconds=5.0)}).policy(None).cooldown_seconds
        0.0
        """
        mine = {
            key: entry
            for key, entry in documents.items()
            if isinstance(entry, PolicyEntry | SilenceEntry | HandlingEntry)
        }
        handlings = (entry for entry in mine.values() if isinstance(entry, HandlingEntry))
        return cls(
            policies_of(mine),
            Silences(entry for entry in mine.values() if isinstance(entry, SilenceEntry)),
            {entry.sensor.lower(): entry for entry in handlings},
            mine,
        )

    def policy(self, entry: SensorEntry | None) -> PolicyEntry:
        """The policy of a sensor's kind, or else that of all; without any, each change is told at once and nothing else."""
        return policy_of(entry, self.policies)
