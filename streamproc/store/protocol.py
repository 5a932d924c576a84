"""The interface of a database for the sink and the registry, and the batches that it is given."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from streamproc.records import Notification, SensorEntry, SeverityEvent
from streamproc.records.alerting import TrialEvent
from streamproc.store.deliveries import Deliveries
from streamproc.store.views import Views

if TYPE_CHECKING:
    from streamproc.store.comparison import Compared, Extras, Given, Scope
    from streamproc.store.edits import Audited, Author, Edit, Kind, Outcome, Registered
    from streamproc.store.sensor_status import SensorStatus, StandingAlarm
    from streamproc.store.thresholds import Threshold
    from streamproc.store.trial_history import SeverityChange, TrialHistory

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
#: A topic's broker name and a partition of it.
Place = tuple[str, int]


class Reached(NamedTuple):
    """How far a partition is written: its next offset, and the registry's position there (-1: none known)."""

    next_offset: int
    registry: int = -1


def _ints() -> Ints:
    return np.empty(0, dtype=np.int64)


def _floats() -> Floats:
    return np.empty(0, dtype=np.float64)


def _bools() -> NDArray[np.bool_]:
    return np.empty(0, dtype=np.bool_)


@dataclass(frozen=True, slots=True)
class ReadingColumns:
    """Rows for `sensor_readings`, columns of shape (n,), times in ms; `dedupe_ms` and `key` identify each."""

    sensor: list[str] = field(default_factory=list)
    device: list[str | None] = field(default_factory=list)
    value: Floats = field(default_factory=_floats)
    ts: Ints = field(default_factory=_ints)
    received: Ints = field(default_factory=_ints)
    dedupe_ms: Ints = field(default_factory=_ints)
    key: Ints = field(default_factory=_ints)
    partition: Ints = field(default_factory=_ints)
    offset: Ints = field(default_factory=_ints)

    def __len__(self) -> int:
        return len(self.sensor)


@dataclass(frozen=True, slots=True)
class PredictionColumns:
    """Rows for `predictions`, all columns of shape (n,); times in ms, `model` as `name` or `name@version`."""

    sensor: list[str] = field(default_factory=list)
    model: list[str] = field(default_factory=list)
    made_at: Ints = field(default_factory=_ints)
    target: Ints = field(default_factory=_ints)
    value: Floats = field(default_factory=_floats)
    lower: Floats = field(default_factory=_floats)
    upper: Floats = field(default_factory=_floats)
    confidence: Floats = field(default_factory=_floats)
    anomaly_score: Floats = field(default_factory=_floats)
    is_anomaly: NDArray[np.bool_] = field(default_factory=_bools)
    partition: Ints = field(default_factory=_ints)
    offset: Ints = field(default_factory=_ints)

    def __len__(self) -> int:
        return len(self.sensor)


@dataclass(frozen=True, slots=True)
class EventColumns:
    """Rows for `ml_events`, of shape (n,)."""

    sensor: list[str] = field(default_factory=list)
    event: list[SeverityEvent] = field(default_factory=list)
    partition: Ints = field(default_factory=_ints)
    offset: Ints = field(default_factory=_ints)

    def __len__(self) -> int:
        return len(self.sensor)


@dataclass(frozen=True, slots=True)
class NotificationColumns:
    """Rows for `alert_notifications`, of shape (n,)."""

    sensor: list[str] = field(default_factory=list)
    notification: list[Notification] = field(default_factory=list)
    partition: Ints = field(default_factory=_ints)
    offset: Ints = field(default_factory=_ints)

    def __len__(self) -> int:
        return len(self.sensor)


