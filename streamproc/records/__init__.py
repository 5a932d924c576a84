"""The values that cross between stages, as frozen types.

All times are integer milliseconds since the epoch, UTC. Sensors are named by their key: the lower-case
`sensor_uuid`, or the `sensor_id` as a string where a producer knows no uuid.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Literal

import msgspec


class Severity(IntEnum):
    """How bad a sensor's state is; the order is the order of the numbers."""

    NORMAL = 0
    WARN = 1
    CRITICAL = 2


#: Languages of what people are told.
Language = Literal["en", "es"]
#: Sizes of the windows that the engine makes.
WINDOW_SIZES_MS = (1_000, 5_000, 10_000)

Cause = Literal[
    "critical_range",
    "warning_range",
    "delta_spike",
    "level",
    "difference",
    "spread",
    "stuck",
    "trend",
    "rate_of_change",
    "silence",
    "stuck_value",
    "expression",
    "season",
    "flapping",
    "drift",
    "recovered",
]


class Range(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The values that a user calls acceptable: `low <= value <= high`; an absent bound does not bind.

    After a breach values count as calm again from `clear_low` up and `clear_high` down, which lie within the bounds. Where a
    clear level is absent, it is a small part of the range's width inside its bound.
    """

    low: float | None = None
    high: float | None = None
    clear_low: float | None = None
    clear_high: float | None = None


class DeltaSpike(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag="delta_spike",
    tag_field="rule",
):
    """A rule: a reading that differs from the sensor's one before by more than the sensor may jump.

    `absolute` is in the sensor's unit, `percent` of the value before; where both are given, both must be passed. Readings
    that lie more than `within_seconds` apart are no pair.
    """

    absolute: float | None = None
    percent: float | None = None
    within_seconds: float | None = None
    severity: Severity = Severity.WARN


WindowSize = Literal["1s", "5s", "10s"]


class RateOfChange(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag="rate_of_change",
    tag_field="rule",
):
    """A rule: windows whose slope, up or down, is more than `per_second` units a second.

    Up after `for_windows` such windows in a row, down after `clear_windows` others in a row.
    """

    per_second: float
    window: WindowSize = "10s"
    severity: Severity = Severity.WARN
    for_windows: int = 1
    clear_windows: int = 5


class NoData(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag="no_data",
    tag_field="rule",
):
    """A rule: a sensor of which nothing has come for `seconds`, until a reading comes."""

    seconds: float
    severity: Severity = Severity.WARN


class StuckValue(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag="stuck_value",
    tag_field="rule",
):
    """A rule: readings that lie within `tolerance` of each other for `seconds`, judged with each closed window of 1 s."""

    seconds: float
    tolerance: float = 0.0
    severity: Severity = Severity.WARN
    for_windows: int = 1
    clear_windows: int = 5


class Expression(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag="expression",
    tag_field="rule",
):
    """A rule: an expression over the last closed windows that is true, such as `mean_10s > 80 and trend_10s > 0.5`."""

    expression: str
    severity: Severity = Severity.WARN
    for_windows: int = 1
    clear_windows: int = 5


#: The rules that closed windows are judged by.
WindowRule = RateOfChange | StuckValue | Expression
#: What a user can have a sensor judged by, besides its ranges; told apart by `rule`.
Rule = DeltaSpike | RateOfChange | NoData | StuckValue | Expression


class DeviceKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A key that a device writes with: only its SHA-256 (64 hexadecimal digits) is kept; times in ms.

    `key_id` names it to people. From `expires_at` on it is taken no more.
    """

    key_id: str
    sha256: str
    created_at: int
    expires_at: int | None = None


class DeviceEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One device as the topic `registry` carries it, keyed by DEVICE_PREFIX and `device`.

    `keys` are those that live, two at most; nothing is taken from a device that is not `enabled`. `version` counts the
    entry's edits.
    """

    device: str
    name: str | None = None
    site: str | None = None
    tenant: str | None = None
    enabled: bool = True
    keys: tuple[DeviceKey, ...] = ()
    version: int = 1


#: Before a device's name as a key on the topic `registry`; no sensor in the registry may have a name that begins with it.
DEVICE_PREFIX = "device/"


#: Before a kind of sensors and a cause as a key on the topic `registry`; no sensor may have a name that begins so either.
ACTION_PREFIX = "action/"
#: The kind of all sensors.
ANY_KIND = "*"


class ActionEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What people are to do about a `cause` (one of Cause) at sensors of a `kind`, as the topic `registry` carries it.

    It is keyed by ACTION_PREFIX, kind and cause. `en` and `es` are the sentences in these languages; where one is absent,
    that of ANY_KIND is told, or else streamproc's own. `kind` is in lower case; `version` counts the entry's edits.
    """

    kind: str
    cause: str
    en: str | None = None
    es: str | None = None
    version: int = 1

    @property
    def name(self) -> str:
        """What the entry is called: its kind and its cause."""
        return f"{self.kind}/{self.cause}"

    @property
    def key(self) -> str:
        """Its key on the topic."""
        return ACTION_PREFIX + self.name


class SensorEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One sensor as the topic `registry` carries it, keyed by `sensor`.

    A value outside `critical` is CRITICAL at once, one outside `warning` WARN. `version` counts the entry's edits.
    """

    sensor: str
    device: str | None = None
    sensor_id: int | None = None
    name: str | None = None
    unit: str | None = None
    kind: str | None = None
    site: str | None = None
    tenant: str | None = None
    warning: Range | None = None
    critical: Range | None = None
    rules: tuple[Rule, ...] = ()
    version: int = 1


class WindowRows(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Closed windows of one size as columns, row i being one window: the value of topic `windows`.

    `start` is inclusive, `start + size_ms` exclusive. `deviation` is the population's standard deviation, `trend` the
    least-squares slope in units per second. `first_offset` and `last_offset` bound the records that it was made of.
    """

    size_ms: int
    topic: str
    partition: int
    sensor: list[str]
    start: list[int]
    count: list[int]
    mean: list[float]
    min: list[float]
    max: list[float]
    deviation: list[float]
    first: list[float]
    last: list[float]
    trend: list[float]
    first_offset: list[int]
    last_offset: list[int]
    version: int = 1


class PredictionRows(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the learners expect of each sensor's next windows, as columns: the value of topic `predictions`.

    Row i: made at `made_at` for the window that ends at `target`, 90 % between `lower` and `upper`; one for each step ahead.
    `anomaly_score` is that of the window just closed, 0..1; `is_anomaly` tells whether it crosses the alarm level. Both are
    in the first step's row; those of further steps have 0 and false.
    """

    model: str
    sensor: list[str]
    made_at: list[int]
    target: list[int]
    value: list[float]
    lower: list[float]
    upper: list[float]
    anomaly_score: list[float]
    is_anomaly: list[bool]
    version: int = 1


#: Marks among a lineage's `scores`, 1 where they are there: the sensor flaps; people were told of its silence as its whole
#: device's.
FLAPPING, DEVICE_SILENT = "flapping", "device_silent"


class Lineage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where an event comes from: enough to find its records again and judge them anew.

    `scores` are the numbers that it was judged by, and marks such as FLAPPING.
    """

    topic: str
    partition: int
    first_offset: int
    last_offset: int
    window: dict[str, float]
    scores: dict[str, float]
    rule: str
    versions: dict[str, str]


class SeverityEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One change of a sensor's severity: the value of topic `events`; `event_id` is derived from its content."""

    event_id: str
    sensor: str
    severity: Severity
    previous: Severity
    cause: Cause
    at: int
    value: float
    explanation: str
    recommended_action: str
    lineage: Lineage
    version: int = 1


#: What makes a notification: the change itself; that it is told later, as it was kept back; a reminder of what lasts; that
#: nobody has acknowledged it, for others.
NotificationKind = Literal["change", "held", "reminder", "escalation"]


class Notification(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person should see of an event: the value of topic `notifications`.

    `notification_id` begins with the `kind` and a hyphen, but for that of a change: databases have the id alone. Of one
    that goes on with what another sensor's event has told, that event's id follows its own 32 digits.
    """

    notification_id: str
    event_id: str
    sensor: str
    severity: Severity
    at: int
    title: str
    message: str
    version: int = 1
    kind: NotificationKind = "change"


class LateReading(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A reading that came after its window had closed: the value of topic `late`."""

    sensor: str
    value: float
    ts: int
    late_by_ms: int
    topic: str
    partition: int
    offset: int


class DeadLetter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A record that was not understood or not stored: the value of topic `dead-letter`.

    `payload` is the record's value, as text where it is UTF-8, else base64 (`encoding` tells which); of a value of `size`
    bytes that is too large it is absent. Of a record of columns (WindowRows, PredictionRows) some of whose rows were not
    stored, it is a record of those rows. `first` is where the record first arrived, as partition:offset:timestamp. If
    it had been sent again from `dead-letter`, `attempt` counts how often, and `letter` is the place of its first letter.
    """

    stage: Literal["engine", "sink"]
    reason: str
    topic: str
    partition: int
    offset: int
    payload: str | None
    encoding: Literal["utf-8", "base64"] = "utf-8"
    field: str | None = None
    size: int | None = None
    first: str | None = None
    letter: str | None = None
    attempt: int = 0
    version: int = 1


class RedriveMark(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Says on `dead-letter` that a letter's record was sent again; such a record has the header `streamproc-mark`.

    `letter` is the letter's place, partition:offset; `stage`, `topic`, `first` and `attempt` are the letter's, and tell it
    also where it stands on the topic once more. `sent` is the place of the record sent, as topic/partition/offset.
    """

    letter: str
    stage: Literal["engine", "sink"]
    topic: str
    first: str
    attempt: int
    sent: str
    at: int
    version: int = 1
