"""The store on a database of the reference system, whose columns hold less than a new one's."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec.structs import replace as replace_field

from streamproc.records import Range, Severity
from streamproc.registry.thresholds import taken_over
from streamproc.store.protocol import Batch
from streamproc.store.sqlserver.connections import connect
from streamproc.store.sqlserver.migrations import LIMITS, migrate
from streamproc.store.sqlserver.store import SqlServerStore
from tests.store.builders import (
    GROUP,
    PLACE,
    event,
    events,
    notification,
    notifications,
    predictions,
    readings,
    save_entries,
    windows,
)
from tests.store.databases import SqlServer
from tests.store.test_compare import nothing, scope
from tests.store.tsql import dsn, made_database, on_a_server
from tests.store.tsql_database import Database, reference_text

pytestmark = on_a_server

#: What has no five decimal places: such values are rounded there.
LONG, NEGATIVE, SMALL = 20.123456789, -1234567.8901234, 4e-6


@pytest.fixture
async def existing() -> AsyncIterator[SqlServer]:
    """The reference's database, migrated."""
    async with migrated({}) as database:
        yield database


@asynccontextmanager
async def migrated(changes: Mapping[str, str]) -> AsyncIterator[SqlServer]:
    """The reference's database with other texts for some of its own, migrated."""
    async with made_database() as name:
        with closing(Database(name)) as before:
            for text in reference_text(before, changes):
                before.run(text)
        link = await connect(dsn(database=name), "the test's database", LIMITS)
        try:
            await migrate(link.connection)
        finally:
            await link.close()
        with closing(SqlServer(name)) as database:
            yield database


@pytest.fixture
async def store(existing: SqlServer) -> AsyncIterator[SqlServerStore]:
    """An open store that registers what it does not know."""
    opened = existing.store()
    await opened.open()
    yield opened
    await opened.close()


def whole() -> Batch:
    """Rows of every table, with values that are longer than the columns there."""
    raised = event("a", Severity.CRITICAL, Severity.NORMAL)
    made = predictions(("a", LONG, 1_000), ("b", NEGATIVE, 1_000))
    made.confidence[:] = 0.123456
    return Batch(
        GROUP,
        {PLACE: (None, 9)},
        readings(("a", LONG, 1), ("b", NEGATIVE, 2), ("a", SMALL, 3)),
        made,
        events(raised),
        notifications(notification("a", raised.event_id)),
        windows(("a", LONG, 0)),
    )


async def test_what_a_column_rounds_is_no_difference(store: SqlServerStore) -> None:
    """Rows as they were written are as they should be, whatever the columns have made of them."""
    await store.write(whole())
    compared = await store.compare(whole())
    assert {name: rows.differs for name, rows in compared.items()} == {name: {} for name in compared}
    assert not any(rows.missing.any() for rows in compared.values())


async def test_the_last_place_that_a_column_has_counts(existing: SqlServer, store: SqlServerStore) -> None:
    """A value that somebody has changed by it is told, as a number, and mended once."""
    await store.write(whole())
    existing.execute(
        "UPDATE sensor_readings SET value = value + 0.00001 WHERE dedupe_ms IS NOT NULL AND value > 20"
    )
    existing.execute("UPDATE predictions SET confidence = 0.1236 WHERE confidence = 0.1235")
    compared = await store.compare(whole())
    assert compared["readings"].differs == {0: {"value": (20.12347, LONG)}}
    assert compared["predictions"].differs == {
        index: {"confidence": (0.1236, 0.123456)} for index in range(2)
    }
    await store.overwrite(whole())
    assert not any(rows.wrong.any() for rows in (await store.compare(whole())).values())
    query = "SELECT value FROM sensor_readings WHERE dedupe_ms IS NOT NULL ORDER BY id"
    assert [float(value) for (value,) in existing.rows(query)] == [20.12346, -1234567.89012, 0.0]


async def test_a_value_of_any_size_fits_widened_columns(existing: SqlServer, store: SqlServerStore) -> None:
    """All three that docs/sqlserver.md names: the newest reading and an alert hold it as well."""
    page = (Path(__file__).parents[2] / "docs" / "sqlserver.md").read_text("utf-8")
    (section,) = re.findall(r"## Precision of an existing database\n(.*?)\n## ", page, re.DOTALL)
    for statement in re.findall(r"^    (ALTER TABLE .*);$", section, re.MULTILINE):
        existing.execute(re.sub(" (NOT )?NULL$", "", statement))  # which not every server takes
    await store.write(Batch(GROUP, readings=readings(("a", 1e12, 1))))
    existing.execute("EXEC dbo.sp_insert_reading_and_check_threshold @p_sensor_id = 2, @p_value = 1e12")
    assert existing.rows("SELECT value FROM sensor_readings WHERE value > 1e11") == [(1e12,), (1e12,)]


async def test_rows_of_other_programs_are_not_extra(existing: SqlServer, store: SqlServerStore) -> None:
    """Those that were there before, and those that the procedure inserts, belong to no replay."""
    await store.write(whole())
    existing.execute("EXEC dbo.sp_insert_reading_and_check_threshold @p_sensor_id = 1, @p_value = 31")
    scopes = [scope(a=(-1, 1_000, 1_000), b=(-1, 1_000, 1_000))]
    found = {
        table: (await store.extras(table, scopes, None, nothing, 10)).rows
        for table in ("readings", "predictions", "events", "notifications", "windows")
    }
    assert {extra.sensor for rows in found.values() for extra in rows} == {"a", "b"}
    assert [extra.row["value"] for extra in found["readings"]] == [20.12346, -1234567.89012, 0.0]


