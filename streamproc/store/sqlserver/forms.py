"""How each table's rows go to SQL Server: columns and types, identities, and statements."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, count, islice
from typing import Any, TypeVar

import numpy as np
import orjson

from streamproc.errors import RowsRefused
from streamproc.store import columns
from streamproc.store.protocol import (
    Batch,
    Columns,
    EventColumns,
    Floats,
    Ints,
    NotificationColumns,
    PredictionColumns,
    ReadingColumns,
    TrialColumns,
    WindowColumns,
)

#: A sensor's key to its id, a model's name to its id.
Ids = dict[str, int]
#: The values of rows, column by column.
Values = tuple[list[Any], ...]

#: Types as OPENJSON takes them.
INT, BIGINT, FLOAT, TIME = "INT", "BIGINT", "FLOAT", "DATETIME2(6)"
CODE, TEXT = "NVARCHAR(256)", "NVARCHAR(MAX)"

#: SQL Server takes 2,100 parameters in a statement.
PARAMETERS = 2_000
#: In a float's 64 bits its power stands above 52 digits, less one that is always there, but for the least numbers.
_POWERS, _LEAST_POWER = f"CAST({2**52} AS BIGINT)", -1074

T = TypeVar("T")


def naive(ms: Ints) -> list[Any]:
    """Datetimes in UTC without a zone, of times in ms, of shape (n,)."""
    stamps: list[Any] = ms.astype("datetime64[ms]").tolist()
    return stamps


NAIVE = columns.Stamps(naive, naive)


@dataclass(frozen=True, slots=True)
class Form:
    """One table; `types` are those of its columns, `values` gives rows' values in their order.

    `identity` tells rows apart; all other columns but `uncompared` are compared, and set, with `rewrite`, where a row is
    written over. Rows go to the server as one JSON text, without the columns that are `derived` from the others by an
    expression, or, where they have `text` of any length, as parameters.
    """

    name: str
    relation: str
    types: dict[str, str]
    identity: tuple[str, ...]
    values: Callable[[Any, Ids, Ids], Values]
    text: bool = False
    uncompared: tuple[str, ...] = ()
    rewrite: str = ""
    derived: Mapping[str, str] = field(default_factory=dict)

    @property
    def compared(self) -> tuple[str, ...]:
        """The columns that may differ in a row of the same identity."""
        return tuple(name for name in self.types if name not in {*self.identity, *self.uncompared})

    @property
    def update(self) -> str:
        """The statement that has one row hold other values; `updated` gives its parameters."""
        changes = ", ".join(
            [*(f"{name} = ?" for name in _quoted(self.compared)), *filter(None, [self.rewrite])]
        )
        same = " AND ".join(f"{name} = ?" for name in _quoted(self.identity))
        return f"UPDATE {self.relation} SET {changes} WHERE {same}"

    def updated(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        """The parameters of `update` for a row."""
        named = dict(zip(self.types, row, strict=True))
        return tuple(named[name] for name in (*self.compared, *self.identity))

    @property
    def same(self) -> str:
        """The condition that the given row and the one there are the same thing."""
        return " AND ".join(f"r.{name} = g.{name}" for name in _quoted(self.identity))

    def inserts(self, values: Values) -> Iterator[tuple[str, list[Any]]]:
        """Statements that insert these rows, each one once, where they are not there, with their parameters.

        Each gives how many it has inserted.
        """
        names = ", ".join(_quoted(self.types))
        absent = f"WHERE NOT EXISTS (SELECT 1 FROM {self.relation} r WHERE {self.same})"
        if not self.text:
            sent = {name: kind for name, kind in self.types.items() if name not in self.derived}
            columns = ", ".join(
                self.derived.get(name) or _selected(name, kind) for name, kind in self.types.items()
            )
            rows = zip(*self._encoded(sent, values), strict=True)
            yield (
                f"INSERT INTO {self.relation} ({names}) SELECT {columns} FROM {given(sent)} g {absent}; SELECT @@ROWCOUNT",
                [text_of(rows)],
            )
            return
        # In their order, for their numbers tell which of two at the same time came first.
        row = f"({', '.join('?' * (1 + len(self.types)))})"
        for part in batched(zip(count(), *values), PARAMETERS // (1 + len(self.types))):
            source = f"(VALUES {', '.join([row] * len(part))}) g (n, {names})"
            yield (
                f"INSERT INTO {self.relation} ({names}) SELECT {names} FROM {source} {absent} ORDER BY n; SELECT @@ROWCOUNT",
                list(chain.from_iterable(part)),
            )

    def _encoded(self, sent: Mapping[str, str], values: Values) -> Iterator[list[Any]]:
        """These columns with floats as their bits; raises RowsRefused where a number is none."""
        named = dict(zip(self.types, values, strict=True))
        for name, kind in sent.items():
            if kind != FLOAT:
                yield named[name]
                continue
            numbers = np.array(named[name], dtype=np.float64)
            if not np.isfinite(numbers).all():
                raise RowsRefused(f"{name}: SQL Server has no NaN and no infinity")
            yield bits_of(numbers).tolist()

    def identities(self, values: Values) -> list[tuple[Any, ...]]:
        """What tells each row from the others."""
        names = list(self.types)
        return list(zip(*(values[names.index(name)] for name in self.identity), strict=True))


def given(types: Mapping[str, str], number: str = "") -> str:
    """A JSON text of rows as a relation: an array of arrays, with a number before the columns if it has a name.

    A float is the integer that its bits are, which `float_of` makes a number again: no server is asked to read it from
    decimals, and each is kept bit for bit.
    """
    named = ({number: INT} if number else {}) | dict(types)
    parts = (
        f"[{name}] {BIGINT if kind == FLOAT else kind} '$[{index}]'"
        for index, (name, kind) in enumerate(named.items())
    )
    return f"OPENJSON(?) WITH ({', '.join(parts)})"


def batched(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    """So many rows at a time."""
    left = iter(rows)
    while part := list(islice(left, size)):
        yield part


def text_of(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as the JSON text that `given` reads."""
    return orjson.dumps(list(rows)).decode()


