"""What users decide about alerting: policies, silences, the handling of alarms, and trials.

They are entries of the topic `registry`, as sensors are, each keyed by its prefix and name, and take effect from their place
in the stream on. All times are integer milliseconds since the epoch, UTC.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from streamproc.records import ACTION_PREFIX, ActionEntry, Cause, Lineage, Range, Rule, Severity

POLICY_PREFIX, SILENCE_PREFIX, HANDLING_PREFIX, TRIAL_PREFIX = "policy/", "silence/", "handling/", "trial/"
LEARNERS_PREFIX = "learners/"
#: The cause of a TrialEvent that tells a sensor's begin.
BEGUN: Literal["begun"] = "begun"


class PolicyEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How sensors of a `kind` are told of, ANY_KIND being all that have no policy of their kind; keyed by POLICY_PREFIX.

    A severity goes up after `up_windows` windows in a row that ask for it and down after `down_windows` calm ones. While a
    sensor flaps, it does not come down and nothing but a graver state is told. For `cooldown_seconds` after what was told
    last only what is graver is told. What lasts is told again each `remind_seconds`, and to others once nobody has
    acknowledged it for `escalate_seconds`; 0: never.
    """

    kind: str
    up_windows: int = 1
    down_windows: int = 5
    flapping: bool = True
    cooldown_seconds: float = 0.0
    remind_seconds: float = 0.0
    escalate_seconds: float = 0.0
    version: int = 1

    @property
    def key(self) -> str:
        """Its key on the topic."""
        return POLICY_PREFIX + self.kind


class Weekly(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A time that comes again each week: from `at` ("22:00") on these `days` (0 Monday to 6 Sunday) for `minutes`.

    `zone` is the IANA name of the clock's zone.
    """

    days: tuple[int, ...]
    at: str
    minutes: int
    zone: str = "UTC"


class SilenceEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A time in which people are not told of some sensors; keyed by SILENCE_PREFIX and `silence`, its id.

    It is for the sensors that have all that is given here of sensor, device, kind, site and tenant, from `begin` (inclusive)
    to `end` (exclusive), and in these only in the `weekly` times where those are given. What is graver than `up_to` is told
    all the same. `maintenance` says that somebody works on them, and people read so. One that names none of the five is for
    all sensors, and must say so by `all_sensors`. `by` is who made it.
    """

    silence: str
    sensor: str | None = None
    device: str | None = None
    kind: str | None = None
    site: str | None = None
    tenant: str | None = None
    begin: int | None = None
    end: int | None = None
    weekly: Weekly | None = None
    up_to: Severity = Severity.CRITICAL
    maintenance: bool = False
    all_sensors: bool = False
    reason: str | None = None
    by: str | None = None
    version: int = 1

    @property
    def key(self) -> str:
        """Its key on the topic."""
        return SILENCE_PREFIX + self.silence


class HandlingEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """That somebody looks after a sensor's alarm; keyed by HANDLING_PREFIX and `sensor`.

    It is for the alarm that the event `event_id` is of, and over with it. Who has `acknowledged` it is not reminded of it,
    and nobody else told, until it is graver; who has snoozed it is told nothing of the sensor until `snoozed_until`. `by` is
    who it was, `at` when.
    """

    sensor: str
    event_id: str
    acknowledged: bool = False
    snoozed_until: int | None = None
    note: str | None = None
    by: str | None = None
    at: int | None = None
    version: int = 1

    @property
    def key(self) -> str:
        """Its key on the topic."""
        return HANDLING_PREFIX + self.sensor


class TrialEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is tried beside the live judgement of sensors; keyed by TRIAL_PREFIX and `trial`.

    It is for the one `sensor`, or for those of a `kind`, ANY_KIND being all. `rules` come beside the sensor's own, or, with
    `instead`, in place of those of the same sort; `warning` and `critical` in place of its ranges; `learners` are numbers of
    the learners by their names; `up_windows`, `down_windows` and `flapping` go before its policy's. What the trial would have
    told is recorded and compared, and told to nobody. `begun_at` (ms) is when it was put. Each edit is a trial anew.
    """

    trial: str
    kind: str = "*"
    sensor: str | None = None
    rules: tuple[Rule, ...] = ()
    instead: bool = False
    warning: Range | None = None
    critical: Range | None = None
    learners: dict[str, float] = {}
    up_windows: int | None = None
    down_windows: int | None = None
    flapping: bool | None = None
    begun_at: int = 0
    reason: str | None = None
    version: int = 1

    @property
    def key(self) -> str:
        """Its key on the topic."""
        return TRIAL_PREFIX + self.trial

    @property
    def policy(self) -> dict[str, int | bool]:
        """What it tries of a policy, by the names of its fields."""
        given = {name: getattr(self, name) for name in ("up_windows", "down_windows", "flapping")}
        return {name: value for name, value in given.items() if value is not None}


class LearnersEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Numbers that the live learners of sensors of a `kind` go by, by their names; keyed by LEARNERS_PREFIX and the kind.

    Those of ANY_KIND are for sensors whose kind has none. `trial` is the one that they were promoted from.
    """

    kind: str
    learners: dict[str, float] = {}
    trial: str | None = None
    version: int = 1

    @property
    def key(self) -> str:
        """Its key on the topic."""
        return LEARNERS_PREFIX + self.kind


class TrialEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A change of severity that a trial would have told, or a sensor's begin in it: the value of topic `trial-events`.

    `trial_version` and `begun_at` are of the trial's entry, all else is as in a SeverityEvent, but for `event_id`. A sensor's
    begin has the cause BEGUN, the severity that it had, and the time up to which its windows were judged before.
    """

    trial: str
    trial_version: int
    begun_at: int
    event_id: str
    sensor: str
    severity: Severity
    previous: Severity
    cause: Cause | Literal["begun"]
    at: int
    value: float | None = None
    explanation: str = ""
    lineage: Lineage | None = None
    version: int = 1


#: What the registry has beside sensors and devices, and what their keys on the topic begin with.
Document = ActionEntry | PolicyEntry | SilenceEntry | HandlingEntry | TrialEntry | LearnersEntry
DOCUMENTS: dict[str, type[Document]] = {
    ACTION_PREFIX: ActionEntry,
    POLICY_PREFIX: PolicyEntry,
    SILENCE_PREFIX: SilenceEntry,
    HANDLING_PREFIX: HandlingEntry,
    TRIAL_PREFIX: TrialEntry,
    LEARNERS_PREFIX: LearnersEntry,
}
