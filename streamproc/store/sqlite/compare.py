"""Compares recomputed rows with those in SQLite. Writes nothing but temporary tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

import numpy as np
import orjson

from streamproc.store import landmarks
from streamproc.store.columns import model_row
from streamproc.store.comparison import TABLES, Compared, Extra, Extras, Given, Scope
from streamproc.store.protocol import Batch, Columns, take
from streamproc.store.scopes import PAGE, Strange, sensor_rows, span_rows
from streamproc.store.sqlite.forms import BY_NAME, Form, Ids, forms, window_parameters
from streamproc.store.sqlite.sensors import PARAMETERS, Sensors
from streamproc.store.stamps import iso, stamp_of

#: Rows are looked up all over the file, and its pages need not be copied for that. The most that SQLite maps by default.
_MAPPED_BYTES = 2_147_418_112

# An event of a reading belongs to the reading's record; one of a window to when the window closed; a silence is told later
# than the reading before it.
_EVENT_IN_SCOPE = """(json_valid(e.payload) AND CASE
    WHEN json_extract(e.payload, '$.lineage.window.start') IS NOT NULL
    THEN e.created_at > s.low AND e.created_at <= s.high
    ELSE EXISTS (SELECT 1 FROM temp.scope_places p WHERE p.partition = json_extract(e.payload, '$.lineage.partition')
        AND json_extract(e.payload, '$.lineage.first_offset') >= p.first
        AND json_extract(e.payload, '$.lineage.first_offset') < p.end
        AND (e.event_code <> 'silence' OR e.created_at <= p.clock))
    END)"""

# CROSS JOIN has SQLite take the tables in this order.
_CLAIMED = {
    "readings": """SELECT r.id FROM sensor_readings r CROSS JOIN temp.scope_places p
        ON p.partition = r.kafka_partition AND r.kafka_offset >= p.first AND r.kafka_offset < p.end
        WHERE r.id >= :first_row
        AND (:all OR r.sensor_id IN (SELECT sensor_id FROM temp.scope_only))""",
    "predictions": """SELECT r.id FROM temp.scope_sensors s CROSS JOIN predictions r ON r.sensor_id = s.sensor_id
        AND r.target_timestamp > s.target_low AND r.target_timestamp <= s.target_high AND r.model_id = s.model_id
        AND r.predicted_at > s.low AND r.predicted_at <= s.high""",
    "windows": """SELECT r.sensor_id, r.size_ms, CAST(strftime('%s', r.window_start) AS INTEGER)
        FROM temp.scope_windows s CROSS JOIN sensor_windows r ON r.sensor_id = s.sensor_id AND r.size_ms = s.size_ms
        AND r.window_start > s.low AND r.window_start <= s.high""",
    "events": f"""SELECT e.id FROM temp.scope_sensors s CROSS JOIN ml_events e ON e.sensor_id = s.sensor_id
        AND e.created_at >= s.low AND e.created_at <= s.newest
        WHERE e.event_type = 'severity_change' AND e.status <> 'superseded' AND {_EVENT_IN_SCOPE}""",  # noqa: S608  # the constant above
    # Of a notification whose event is not there only the time is known. One of a superseded event is history. One without a
    # change, of whose kind its id tells, has the partition's time, which the range does not know: none is taken for extra.
    "notifications": f"""SELECT r.id FROM alert_notifications r CROSS JOIN temp.scope_sensors s
        ON s.sensor_id = r.sensor_id AND r.created_at >= s.low AND r.created_at <= s.newest
        LEFT JOIN ml_events e ON e.event_id = r.source_event_id
        WHERE r.source = 'ml_event' AND r.notification_id NOT LIKE '%-%' AND CASE WHEN e.id IS NULL
        THEN r.created_at > s.low AND r.created_at <= s.high
        ELSE e.status <> 'superseded' AND {_EVENT_IN_SCOPE} END""",  # noqa: S608  # as above
}

# The condition is that of the index sensor_readings_landmarks.
_BEFORE = """SELECT min(id), max(id) FROM (SELECT id FROM sensor_readings
    WHERE kafka_offset % 64 = 0 AND kafka_partition = ? AND kafka_offset < ? ORDER BY kafka_offset DESC LIMIT ?)"""
#: The first row of the records from one offset to another of a partition, as landmarks tell it.
INSIDE = """SELECT min(id) FROM sensor_readings
    WHERE kafka_offset % 64 = 0 AND kafka_partition = ? AND kafka_offset >= ? AND kafka_offset < ?"""


def compare(
    connection: sqlite3.Connection, batch: Batch, sensors: Sensors, models: Ids
) -> dict[str, Compared]:
    """How the rows of each table of the batch stand in the database."""
    connection.execute(f"PRAGMA mmap_size = {_MAPPED_BYTES}")
    connection.execute("BEGIN")  # one snapshot; takes no lock that would keep a writer out
    try:
        ids = sensors.find(connection, batch)
        known = _models(connection, batch, models)
        compared = [(form, rows) for form, rows in forms(batch) if form.name in TABLES]
        return {form.name: _compare(connection, form, rows, ids, known) for form, rows in compared}
    finally:
        connection.execute("COMMIT")


def _models(connection: sqlite3.Connection, batch: Batch, models: Ids) -> Ids:
    """The ids of the models that the predictions name, -1 for one that is not there."""
    names = set(batch.predictions.model)
    for name in names - models.keys():
        query = "SELECT id FROM ml_models WHERE name = ? AND version = ?"
        found = connection.execute(query, model_row(name)).fetchone()
        if found:
            models[name] = found[0]
    return {name: models.get(name, -1) for name in names}


def _compare(connection: sqlite3.Connection, form: Form, rows: Columns, ids: Ids, models: Ids) -> Compared:
    number = np.zeros(len(rows), dtype=np.int64)
    unknown = np.zeros(len(rows), dtype=np.bool_)
    strangers = set(rows.sensor) - ids.keys()
    if strangers:
        unknown[:] = [sensor in strangers for sensor in rows.sensor]
    at = np.flatnonzero(~unknown)
    if not len(at):
        return Compared(number, unknown, {})
    given = f"temp.given_{form.name}"
    connection.execute(f"CREATE TABLE IF NOT EXISTS {given} ({', '.join(form.columns)})")
    connection.execute(f"DELETE FROM {given}")  # noqa: S608  # the names in forms
    places = ", ".join("?" * len(form.columns))
    ours = take(rows, at) if strangers else rows
    parameters = form.parameters(ours, ids, models)
    connection.executemany(f"INSERT INTO {given} VALUES ({places})", parameters)  # noqa: S608  # as above
    join = f"FROM {given} g LEFT JOIN {form.relation} r ON {form.same}"
    present = "coalesce(r.id, 0)" if form.numbers is None else f"({form.there} IS NOT NULL)"
    # One text of all numbers: a row of Python's for each costs three times as much.
    query = f"SELECT json_group_array(2 * {present} + {form.differs}) {join}"
    (text,) = connection.execute(query).fetchone()
    found = np.array(orjson.loads(text), dtype=np.int64)
    number[at] = found // 2 if form.numbers is None else found // 2 * form.numbers(ours, ids)
    differs = _differences(connection, form, join, at) if (found & 1).any() else {}
    return Compared(number, unknown, differs)


def _differences(
    connection: sqlite3.Connection, form: Form, join: str, at: np.ndarray[tuple[int], np.dtype[np.intp]]
) -> dict[int, dict[str, tuple[object, object]]]:
    """The columns that differ of each row that does, by index."""
    names = [*form.compared, *(["status"] if form.void != "0" else [])]
    theirs, ours = (", ".join(f"{side}.{name}" for name in names) for side in "rg")
    query = f"SELECT g.rowid, {theirs}, {ours} {join} WHERE {form.differs}"
    found = {}
    for rowid, *values in connection.execute(query):
        pairs = zip(names, values[: len(names)], values[len(names) :], strict=True)
        changed = {name: (stored, given) for name, stored, given in pairs if stored != given}
        if changed.get("status", ("superseded",))[0] != "superseded":
            del changed["status"]  # an event's own depends on those after it
        found[int(at[rowid - 1])] = changed
    return found


def extras(
    connection: sqlite3.Connection,
    name: str,
    scopes: Sequence[Scope],
    only: Sequence[str] | None,
    given: Given,
    limit: int,
) -> Extras:
    """The table's rows that belong to the scopes but were not given; `only` names the sensors that count."""
    _scope(connection, scopes, only)
    asked = {"all": only is None, "first_row": first_row(connection, scopes) if name == "readings" else 0}
    cursor = connection.execute(_CLAIMED[name], asked)
    strange = Strange(given, limit)
    while page := cursor.fetchmany(PAGE):
        strange.look(page)
    return Extras(strange.count, list(_described(connection, BY_NAME[name], strange.numbers)))