def float_of(bits: str) -> str:
    """The expression for the number whose bits, as `bits_of` gives them, an expression is.

    Whole digits, of which a float holds each, times a power of two, which is exact.
    """
    power = f"({bits} / {_POWERS})"
    digits = f"{bits} % {_POWERS} + SIGN({power}) * {_POWERS}"
    return f"CAST({digits} AS FLOAT) * POWER(CAST(2 AS FLOAT), ABS({power}) - ABS(SIGN({power})) - {-_LEAST_POWER})"


def bits_of(numbers: Floats) -> Ints:
    """The bits of numbers (n,) as integers, less than zero for those that are: -0.0 is 0.

    >>> bits_of(np.array([1.0, -1.0, 5e-324])).tolist()
    [4607182418800017408, -4607182418800017408, 1]
    """
    bits = np.abs(numbers).view(np.int64)
    return np.where(numbers < 0, -bits, bits)


def _selected(name: str, kind: str) -> str:
    """The expression for a column of what is given."""
    return float_of(f"g.[{name}]") if kind == FLOAT else f"g.[{name}]"


def _landmarks(offset: Ints) -> list[int | None]:
    """Every 64th offset, by which a replay finds where its range's rows begin; there is no index on all of them."""
    return [number if number % 64 == 0 else None for number in offset.tolist()]


def _quoted(names: Iterable[str]) -> list[str]:
    return [f"[{name}]" for name in names]


def _transposed(rows: list[tuple[object, ...]]) -> Values:
    return tuple(list(column) for column in zip(*rows, strict=True))


def _types(names: tuple[str, ...], *kinds: str) -> dict[str, str]:
    return dict(zip(names, kinds, strict=True))


_NOTIFICATIONS = (
    "source",
    *("event_id" if name == "source_event_id" else name for name in columns.NOTIFICATIONS),
)

READINGS = Form(
    "readings",
    "dbo.sensor_readings",
    _types(
        (*columns.READINGS, "kafka_landmark"), BIGINT, FLOAT, TIME, TIME, BIGINT, BIGINT, INT, BIGINT, BIGINT
    ),
    ("dedupe_ms", "reading_key"),
    lambda rows, ids, _: (*columns.reading_columns(rows, ids, NAIVE), _landmarks(rows.offset)),
    uncompared=("kafka_partition", "kafka_offset", "kafka_landmark"),
    derived={"kafka_landmark": "CASE WHEN g.[kafka_offset] % 64 = 0 THEN g.[kafka_offset] END"},
)
PREDICTIONS = Form(
    "predictions",
    "dbo.predictions",
    _types(columns.PREDICTIONS, BIGINT, BIGINT, FLOAT, FLOAT, TIME, TIME, INT, FLOAT, FLOAT, FLOAT),
    ("sensor_id", "target_timestamp", "model_id", "predicted_at"),
    lambda rows, ids, models: columns.prediction_columns(rows, ids, models, NAIVE),
    rewrite="explanation = NULL",  # it explained another score; the job that explains writes it anew
)
EVENTS = Form(
    "events",
    "dbo.ml_events",
    _types(columns.EVENTS, CODE, BIGINT, CODE, CODE, TEXT, TEXT, TEXT, CODE, CODE, CODE, TIME, TEXT),
    ("event_id",),
    lambda rows, ids, _: _transposed(columns.event_rows(rows, ids, NAIVE)),
    text=True,
    uncompared=("status",),
    # One that was withdrawn stands again; whether it is active, the sensor's last event tells.
    rewrite="status = CASE status WHEN N'superseded' THEN N'resolved' ELSE status END",
)
NOTIFICATIONS = Form(
    "notifications",
    "dbo.alert_notifications",
    # Here source_event_id is the event's number, which `rows.refer` finds by its id.
    _types(_NOTIFICATIONS, CODE, CODE, CODE, BIGINT, CODE, TEXT, TEXT, TIME),
    ("notification_id",),
    lambda rows, ids, _: _transposed(
        [("ml_event", *row) for row in columns.notification_rows(rows, ids, NAIVE)]
    ),
    text=True,
)
WINDOWS = Form(
    "windows",
    "dbo.sensor_windows",
    _types(columns.WINDOWS, BIGINT, INT, TIME, BIGINT, *[FLOAT] * 7, BIGINT, BIGINT, INT),
    ("window_start", "size_ms", "sensor_id"),
    lambda rows, ids, _: columns.window_columns(rows, ids, NAIVE),
)

TRIAL_EVENTS = Form(
    "trial_events",
    "dbo.trial_events",
    _types(columns.TRIAL_EVENTS, CODE, CODE, INT, TIME, BIGINT, CODE, CODE, CODE, TEXT, TIME, TEXT),
    ("event_id",),
    lambda rows, ids, _: _transposed(columns.trial_rows(rows, ids, NAIVE)),
    text=True,
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


def form_of(rows: Columns) -> Form:
    """The table of these rows."""
    return _FORMS[type(rows)]


def forms(batch: Batch) -> list[tuple[Form, Columns]]:
    """The tables of a batch, in its order."""
    return [(form_of(rows), rows) for rows in batch.tables()]