@dataclass(frozen=True, slots=True)
class WindowColumns:
    """Rows for `sensor_windows`, columns of shape (n,); (`sensor`, `size_ms`, `start`) identifies each.

    `source_partition`, `first_offset` and `last_offset` are the records of `readings` that a window was made of;
    `partition` and `offset` the record that the row came in.
    """

    sensor: list[str] = field(default_factory=list)
    size_ms: Ints = field(default_factory=_ints)
    start: Ints = field(default_factory=_ints)
    count: Ints = field(default_factory=_ints)
    mean: Floats = field(default_factory=_floats)
    min: Floats = field(default_factory=_floats)
    max: Floats = field(default_factory=_floats)
    deviation: Floats = field(default_factory=_floats)
    first: Floats = field(default_factory=_floats)
    last: Floats = field(default_factory=_floats)
    trend: Floats = field(default_factory=_floats)
    first_offset: Ints = field(default_factory=_ints)
    last_offset: Ints = field(default_factory=_ints)
    source_partition: Ints = field(default_factory=_ints)
    partition: Ints = field(default_factory=_ints)
    offset: Ints = field(default_factory=_ints)

    def __len__(self) -> int:
        return len(self.sensor)


@dataclass(frozen=True, slots=True)
class TrialColumns:
    """Rows for `trial_events`, of shape (n,)."""

    sensor: list[str] = field(default_factory=list)
    tried: list[TrialEvent] = field(default_factory=list)
    partition: Ints = field(default_factory=_ints)
    offset: Ints = field(default_factory=_ints)

    def __len__(self) -> int:
        return len(self.sensor)


Columns = (
    ReadingColumns | PredictionColumns | EventColumns | NotificationColumns | WindowColumns | TrialColumns
)
C = TypeVar("C", bound=Columns)


def take(columns: C, at: NDArray[np.intp]) -> C:
    """The rows at these indexes, in their order."""
    picked: dict[str, Any] = {}
    for column in fields(columns):
        values = getattr(columns, column.name)
        picked[column.name] = [values[i] for i in at.tolist()] if isinstance(values, list) else values[at]
    return type(columns)(**picked)