def first_row(connection: sqlite3.Connection, scopes: Sequence[Scope]) -> int:
    """A row number that no reading of the scopes is below; 0 where that cannot be told."""
    ranges = []
    for scope in scopes:
        before = connection.execute(_BEFORE, (scope.partition, scope.begin, landmarks.BEFORE)).fetchone()
        inside = connection.execute(INSIDE, (scope.partition, scope.begin, scope.end)).fetchone()
        ranges.append(landmarks.Landmarks(*before, *inside))
    return landmarks.first_row(ranges)


def _scope(connection: sqlite3.Connection, scopes: Sequence[Scope], only: Sequence[str] | None) -> None:
    """Put the scopes where queries can join them."""
    connection.execute("DROP TABLE IF EXISTS temp.scope_places")
    connection.execute("DROP TABLE IF EXISTS temp.scope_sensors")
    connection.execute("DROP TABLE IF EXISTS temp.scope_only")
    connection.execute("DROP TABLE IF EXISTS temp.scope_windows")
    connection.execute(
        "CREATE TABLE temp.scope_windows (sensor_id INTEGER, size_ms INTEGER, low TEXT, high TEXT)"
    )
    connection.execute(
        "CREATE TABLE temp.scope_places (partition INTEGER PRIMARY KEY, first INTEGER, end INTEGER, clock TEXT)"
    )
    connection.execute("CREATE TABLE temp.scope_only (sensor_id INTEGER PRIMARY KEY)")
    connection.execute(
        "CREATE TABLE temp.scope_sensors (sensor_id INTEGER, low TEXT, high TEXT, newest TEXT, target_low TEXT,"
        " target_high TEXT, model_id INTEGER)"
    )
    places = ((scope.partition, scope.begin, scope.end, stamp_of(scope.clock)) for scope in scopes)
    connection.executemany("INSERT INTO temp.scope_places VALUES (?, ?, ?, ?)", places)
    ids = dict(connection.execute("SELECT uuid, id FROM sensors"))
    wanted = {ids[sensor] for sensor in only or () if sensor in ids}
    connection.executemany("INSERT INTO temp.scope_only VALUES (?)", ((number,) for number in wanted))
    for scope in scopes:
        query = "SELECT id FROM ml_models WHERE name = ? AND version = ?"
        model = connection.execute(query, model_row(scope.model)).fetchone()
        rows = sensor_rows(scope, ids, model[0] if model else -1, iso)
        connection.executemany("INSERT INTO temp.scope_sensors VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        connection.executemany(
            "INSERT INTO temp.scope_windows VALUES (?, ?, ?, ?)", span_rows(scope, ids, iso)
        )


