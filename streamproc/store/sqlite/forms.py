"""How each table's rows are identified, compared and overwritten in SQLite."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamproc.store import columns
from streamproc.store.protocol import (
    Batch,
    Columns,
    EventColumns,
    Ints,
    NotificationColumns,
    PredictionColumns,
    ReadingColumns,
    TrialColumns,
    WindowColumns,
)
from streamproc.store.sqlite import rows
from streamproc.store.stamps import iso
from streamproc.store.window_numbers import window_keys, window_numbers

#: A sensor's key to its id, a model's name to its id.
Ids = dict[str, int]
Parameters = Iterable[tuple[object, ...]]


def window_parameters(numbers: Sequence[int]) -> list[tuple[int, int, str]]:
    """The sensor's id, size and start of each window, as the table has them."""
    sensor_id, size_ms, start = window_keys(np.array(numbers, dtype=np.int64))
    return list(zip(sensor_id.tolist(), size_ms.tolist(), iso(start), strict=True))


@dataclass(frozen=True, slots=True)
class Form:
    """One table: `columns` are the parameters of `insert`; all but `identity` and `uncompared` are compared.

    A row that is there is compared where `comparable` holds, and differs also where `void` does; `r` is the row there, `g`
    the one given. `rewrite` is set beside `compared` when a row is written over. Where rows have no `id`, `numbers` makes
    theirs of the given ones.
    """

    name: str
    relation: str
    columns: tuple[str, ...]
    identity: tuple[str, ...]
    insert: str
    parameters: Callable[[Any, Ids, Ids], Parameters]
    uncompared: tuple[str, ...] = ()
    comparable: str = "1"
    void: str = "0"
    rewrite: str = ""
    numbers: Callable[[Any, Ids], Ints] | None = None

    @property
    def compared(self) -> tuple[str, ...]:
        """The columns that may differ in a row of the same identity."""
        return tuple(name for name in self.columns if name not in {*self.identity, *self.uncompared})

    @property
    def same(self) -> str:
        """The condition that the given row and the one there are the same thing."""
        return " AND ".join(f"r.{name} = g.{name}" for name in self.identity)

    @property
    def there(self) -> str:
        """What is NULL where no such row is there."""
        return "r.id" if self.numbers is None else f"r.{self.identity[0]}"

    @property
    def differs(self) -> str:
        """The condition that the row there is not as given; 0 where there is none."""
        other = " OR ".join(f"r.{name} IS NOT g.{name}" for name in self.compared)
        return f"({self.there} IS NOT NULL AND ({self.void} OR ({self.comparable} AND ({other}))))"

    @property
    def overwrite(self) -> str:
        """The statement that makes the table hold a row as given."""
        changes = ", ".join(
            [*(f"{name} = excluded.{name}" for name in self.compared), *filter(None, [self.rewrite])]
        )
        return f"{self.insert} ON CONFLICT ({', '.join(self.identity)}) DO UPDATE SET {changes}"


READINGS = Form(
    "readings",
    "sensor_readings",
    columns.READINGS,
    ("dedupe_ms", "reading_key"),
    rows.INSERT_READING,
    lambda rows, ids, _: zip(*columns.reading_columns(rows, ids), strict=True),
    uncompared=("kafka_partition", "kafka_offset"),
    # A retry is the row of the record that came first, with that one's times; it is compared there.
    comparable="(r.kafka_partition IS NULL"
    " OR (r.kafka_partition = g.kafka_partition AND r.kafka_offset = g.kafka_offset))",
)
PREDICTIONS = Form(
    "predictions",
    "predictions",
    columns.PREDICTIONS,
    ("sensor_id", "target_timestamp", "model_id", "predicted_at"),
    rows.INSERT_PREDICTION,
    lambda rows, ids, models: zip(*columns.prediction_columns(rows, ids, models), strict=True),
    rewrite="explanation = NULL",  # it explained another score; the job that explains writes it anew
)
EVENTS = Form(
    "events",
    "ml_events",
    columns.EVENTS,
    ("event_id",),
    rows.INSERT_EVENT,
    lambda rows, ids, _: columns.event_rows(rows, ids),
    uncompared=("status",),
    void="r.status = 'superseded'",
    rewrite="status = CASE ml_events.status WHEN 'superseded' THEN excluded.status ELSE ml_events.status END",
)
NOTIFICATIONS = Form(
    "notifications",
    "alert_notifications",
    columns.NOTIFICATIONS,
    ("notification_id",),
    rows.INSERT_NOTIFICATION,
    lambda rows, ids, _: columns.notification_rows(rows, ids),
)

WINDOWS = Form(
    "windows",
    "sensor_windows",
    columns.WINDOWS,
    ("window_start", "size_ms", "sensor_id"),
    rows.INSERT_WINDOW,
    lambda rows, ids, _: zip(*columns.window_columns(rows, ids), strict=True),
    numbers=lambda rows, ids: window_numbers(
        np.array([ids[sensor] for sensor in rows.sensor], dtype=np.int64), rows.size_ms, rows.start
    ),
)

TRIAL_EVENTS = Form(
    "trial_events",
    "trial_events",
    columns.TRIAL_EVENTS,
    ("event_id",),
    rows.INSERT_TRIAL,
    lambda rows, ids, _: columns.trial_rows(rows, ids),
)

_FORMS: dict[type[Columns], Form] = {
    ReadingColumns: READINGS,
    PredictionColumns: PREDICTIONS,
    EventColumns: EVENTS,
    NotificationColumns: NOTIFICATIONS,
    WindowColumns: WINDOWS,
    TrialColumns: TRIAL_EVENTS,
}
BY_NAME = {form.name: form for form in _FORMS.values()}


def forms(batch: Batch) -> list[tuple[Form, Columns]]:
    """The tables of a batch, in its order."""
    return [(_FORMS[type(rows)], rows) for rows in batch.tables()]
