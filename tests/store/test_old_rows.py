"""Old rows away, on every store: what is older than it is to be kept and nothing still needs, and nothing younger."""

from __future__ import annotations

from streamproc.records import SensorEntry, Severity
from streamproc.store.job_runs import OLD_ROWS, Ended, JobStore, RunClaim
from streamproc.store.protocol import Batch, Store
from tests.store.builders import (
    GROUP,
    START,
    event,
    events,
    notification,
    notifications,
    predictions,
    readings,
    save_entries,
    trial_events,
    tried,
    windows,
)
from tests.store.databases import Database

NORMAL, WARN, CRITICAL = Severity
DAY = 86_400_000
TABLES = {
    "notifications": "alert_notifications",
    "events": "ml_events",
    "predictions": "predictions",
    "windows": "sensor_windows",
    "readings": "sensor_readings",
    "audit": "registry_audit",
    "trial_events": "trial_events",
    "job_runs": "job_runs",
}


async def deleted(jobs: JobStore, table: str, before: int) -> int:
    """How many rows of a table go, over all calls."""
    rows, start = 0, 0
    while True:
        found = await jobs.delete_old(table, before, start)
        rows += found.rows
        if found.go_on is None:
            return rows
        start = found.go_on


def count(database: Database, table: str) -> int:
    """How many rows a table has."""
    ((rows,),) = database.rows(f"SELECT COUNT(*) FROM {TABLES[table]}")  # noqa: S608  # the names above
    return int(rows)


async def test_measurements_go_by_their_time_and_no_others(
    store: Store, jobs: JobStore, database: Database
) -> None:
    """To the millisecond, over several calls; the other tables are left alone."""
    many = 4_500
    old = [(f"s{number % 3}", float(number), number) for number in range(many)]
    young = [("s0", 1.0, DAY), ("s1", 1.0, DAY + 1)]
    batch = Batch(
        GROUP,
        readings=readings(*old, *young),
        predictions=predictions(*old[:30], *young),
        windows=windows(*old, *young),
    )
    await store.write(batch)
    for table, gone in (("readings", many), ("predictions", 30), ("windows", many)):
        assert await deleted(jobs, table, START) == 0
        # A reading's row came 5 ms after it.
        edge = START + DAY + (5 if table == "readings" else 0)
        assert await deleted(jobs, table, edge) == gone
        assert count(database, table) == 2
        assert await deleted(jobs, table, edge) == 0
        assert await deleted(jobs, table, edge + 1) == 1


async def test_a_sensors_last_event_and_what_stands_stay(
    store: Store, jobs: JobStore, database: Database
) -> None:
    """They tell its state; a notification of an event that stands stays with it."""
    told = [
        event("a", WARN, NORMAL, 0),
        event("a", CRITICAL, WARN, 1_000),
        event("a", NORMAL, CRITICAL, 2_000),
        event("b", CRITICAL, NORMAL, 3_000),
    ]
    await store.write(Batch(GROUP, events=events(*told)))
    notes = [notification(one.sensor, one.event_id) for one in told]
    await store.write(Batch(GROUP, notifications=notifications(*notes)))
    assert await deleted(jobs, "events", START + DAY) == 0  # notifications name them
    assert await deleted(jobs, "notifications", START + DAY) == 3
    assert await deleted(jobs, "events", START + DAY) == 2
    query = "SELECT event_id, status FROM ml_events ORDER BY created_at"
    assert database.rows(query) == [(told[2].event_id, "resolved"), (told[3].event_id, "active")]
    assert count(database, "notifications") == 1
    alarm = (await store.alarms())[0]
    assert alarm.sensor == "b"


async def test_what_others_have_acknowledged_goes_once_it_is_over(
    store: Store, jobs: JobStore, database: Database
) -> None:
    """A sensor's next change ends it, whatever word another program has left there; the last one still stands."""
    told = [
        event("a", WARN, NORMAL, 0),
        event("a", CRITICAL, WARN, 1_000),
        event("b", CRITICAL, NORMAL, 2_000),
    ]
    notes = [notification(one.sensor, one.event_id) for one in told]
    await store.write(Batch(GROUP, events=events(told[0], told[2]), notifications=notifications(*notes)))
    database.execute("UPDATE ml_events SET status = 'acknowledged'")
    await store.write(Batch(GROUP, events=events(told[1])))
    assert await deleted(jobs, "notifications", START + DAY) == 1
    assert await deleted(jobs, "events", START + DAY) == 1
    query = "SELECT event_id, status FROM ml_events ORDER BY created_at"
    assert database.rows(query) == [(told[1].event_id, "active"), (told[2].event_id, "acknowledged")]
    query = "SELECT source_event_id FROM alert_notifications ORDER BY id"
    assert database.rows(query) == [(one.event_id,) for one in told[1:]]