def join(parts: Sequence[C]) -> C:
    """The rows of all parts (at least one) one after another."""
    if len(parts) == 1:
        return parts[0]
    joined: dict[str, Any] = {}
    for column in fields(parts[0]):
        values = [getattr(part, column.name) for part in parts]
        lists = isinstance(values[0], list)
        joined[column.name] = [row for part in values for row in part] if lists else np.concatenate(values)
    return type(parts[0])(**joined)


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows and offsets that are written together or not at all.

    `offsets` maps a partition to the next offset that the database must hold now (None: nothing yet) and
    the one that it holds afterwards; `registry` those of `readings` to the registry's position that it holds beside it.
    """

    group: str
    offsets: dict[Place, tuple[int | None, int]] = field(default_factory=dict)
    registry: dict[Place, int] = field(default_factory=dict, kw_only=True)
    readings: ReadingColumns = field(default_factory=ReadingColumns)
    predictions: PredictionColumns = field(default_factory=PredictionColumns)
    events: EventColumns = field(default_factory=EventColumns)
    notifications: NotificationColumns = field(default_factory=NotificationColumns)
    windows: WindowColumns = field(default_factory=WindowColumns)
    trial_events: TrialColumns = field(default_factory=TrialColumns)

    def __len__(self) -> int:
        return sum(len(table) for table in self.tables())

    def tables(self) -> tuple[Columns, ...]:
        """The rows by table; counted through in this order, row i of the batch is one of them."""
        return (
            self.readings,
            self.predictions,
            self.events,
            self.notifications,
            self.windows,
            self.trial_events,
        )

    def take(self, at: NDArray[np.intp]) -> Batch:
        """The batch with only the rows at these indexes, ascending, and the same offsets."""
        ends = np.cumsum([0, *(len(table) for table in self.tables())])
        cuts = np.searchsorted(at, ends)
        r, p, e, n, w, t = (at[a:b] - end for a, b, end in zip(cuts, cuts[1:], ends, strict=False))
        return Batch(
            self.group,
            self.offsets,
            take(self.readings, r),
            take(self.predictions, p),
            take(self.events, e),
            take(self.notifications, n),
            take(self.windows, w),
            take(self.trial_events, t),
            registry=self.registry,
        )


@dataclass(frozen=True, slots=True)
class Written:
    """Rows that were not there before, by table; the others of the batch were written already."""

    readings: int = 0
    predictions: int = 0
    events: int = 0
    notifications: int = 0
    windows: int = 0
    trial_events: int = 0


class Store(Deliveries, Views, Protocol):
    """A database; each call is one transaction. All raise StoreUnavailable or StoreError, too."""

    async def open(self) -> None:
        """Connect, and bring the schema up to date."""

    async def close(self) -> None:
        """Close the database; calls under way are finished first."""

    async def offsets(self, group: str) -> dict[Place, int]:
        """The next offset of each partition that the group has written."""

    async def reached(self, group: str) -> dict[Place, Reached]:
        """The same, each with the registry's position that was written with it."""

    async def write(self, batch: Batch) -> Written:
        """Write the new rows and move the offsets on, or nothing: raises RowsRefused or StaleOwner."""

    async def probe(self, batch: Batch) -> None:
        """Raise RowsRefused where `write` would; nothing is written, and offsets do not matter."""

    async def compare(self, batch: Batch) -> dict[str, Compared]:
        """Compare the batch's rows with the database, by table; nothing is written, and offsets do not matter."""

    async def extras(
        self, table: str, scopes: Sequence[Scope], only: Sequence[str] | None, given: Given, limit: int
    ) -> Extras:
        """Rows of a table that belong to the scopes but were not given: how many, and at most `limit` of them.

        `only` names the sensors that count, None: all.
        """

    async def overwrite(self, batch: Batch) -> None:
        """Make the database hold these rows as they are given, or raise RowsRefused; offsets stay."""

    async def withdraw(self, table: str, numbers: Sequence[int]) -> int:
        """Withdraw rows that should not be there; returns how many there were.

        Windows go, and predictions that no event refers to; events are marked superseded; readings and notifications stay.
        """

    async def edit_registry(self, edits: Sequence[Edit], by: Author) -> list[Outcome]:
        """Carry out edits of the registry, all or none; returns what it then holds.

        A change raises the entry's version and adds a line to the audit. Raises a RegistryError that names every fault; it is
        an UnknownEntry or a StaleEntry if all faults are.
        """

    async def registry(self, only: Collection[str] | None = None) -> Registered:
        """All entries by their key on the topic, or those with these keys; None for removed ones."""

    async def documents(self) -> Registered:
        """All documents by their key, without reading the sensors, of which there may be many."""

    async def audit(
        self, of: tuple[Kind, str] | None = None, before: int | None = None, limit: int = 100
    ) -> list[Audited]:
        """Who has changed what, newest first: of one entry or all, the lines before this one's id."""

    async def entries(self) -> list[SensorEntry]:
        """All sensors of the registry, by name."""

    async def thresholds(self, sensor: str | None = None) -> list[Threshold]:
        """The limits of all sensors, or of one, that other programs keep there, oldest first; none without such a table."""

    async def status(self, sensor: str) -> SensorStatus | None:
        """The status of the sensor with this uuid (in lower case), or else with this number; None if there is none."""

    async def alarms(self) -> list[StandingAlarm]:
        """The registered sensors that are not NORMAL, the oldest alarm first."""

    async def event(self, event_id: str) -> SeverityEvent | None:
        """The change of severity with this id, even if it was withdrawn; None if there is none."""

    async def told_over(self, event_id: str) -> bool:
        """Whether people were told, under this event's id, that its alarm is over (of a silent device: that it is back)."""

    async def trial_recorded(self, trial: str) -> TrialHistory | None:
        """What the newest version of a trial has recorded; None if nothing."""

    async def trial_told(self, trial: str, since: int, until: int) -> list[SeverityChange]:
        """The live changes of severity of a trial's sensors from one time to another, both inclusive, in ms."""
