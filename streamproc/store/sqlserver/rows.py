"""Writes a batch's rows to SQL Server, inside a transaction of the caller's.

Each table's rows are one statement, which passes over those that are already there. Arrays of parameters (fast_executemany)
are no quicker, and are many statements: after a fault in their midst XACT_ABORT has ended the transaction, and what follows
is outside of it.
"""

from __future__ import annotations

from itertools import compress
from typing import Any

import numpy as np

from streamproc.errors import StaleOwner
from streamproc.store.columns import model_metadata, model_row
from streamproc.store.protocol import Batch, EventColumns, Place, Reached, ReadingColumns, Written
from streamproc.store.sqlserver.forms import BIGINT, CODE, Form, Ids, Values, forms, given, naive, text_of
from streamproc.store.sqlserver.sensors import Sensors

#: The number of a model by name and version. Those of the reference's programs are each for one sensor.
FIND_MODEL = "SELECT MIN(id) FROM dbo.ml_models WHERE model_name = ? AND version = ? AND sensor_id IS NULL"
_ADD_MODEL = (
    "INSERT INTO dbo.ml_models (model_name, model_type, version, is_active, trained_at, metadata)"
    " SELECT ?, N'streaming', ?, 1, SYSUTCDATETIME(), CAST(? AS NVARCHAR(MAX)) WHERE NOT EXISTS"
    " (SELECT 1 FROM dbo.ml_models WITH (UPDLOCK, HOLDLOCK) WHERE model_name = ? AND version = ? AND sensor_id IS NULL);"
    " SELECT @@ROWCOUNT"
)
# Of a model's versions the highest: a worker of an older one may go on for a while beside it.
_ACTIVE_MODEL = (
    "UPDATE dbo.ml_models SET is_active = CASE WHEN COALESCE(TRY_CAST(version AS INT), 0) ="
    " (SELECT MAX(COALESCE(TRY_CAST(m.version AS INT), 0)) FROM dbo.ml_models m"
    " WHERE m.model_name = ? AND m.sensor_id IS NULL) THEN 1 ELSE 0 END WHERE model_name = ? AND sensor_id IS NULL"
)

#: For programs that look into `sensor_readings_latest`.
_LATEST = "EXEC dbo.streamproc_set_latest @p_latest_json = ?"
#: For programs that look into `alerts`: what the engine judges, the trigger passes over.
ALERTS = "EXEC dbo.streamproc_set_alerts @p_events_json = ?"
_MOVE = (
    "UPDATE dbo.stream_offsets SET next_offset = ?, registry_position = CAST(? AS BIGINT)"
    " WHERE consumer_group = ? AND topic = ? AND [partition] = ? AND next_offset = ?; SELECT @@ROWCOUNT"
)
_BEGIN = (
    "INSERT INTO dbo.stream_offsets (consumer_group, topic, [partition], next_offset, registry_position)"
    " SELECT ?, ?, ?, ?, CAST(? AS BIGINT)"
    " WHERE NOT EXISTS (SELECT 1 FROM dbo.stream_offsets WITH (UPDLOCK, HOLDLOCK)"
    " WHERE consumer_group = ? AND topic = ? AND [partition] = ?); SELECT @@ROWCOUNT"
)
# By their own ids: a sensor without a device may have any number of events from before, which all would be written again.
_DEVICES = (
    "UPDATE dbo.ml_events SET device_id = (SELECT s.device_id FROM dbo.sensors s WHERE s.id = dbo.ml_events.sensor_id)"
    f" WHERE device_id IS NULL AND event_id IN (SELECT event_id FROM {given({'event_id': CODE})})"
)
_SOURCES = (
    "UPDATE dbo.alert_notifications SET source_event_id ="
    " (SELECT e.id FROM dbo.ml_events e WHERE e.event_id = dbo.alert_notifications.event_id)"
    f" WHERE source_event_id IS NULL AND event_id IN (SELECT event_id FROM {given({'event_id': CODE})})"
)
# Of a sensor's events the last one that stands tells its state, by time, and by number where two have the same. Events of
# other types are other programs': they end none of these, and are ended by none. A status that an index is asked for is no
# NVARCHAR: beside one, a VARCHAR column, which other programs have there, is converted row by row under some collations.
_RESOLVE = (
    "UPDATE dbo.ml_events SET status = N'resolved' WHERE status = 'active' AND event_type = N'severity_change'"
    f" AND sensor_id IN (SELECT sensor_id FROM {given({'sensor_id': BIGINT})})"
    " AND id <> (SELECT TOP (1) n.id FROM dbo.ml_events n WHERE n.sensor_id = dbo.ml_events.sensor_id"
    " AND n.event_type = N'severity_change' AND n.status <> N'superseded' ORDER BY n.created_at DESC, n.id DESC)"
)