async def test_one_young_row_keeps_no_old_ones(store: Store, jobs: JobStore, database: Database) -> None:
    """One of a clock that was wrong stays, alone before those that come to be old a day later, and these go."""
    many = 4_500
    rows = [("a", float(number), day * DAY + number) for day in range(2) for number in range(many)]
    await store.write(Batch(GROUP, readings=readings(("a", 1.0, 400 * DAY), *rows)))
    for day in (1, 2):
        assert await deleted(jobs, "readings", START + day * DAY) == many
    assert count(database, "readings") == 1


async def test_a_prediction_that_an_event_names_stays(
    store: Store, jobs: JobStore, database: Database
) -> None:
    """Other programs' events have one."""
    await store.write(Batch(GROUP, predictions=predictions(("a", 1.0, 0), ("a", 2.0, 1), ("a", 3.0, 2))))
    await store.write(Batch(GROUP, events=events(event("a", WARN, NORMAL))))
    database.execute(
        "UPDATE ml_events SET prediction_id = (SELECT id FROM predictions WHERE predicted_value = 3)"
    )
    assert await deleted(jobs, "predictions", START + DAY) == 2
    assert database.rows("SELECT predicted_value FROM predictions") == [(3.0,)]


async def test_an_entrys_last_line_of_the_audit_stays(
    store: Store, jobs: JobStore, database: Database
) -> None:
    """Its version goes on from there."""
    for name in ("one", "two", "three"):
        await save_entries(store, [SensorEntry("a", name=name), SensorEntry("b")])
    lines = count(database, "audit")
    tomorrow = 4_000_000_000_000
    assert await deleted(jobs, "audit", tomorrow) == lines - 2
    assert await deleted(jobs, "audit", START) == 0
    (entry,) = [entry for entry in await store.entries() if entry.sensor == "a"]
    assert entry.version == 3


async def test_a_trial_goes_whole(store: Store, jobs: JobStore, database: Database) -> None:
    """Once it has written nothing for so long."""
    rows = [tried("a", WARN, NORMAL, 1_000 * number) for number in range(5)]
    on = [
        tried("a", WARN, NORMAL, 0, trial="on"),
        tried("a", CRITICAL, WARN, 2 * DAY, trial="on"),
    ]
    await store.write(Batch(GROUP, trial_events=trial_events(*rows, *on)))
    assert await deleted(jobs, "trial_events", START + 3_000) == 0
    assert await deleted(jobs, "trial_events", START + DAY) == 5
    assert database.rows("SELECT trial, COUNT(*) FROM trial_events GROUP BY trial") == [("on", 2)]


async def test_the_last_scheduled_run_of_a_job_stays(jobs: JobStore, database: Database) -> None:
    """It tells what was due and done; one that goes on stays as well."""
    for number in range(4):
        at = START + number * DAY
        claim = RunClaim("cleanup", "schedule" if number < 2 else "command", "s", at, 1, "me", at, at + 1)
        run = await jobs.claim_run(claim)
        assert run is not None
        if number < 3:
            await jobs.settle_run(run, "me", Ended("done", at))
    assert await deleted(jobs, "job_runs", START + 9 * DAY) == 1
    query = "SELECT started_by, outcome FROM job_runs ORDER BY id"
    assert database.rows(query) == [("schedule", "done"), ("command", "done"), ("command", "running")]


async def test_an_empty_database_has_nothing_old(jobs: JobStore) -> None:
    """Of any table, those that it does not have included."""
    for table in OLD_ROWS:
        assert await deleted(jobs, table, START + DAY) == 0


async def test_what_others_told_of_goes_with_its_notification(
    store: Store, jobs: JobStore, database: Database
) -> None:
    """How each was delivered is of no use without it."""
    await store.write(Batch(GROUP, notifications=notifications(notification("a"))))
    stamp = "'2023-11-14T22:13:20.000'"
    database.execute(
        "INSERT INTO notification_deliveries (notification_id, channel, status, scope, created_at, due_at)"  # noqa: S608
        f" SELECT notification_id, 'console', 'sent', 's', {stamp}, {stamp} FROM alert_notifications"
    )
    assert await deleted(jobs, "notifications", START + DAY) == 1
    assert database.rows("SELECT COUNT(*) FROM notification_deliveries") == [(0,)]