async def test_an_alert_that_its_column_cannot_hold_costs_nothing_else(
    existing: SqlServer, store: SqlServerStore
) -> None:
    """The change of severity is stored, and alerts of others are raised."""
    huge, usual = (event(sensor, Severity.CRITICAL, Severity.NORMAL) for sensor in "ab")
    await store.write(Batch(GROUP, events=events(replace_field(huge, value=1e11), usual)))
    assert existing.rows("SELECT COUNT(*) FROM dbo.ml_events WHERE event_type = N'severity_change'") == [(2,)]
    assert existing.rows("SELECT event_id FROM dbo.alerts WHERE event_id IS NOT NULL") == [(usual.event_id,)]


async def test_a_column_that_was_widened_holds_every_bit(existing: SqlServer, store: SqlServerStore) -> None:
    """A replay then finds what was rounded before, and mends it once."""
    await store.write(whole())
    existing.execute(
        "ALTER TABLE dbo.sensor_readings ALTER COLUMN value FLOAT(53)"
    )  # each server takes this much
    assert set((await store.compare(whole()))["readings"].differs) == {0, 1, 2}
    await store.overwrite(whole())
    assert not (await store.compare(whole()))["readings"].wrong.any()
    query = "SELECT value FROM sensor_readings WHERE dedupe_ms IS NOT NULL ORDER BY id"
    assert [value for (value,) in existing.rows(query)] == [LONG, NEGATIVE, SMALL]


async def test_limits_are_taken_over_as_they_stand(existing: SqlServer, store: SqlServerStore) -> None:
    """What programs set after the migration: changed, switched off, of another condition, in the words that they write."""
    rows, _ = taken_over(await store.entries(), await store.thresholds())
    first, second = await save_entries(store, rows)
    assert (first.warning, first.critical, first.version) == (Range(10.0, 20.0), Range(0.0, 30.5), 1)
    assert (second.warning, second.critical, second.version) == (None, Range(high=90.0), 2)
    existing.execute("UPDATE dbo.alert_thresholds SET is_active = 0 WHERE name = 'usual'")
    existing.execute("UPDATE dbo.alert_thresholds SET threshold_value_max = 40.25 WHERE name = 'burst'")
    existing.execute(
        "INSERT INTO dbo.alert_thresholds (sensor_id, name, condition_type, threshold_value_min, severity)"
        " VALUES (2, 'cold', 'less_than', -5, 'warning')"
    )
    rows, notes = taken_over(await store.entries(), await store.thresholds())
    first, second = await save_entries(store, rows)
    assert (first.warning, first.critical, first.version) == (None, Range(0.0, 40.25), 2)
    assert (second.warning, second.critical, second.version) == (Range(low=-5.0), Range(high=90.0), 3)
    assert notes == []
    assert await save_entries(store, taken_over(await store.entries(), await store.thresholds())[0]) == [
        first,
        second,
    ]


async def test_limits_that_lack_a_word_are_read() -> None:
    """Without a severity it is a warning, as the judge has it; without a condition it is none, and told."""
    odd = {
        "severity VARCHAR(50) NOT NULL DEFAULT 'warning'": "severity VARCHAR(50) NULL",
        "condition_type VARCHAR(50) NOT NULL": "condition_type VARCHAR(50) NULL",
    }
    async with migrated(odd) as database:
        database.execute("UPDATE dbo.alert_thresholds SET severity = NULL WHERE name IN ('usual', 'hot')")
        database.execute("UPDATE dbo.alert_thresholds SET condition_type = NULL WHERE name = 'burst'")
        store = database.store()
        await store.open()
        try:
            rows, notes = taken_over(await store.entries(), await store.thresholds())
        finally:
            await store.close()
    first, second = rows
    assert (first.warning, second.warning) == (Range(10.0, 20.0), Range(high=90.0))
    assert notes == [
        "1 limit left out (no condition, critical): the engine judges by WARNING and CRITICAL ranges"
    ]


async def test_what_is_written_again_refers_to_what_it_did(
    existing: SqlServer, store: SqlServerStore
) -> None:
    """An event that was lost has its device again, and its notification the new number, as other programs follow them."""
    rows = replace(
        whole(), readings=readings(("a", LONG, 1), ("b", NEGATIVE, 2), ("a", SMALL, 3), device="d")
    )
    await store.write(rows)
    query = (
        "SELECT d.uuid FROM dbo.alert_notifications n JOIN dbo.ml_events e ON e.id = n.source_event_id"
        " JOIN dbo.devices d ON d.id = e.device_id WHERE n.sensor_id = e.sensor_id"
    )
    with closing(Database(existing.name)) as others:
        assert others.rows(query) == [("d",)]
        others.run("DELETE FROM dbo.ml_events WHERE severity IS NOT NULL")
        assert others.rows(query) == []
        await store.overwrite(rows)
        assert others.rows(query) == [("d",)]