async def reached(cursor: Any, group: str) -> dict[Place, Reached]:
    """The next offset of each partition that the group has written, and the registry's position there."""
    await cursor.execute(
        "SELECT topic, [partition], next_offset, COALESCE(registry_position, -1) FROM dbo.stream_offsets"
        " WHERE consumer_group = ?",
        group,
    )
    return {(topic, partition): Reached(*told) for topic, partition, *told in await cursor.fetchall()}


async def advance(cursor: Any, batch: Batch) -> None:
    """Move the offsets on; raises StaleOwner where one is not what the batch expects.

    In one order for all: two sinks that have the same partitions then wait for one another, and do not block each other.
    """
    for (topic, partition), (expected, following) in sorted(batch.offsets.items()):
        place, judged_by = (batch.group, topic, partition), batch.registry.get((topic, partition))
        if expected is None:
            await cursor.execute(_BEGIN, *place, following, judged_by, *place)
        else:
            await cursor.execute(_MOVE, following, judged_by, *place, expected)
        (moved,) = await cursor.fetchone()
        if moved != 1:
            raise StaleOwner(f"{topic}/{partition}: the database does not hold {expected} as its next offset")


async def write(cursor: Any, batch: Batch, sensors: Sensors, models: Ids) -> Written:
    """Insert the rows that are not there yet."""
    ids = await sensors.resolve(cursor, batch)
    await add_models(cursor, batch, models)
    counts = {}
    for form, rows in forms(batch):
        counts[form.name] = await insert(cursor, form, form.values(rows, ids, models)) if len(rows) else 0
    if len(batch.events):
        await settle(cursor, batch.events, ids)
    await refer(cursor, batch)
    # Last, as by the trigger that judges other writers' readings: in another order the two would block each other.
    if len(batch.readings):
        await cursor.execute(_LATEST, latest(batch.readings, ids))
    return Written(**counts)


def latest(rows: ReadingColumns, ids: Ids) -> str:
    """The newest reading of each sensor as the procedure takes it."""
    newest = {rows.sensor[index]: index for index in np.argsort(rows.ts, kind="stable").tolist()}
    at = np.array(list(newest.values()), dtype=np.intp)
    return text_of(
        zip([ids[sensor] for sensor in newest], rows.value[at].tolist(), naive(rows.ts[at]), strict=True)
    )


async def insert(cursor: Any, form: Form, values: Values) -> int:
    """Insert the rows that are not there, the first of each identity; how many they were."""
    identities = form.identities(values)
    if len(set(identities)) < len(identities):
        first = {identity: number for number, identity in reversed(list(enumerate(identities)))}
        once = [first[identity] == number for number, identity in enumerate(identities)]
        values = tuple(list(compress(column, once)) for column in values)
    inserted = 0
    for statement, parameters in form.inserts(values):
        await cursor.execute(statement, *parameters)
        (count,) = await cursor.fetchone()
        inserted += count
    return inserted


async def settle(cursor: Any, rows: EventColumns, ids: Ids) -> None:
    """Give these events their sensors' devices and alerts, and end those of the sensors that a later one follows."""
    text = text_of([event.event_id] for event in rows.event)
    await cursor.execute(_DEVICES, text)
    await cursor.execute(_RESOLVE, text_of([number] for number in sorted({ids[key] for key in rows.sensor})))
    await cursor.execute(ALERTS, text)


async def refer(cursor: Any, batch: Batch) -> None:
    """Have notifications name their event's number, whichever of the two came first."""
    told = {row.event_id for row in batch.notifications.notification}
    events = sorted(told | {event.event_id for event in batch.events.event})
    if events:
        await cursor.execute(_SOURCES, text_of([event] for event in events))


async def add_models(cursor: Any, batch: Batch, models: Ids) -> None:
    """Put the ids of the models that the batch names into `models`; one that is new gets its row in `ml_models`."""
    for name in set(batch.predictions.model) - models.keys():
        models[name] = await _model_id(cursor, name)


async def _model_id(cursor: Any, model: str) -> int:
    row = model_row(model)
    await cursor.execute(_ADD_MODEL, *row, model_metadata(model), *row)
    (new,) = await cursor.fetchone()
    if new:
        await cursor.execute(_ACTIVE_MODEL, *row[:1] * 2)
    await cursor.execute(FIND_MODEL, *row)
    number: int
    (number,) = await cursor.fetchone()
    return number