def _described(connection: sqlite3.Connection, form: Form, numbers: Sequence[int]) -> Iterator[Extra]:
    if form.numbers is not None:
        yield from _windows_described(connection, numbers)
        return
    for begin in range(0, len(numbers), PARAMETERS):
        part = numbers[begin : begin + PARAMETERS]
        query = (
            f"SELECT s.uuid, r.* FROM {form.relation} r JOIN sensors s ON s.id = r.sensor_id"  # noqa: S608
            f" WHERE r.id IN ({', '.join('?' * len(part))}) ORDER BY r.id"
        )
        cursor = connection.execute(query, part)
        names = [column[0] for column in cursor.description]
        for row in cursor:
            columns = dict(zip(names[1:], row[1:], strict=True))
            yield Extra(int(columns["id"]), row[0], columns)


def _windows_described(connection: sqlite3.Connection, numbers: Sequence[int]) -> Iterator[Extra]:
    query = (
        "SELECT s.uuid, r.* FROM sensor_windows r JOIN sensors s ON s.id = r.sensor_id"
        " WHERE r.sensor_id = ? AND r.size_ms = ? AND r.window_start = ?"
    )
    for number, key in zip(numbers, window_parameters(numbers), strict=True):
        cursor = connection.execute(query, key)
        names = [column[0] for column in cursor.description]
        for row in cursor:
            yield Extra(number, row[0], dict(zip(names[1:], row[1:], strict=True)))
