"""Compares recomputed rows with those in SQL Server. Writes nothing.

The rows are fetched by their identities and compared here: floats come back bit for bit, and what a column of another type
cannot hold is no difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from streamproc.store import landmarks
from streamproc.store.columns import model_row
from streamproc.store.comparison import TABLES, Compared, Extra, Extras, Given, Scope
from streamproc.store.protocol import Batch, Columns, WindowColumns, take
from streamproc.store.scopes import PAGE, Strange, sensor_rows, span_rows
from streamproc.store.sqlserver.forms import (
    BIGINT,
    BY_NAME,
    EVENTS,
    INT,
    READINGS,
    TIME,
    WINDOWS,
    Form,
    Ids,
    Values,
    forms,
    given,
    naive,
    text_of,
)
from streamproc.store.sqlserver.overwrite import window_rows
from streamproc.store.sqlserver.precision import Alike, alike, plain
from streamproc.store.sqlserver.rows import FIND_MODEL
from streamproc.store.sqlserver.sensors import Sensors
from streamproc.store.window_numbers import window_numbers

#: Where a reading's partition and offset are among its columns.
_PLACE = slice(6, 8)
_BEFORE = (
    f"SELECT MIN(id), MAX(id) FROM (SELECT TOP ({landmarks.BEFORE}) id FROM dbo.sensor_readings"
    " WHERE kafka_partition = ? AND kafka_landmark < ? ORDER BY kafka_landmark DESC) l"
)
_INSIDE = "SELECT MIN(id) FROM dbo.sensor_readings WHERE kafka_partition = ? AND kafka_landmark >= ? AND kafka_landmark < ?"
#: A column that is compared: its place, its name, and when values that are not equal are the same all the same.
_Column = tuple[int, str, Alike | None]

_PLACES = given({"place": INT, "first": BIGINT, "last": BIGINT, "clock": TIME})
_ONLY = given({"sensor_id": BIGINT})
_SENSORS = given(
    {
        "sensor_id": BIGINT,
        "low": TIME,
        "high": TIME,
        "newest": TIME,
        "target_low": TIME,
        "target_high": TIME,
        "model_id": BIGINT,
    }
)
_SPANS = given({"sensor_id": BIGINT, "size_ms": INT, "low": TIME, "high": TIME})

# An event of a reading belongs to the reading's record; one of a window to when the window closed; a silence is told later
# than the reading before it.
_EVENT_IN_SCOPE = f"""(ISJSON(e.payload) = 1 AND (
    (JSON_VALUE(e.payload, '$.lineage.window.start') IS NOT NULL AND e.created_at > s.low AND e.created_at <= s.high)
    OR (JSON_VALUE(e.payload, '$.lineage.window.start') IS NULL AND EXISTS (SELECT 1 FROM {_PLACES} p
        WHERE p.place = CAST(JSON_VALUE(e.payload, '$.lineage.partition') AS INT)
        AND CAST(JSON_VALUE(e.payload, '$.lineage.first_offset') AS BIGINT) >= p.first
        AND CAST(JSON_VALUE(e.payload, '$.lineage.first_offset') AS BIGINT) < p.last
        AND (e.event_code <> N'silence' OR e.created_at <= p.clock)))))"""

#: Each table's rows that belong to the scopes, and the parameters of the query by name.
_CLAIMED: dict[str, tuple[str, tuple[str, ...]]] = {
    "readings": (
        f"""SELECT r.id FROM {_PLACES} p JOIN dbo.sensor_readings r
        ON r.kafka_partition = p.place AND r.kafka_offset >= p.first AND r.kafka_offset < p.last
        WHERE r.id >= ? AND (? = 1 OR r.sensor_id IN (SELECT sensor_id FROM {_ONLY}))""",
        ("places", "first_row", "all", "only"),
    ),
    "predictions": (
        f"""SELECT r.id FROM {_SENSORS} s JOIN dbo.predictions r ON r.sensor_id = s.sensor_id
        AND r.target_timestamp > s.target_low AND r.target_timestamp <= s.target_high AND r.model_id = s.model_id
        AND r.predicted_at > s.low AND r.predicted_at <= s.high""",
        ("sensors",),
    ),
    "windows": (
        f"""SELECT r.sensor_id, r.size_ms, DATEDIFF(SECOND, CAST('1970-01-01' AS DATETIME2(6)), r.window_start)
        FROM {_SPANS} s JOIN dbo.sensor_windows r ON r.sensor_id = s.sensor_id AND r.size_ms = s.size_ms
        AND r.window_start > s.low AND r.window_start <= s.high""",
        ("spans",),
    ),
    "events": (
        f"""SELECT e.id FROM {_SENSORS} s JOIN dbo.ml_events e ON e.sensor_id = s.sensor_id
        AND e.created_at >= s.low AND e.created_at <= s.newest
        WHERE e.event_type = N'severity_change' AND e.status <> N'superseded' AND {_EVENT_IN_SCOPE}""",
        ("sensors", "places"),
    ),
    # Of a notification whose event is not there only the time is known. One of a superseded event is history. One without a
    # change, of whose kind its id tells, has the partition's time, which the range does not know: none is taken for extra.
    "notifications": (
        f"""SELECT r.id FROM {_SENSORS} s JOIN dbo.alert_notifications r
        ON s.sensor_id = r.sensor_id AND r.created_at >= s.low AND r.created_at <= s.newest
        LEFT JOIN dbo.ml_events e ON e.event_id = r.event_id
        WHERE r.source = N'ml_event' AND r.notification_id NOT LIKE N'%-%' AND (
            (e.id IS NULL AND r.created_at > s.low AND r.created_at <= s.high)
            OR (e.status <> N'superseded' AND {_EVENT_IN_SCOPE}))""",
        ("sensors", "places"),
    ),
}


async def compare(cursor: Any, batch: Batch, sensors: Sensors, models: Ids) -> dict[str, Compared]:
    """How the rows of each table of the batch stand in the database."""
    ids = await sensors.find(cursor, batch)
    known = await _models(cursor, set(batch.predictions.model), models)
    compared = [(form, rows) for form, rows in forms(batch) if form.name in TABLES]
    return {form.name: await _compare(cursor, form, rows, (ids, known)) for form, rows in compared}


async def _models(cursor: Any, names: set[str], models: Ids) -> Ids:
    """The ids of these models, -1 for one that is not there."""
    for name in names - models.keys():
        await cursor.execute(FIND_MODEL, *model_row(name))
        (number,) = await cursor.fetchone()
        if number is not None:
            models[name] = number
    return {name: models.get(name, -1) for name in names}


async def _compare(cursor: Any, form: Form, rows: Columns, known: tuple[Ids, Ids]) -> Compared:
    number = np.zeros(len(rows), dtype=np.int64)
    strangers = set(rows.sensor) - known[0].keys()
    unknown = np.array([sensor in strangers for sensor in rows.sensor], dtype=np.bool_)
    at = np.flatnonzero(~unknown)
    if not len(at):
        return Compared(number, unknown, {})
    ours = take(rows, at) if strangers else rows
    values = form.values(ours, *known)
    there, compared = await _there(cursor, form, values)
    if not there:
        return Compared(number, unknown, {})
    index = np.array([row[0] for row in there], dtype=np.intp)
    if isinstance(ours, WindowColumns):
        sensor_id = np.array(values[0], dtype=np.int64)
        number[at[index]] = window_numbers(sensor_id, ours.size_ms, ours.start)[index]
    else:
        number[at[index]] = [row[1] for row in there]
    return Compared(
        number, unknown, {int(at[i]): changed for i, changed in _differences(form, values, there, compared)}
    )


async def _there(cursor: Any, form: Form, values: Values) -> tuple[list[Any], list[_Column]]:
    """Of each given row that is there: its index, its number (NULL for a window), and its columns; and those to compare."""
    names = [f"r.[{name}]" for name in form.types]
    number = "NULL" if form is WINDOWS else "r.id"
    source = given({name: form.types[name] for name in form.identity}, "n")
    query = f"SELECT g.n, {number}, {', '.join(names)} FROM {source} g JOIN {form.relation} r ON {form.same} ORDER BY g.n"
    given_rows = ((index, *identity) for index, identity in enumerate(form.identities(values)))
    await cursor.execute(query, text_of(given_rows))
    columns = dict(zip(form.types, cursor.description[2:], strict=True))
    compared = [(at, name, alike(columns[name])) for at, name in enumerate(columns) if name in form.compared]
    return list(await cursor.fetchall()), compared


def _differences(
    form: Form, values: Values, there: list[Any], compared: list[_Column]
) -> Iterator[tuple[int, dict[str, tuple[object, object]]]]:
    """The columns that differ of each row that does: (the database's, ours)."""
    names = list(form.types)
    for index, _, *theirs in there:
        ours = [column[index] for column in values]
        changed = {
            name: (plain(theirs[at]), plain(ours[at]))
            for at, name, same in compared
            if theirs[at] != ours[at] and not (same and same(theirs[at], ours[at]))
        }
        if form is READINGS and not _is_same_record(theirs, ours):
            continue
        if form is EVENTS and (status := theirs[names.index("status")]) == "superseded":
            changed["status"] = (status, ours[names.index("status")])
        if changed:
            yield index, changed


def _is_same_record(theirs: Sequence[Any], ours: Sequence[Any]) -> bool:
    """Whether a reading there is of the same record; a retry is the row of the one that came first, with that one's times."""
    there, given_place = (row[_PLACE] for row in (theirs, ours))
    return there[0] is None or there == given_place


async def extras(
    cursor: Any, name: str, scopes: Sequence[Scope], only: Sequence[str] | None, were_given: Given, limit: int
) -> Extras:
    """The table's rows that belong to the scopes but were not given; `only` names the sensors that count."""
    query, parameters = _CLAIMED[name]
    scope = await _scope(cursor, scopes, only)
    await cursor.execute(query, *(scope[parameter] for parameter in parameters))
    strange = Strange(were_given, limit)
    while page := await cursor.fetchmany(PAGE):
        strange.look(page)
    return Extras(
        strange.count, [extra async for extra in _described(cursor, BY_NAME[name], strange.numbers)]
    )


async def _scope(cursor: Any, scopes: Sequence[Scope], only: Sequence[str] | None) -> dict[str, object]:
    """The scopes as parameters of the queries."""
    await cursor.execute("SELECT uuid, id FROM dbo.sensors")
    ids: Ids = dict(map(tuple, await cursor.fetchall()))
    sensors: list[Any] = []
    spans: list[Any] = []
    for scope in scopes:
        models = await _models(cursor, {scope.model}, {})
        sensors += sensor_rows(scope, ids, models[scope.model], naive)
        spans += span_rows(scope, ids, naive)
    wanted = sorted({ids[sensor] for sensor in only or () if sensor in ids})
    clocks = naive(np.array([scope.clock for scope in scopes], dtype=np.int64))
    places = [
        (scope.partition, scope.begin, scope.end, clock) for scope, clock in zip(scopes, clocks, strict=True)
    ]
    return {
        "first_row": await _first_row(cursor, scopes),
        "places": text_of(places),
        "all": int(only is None),
        "only": text_of([number] for number in wanted),
        "sensors": text_of(sensors),
        "spans": text_of(spans),
    }


async def _first_row(cursor: Any, scopes: Sequence[Scope]) -> int:
    """A row number that no reading of the scopes is below; 0 where that cannot be told."""
    ranges = []
    for scope in scopes:
        await cursor.execute(_BEFORE, scope.partition, scope.begin)
        before = await cursor.fetchone()
        await cursor.execute(_INSIDE, scope.partition, scope.begin, scope.end)
        ranges.append(landmarks.Landmarks(*before, *await cursor.fetchone()))
    return landmarks.first_row(ranges)


async def _described(cursor: Any, form: Form, numbers: Sequence[int]) -> Any:
    """The rows of these numbers."""
    if not numbers:
        return
    if form is WINDOWS:
        source = given({"n": BIGINT, "sensor_id": BIGINT, "size_ms": INT, "window_start": TIME})
        text = text_of((number, *key) for number, key in zip(numbers, window_rows(numbers), strict=True))
        same = form.same
    else:
        source, text, same = given({"n": BIGINT}), text_of([number] for number in numbers), "r.id = g.n"
    query = (
        f"SELECT g.n, s.uuid, r.* FROM {source} g JOIN {form.relation} r ON {same}"
        " JOIN dbo.sensors s ON s.id = r.sensor_id ORDER BY g.n"
    )
    await cursor.execute(query, text)
    names = [column[0] for column in cursor.description]
    for number, sensor, *columns in await cursor.fetchall():
        yield Extra(number, sensor, dict(zip(names[2:], map(plain, columns), strict=True)))
