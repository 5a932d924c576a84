"""What a replay asks of every store: how rows stand there, which are extra, and to hold what it gives."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from streamproc.core.engine import Options, PartitionState
from streamproc.core.predict import HORIZON_MS
from streamproc.core.registry import RegistryLog
from streamproc.core.steps import MOST_STEPS
from streamproc.errors import RowsRefused, StoreUnavailable
from streamproc.records import Severity, SeverityEvent
from streamproc.replay.engine import Engine
from streamproc.replay.seen import PAGE, Seen
from streamproc.settings import Settings
from streamproc.store.comparison import Bools, Scope
from streamproc.store.protocol import Batch, Ints, Store
from tests.store.builders import (
    GROUP,
    PLACE,
    START,
    event,
    events,
    ints,
    notification,
    notifications,
    predictions,
    readings,
    windows,
)
from tests.store.databases import Database, Sqlite


def whole() -> Batch:
    """Rows of every table."""
    raised = event("a", Severity.CRITICAL, Severity.NORMAL)
    return Batch(
        GROUP,
        {PLACE: (None, 9)},
        readings(("a", 1.5, 1), ("b", 2.5, 2)),
        predictions(("a", 20.0, 1_000), ("b", 21.0, 1_000)),
        events(raised),
        notifications(notification("a", raised.event_id)),
        windows(("a", 20.0, 0), ("b", 21.0, 0)),
    )


def nothing(numbers: Ints) -> Bools:
    """A replay that has given no row."""
    return np.zeros(len(numbers), dtype=np.bool_)


def scope(**closed: tuple[int, int, int]) -> Scope:
    """Records 0..9 of partition 0, and per sensor the times that closed, in ms after START."""
    times = {
        sensor: (START + low, START + high, START + newest) for sensor, (low, high, newest) in closed.items()
    }
    return Scope("readings", 0, 0, 10, times, "level@2", frozenset({1_000, 5_000}))


async def test_what_was_written_does_not_differ(database: Database, store: Store) -> None:
    """Rows as they were written are there, each with its number; looking changes nothing."""
    await store.write(whole())
    before = database.rows("SELECT * FROM ml_events")
    compared = await store.compare(whole())
    assert {table: len(rows.number) for table, rows in compared.items()} == {
        "readings": 2,
        "predictions": 2,
        "events": 1,
        "notifications": 1,
        "windows": 2,
    }
    for rows in compared.values():
        assert not rows.wrong.any()
        assert (rows.number > 0).all()
    assert database.rows("SELECT * FROM ml_events") == before
    assert await store.offsets(GROUP) == {PLACE: 9}


async def test_missing_rows_and_unknown_sensors_are_told_apart(database: Database, store: Store) -> None:
    """A row that is not there is missing; of a sensor that is not registered, it is unknown. Nobody is registered."""
    await store.write(whole())
    compared = (
        await store.compare(Batch(GROUP, readings=readings(("a", 9.0, 1), ("z", 1.0, 1), ("b", 2.5, 2))))
    )["readings"]
    assert compared.wrong.tolist() == [True, False, False]
    assert compared.unknown.tolist() == [False, True, False]
    assert compared.number[2] > 0
    assert database.rows("SELECT uuid FROM sensors") == [("a",), ("b",)]


@pytest.mark.parametrize(
    ("statement", "table", "column"),
    [
        ("UPDATE sensor_readings SET value = 7 WHERE value = 1.5", "readings", "value"),
        (
            "UPDATE sensor_readings SET sensor_id = (SELECT max(id) FROM sensors) WHERE value = 1.5",
            "readings",
            "sensor_id",
        ),
        (
            "UPDATE predictions SET upper = NULL WHERE id = (SELECT min(id) FROM predictions)",
            "predictions",
            "upper",
        ),
        ("UPDATE ml_events SET payload = '{}'", "events", "payload"),
        ("UPDATE ml_events SET status = 'superseded'", "events", "status"),
        ("UPDATE alert_notifications SET title = 'x'", "notifications", "title"),
        (
            "UPDATE sensor_windows SET trend = 3 WHERE sensor_id = (SELECT min(id) FROM sensors)",
            "windows",
            "trend",
        ),
    ],
)
async def test_a_changed_row_is_told_and_mended(
    database: Database, store: Store, statement: str, table: str, column: str
) -> None:
    """Whatever column was changed, it is named with both values, and written over once."""
    await store.write(whole())
    before = [
        database.rows(f"SELECT * FROM {name}")  # noqa: S608  # names here
        for name in ("sensor_readings", "predictions", "ml_events", "sensor_windows")
    ]
    database.execute(statement)
    compared = await store.compare(whole())
    assert [name for name, rows in compared.items() if rows.wrong.any()] == [table]
    assert [list(columns) for columns in compared[table].differs.values()] == [[column]]
    await store.overwrite(whole())
    await store.overwrite(whole())
    assert not any(rows.wrong.any() for rows in (await store.compare(whole())).values())
    after = [
        database.rows(f"SELECT * FROM {name}")  # noqa: S608  # names here
        for name in ("sensor_readings", "predictions", "ml_events", "sensor_windows")
    ]
    assert after == before


async def test_what_a_replay_need_not_know_does_not_differ(database: Database, store: Store) -> None:
    """An event that was resolved, a notification that was read, an explanation, and a retry's own place and time."""
    await store.write(whole())
    database.execute("UPDATE ml_events SET status = 'resolved'")
    database.execute("UPDATE alert_notifications SET is_read = 1")
    database.execute("UPDATE predictions SET explanation = 'it is cold'")
    database.execute(
        "UPDATE sensor_readings SET kafka_offset = 77, timestamp = '2023-11-14T22:13:21.001Z' WHERE value = 1.5"
    )
    assert not any(rows.wrong.any() for rows in (await store.compare(whole())).values())


async def test_extra_rows_are_those_of_the_range_alone(database: Database, store: Store) -> None:
    """Rows count by their record, by when their window closed, and by their sensor; those that were given do not."""
    await store.write(whole())
    scopes = [scope(a=(-1, 1_000, 1_000), b=(1_000, 2_000, 2_000))]
    counts = {
        table: (await store.extras(table, scopes, None, nothing, 10)).count
        for table in ("readings", "predictions", "events", "notifications")
    }
    # The prediction of b was made before its range begins; the target of each is made_at + 1 s here.
    assert counts == {"readings": 2, "predictions": 0, "events": 1, "notifications": 1}
    assert (await store.extras("readings", scopes, ["a"], nothing, 10)).count == 1
    ((first,),) = database.rows("SELECT min(id) FROM sensor_readings")
    assert (await store.extras("readings", scopes, None, lambda n: n == first, 10)).rows[0].sensor == "b"
    elsewhere = Scope("readings", 0, 4, 10, scopes[0].closed)  # the event's reading is the record 3
    assert (await store.extras("events", [elsewhere], None, nothing, 10)).count == 0
    limited = await store.extras("readings", scopes, None, nothing, 1)
    assert (limited.count, len(limited.rows)) == (2, 1)


async def test_a_range_of_which_nothing_is_processed_has_nothing_extra(store: Store) -> None:
    """Its partition's clock has not begun: where it stood then was no time that a database knows."""
    engine = Engine(
        PartitionState(Options("readings", 0, 1)), Settings.model_validate({}), RegistryLog(), None
    )
    await store.write(Batch(GROUP, events=events(event("a", Severity.CRITICAL, Severity.NORMAL, 500))))
    scopes = [dataclasses.replace(scope(a=(-1, 400, 9_000)), begin=0, end=0, clock=engine.clock)]
    for table in ("events", "notifications"):
        assert (await store.extras(table, scopes, None, nothing, 10)).count == 0


async def test_a_silence_belongs_to_when_it_was_told(store: Store) -> None:
    """By the partition's clock: where a sensor's is ahead, its readings are of later times than the silence after them.

    A live worker may tell it while a replay of the readings runs; to take it back would end an alarm that stands.
    """
    silence = replace(event("a", Severity.CRITICAL, Severity.NORMAL, 500), cause="silence")
    silence = replace(silence, lineage=replace(silence.lineage, window={}))
    await store.write(
        Batch(GROUP, events=events(silence), notifications=notifications(notification("a", silence.event_id)))
    )
    ahead = scope(a=(-1, 400, 9_000))
    for clock, count in ((499, 0), (500, 1)):
        scopes = [dataclasses.replace(ahead, clock=START + clock)]
        for table in ("events", "notifications"):
            assert (await store.extras(table, scopes, None, nothing, 10)).count == count


async def test_what_was_told_without_a_change_is_never_extra(store: Store) -> None:
    """A reminder goes by the partition's clock, which a range of sensors' times does not know: nobody takes it back."""
    await store.write(whole())
    change = notification("a", event("a", Severity.CRITICAL, Severity.NORMAL).event_id)
    reminder = replace(change, notification_id=f"reminder-{change.notification_id}", kind="reminder")
    await store.write(Batch(GROUP, notifications=notifications(reminder)))
    scopes = [scope(a=(-1, 1_000, 1_000))]
    assert (await store.extras("notifications", scopes, None, nothing, 10)).count == 1
    rows = Batch(GROUP, notifications=notifications(change, reminder))
    assert not (await store.compare(rows))["notifications"].wrong.any()


async def test_a_prediction_belongs_to_when_it_was_made(store: Store) -> None:
    """From the window's end that it was made at, exclusive, to inclusive; of the same model alone."""
    made = predictions(("a", 20.0, 1_000), ("a", 21.0, 11_000), model="level@2")
    made.target[:] = made.made_at + 10_000
    await store.write(Batch(GROUP, predictions=made))
    for closed, count in (
        ((0, 11_000, 0), 2),
        ((1_000, 11_000, 0), 1),
        ((0, 10_999, 0), 1),
        ((11_000, 20_000, 0), 0),
    ):
        assert (await store.extras("predictions", [scope(a=closed)], None, nothing, 10)).count == count
    other = Scope("readings", 0, 0, 10, scope(a=(0, 11_000, 0)).closed, "level@3")
    assert (await store.extras("predictions", [other], None, nothing, 10)).count == 0


async def test_predictions_of_all_steps_belong_to_when_they_were_made(store: Store) -> None:
    """However far ahead they are, and not those that were made before for a time within the range."""
    made = predictions(("a", 20.0, 1_000), ("a", 20.0, 1_000), ("a", 21.0, 11_000), model="level@2")
    made.target[:] = made.made_at + np.array([10_000, MOST_STEPS * HORIZON_MS, 10_000])
    await store.write(Batch(GROUP, predictions=made))
    for closed, count in (((0, 1_000, 0), 2), ((1_000, 11_000, 0), 1), ((11_000, 900_000, 0), 0)):
        assert (await store.extras("predictions", [scope(a=closed)], None, nothing, 10)).count == count


async def test_a_window_belongs_to_when_it_closed(database: Database, store: Store) -> None:
    """By its end, from exclusive to inclusive, and by its size; one that is taken back is gone, others stay."""
    await store.write(Batch(GROUP, windows=windows(("a", 1.0, 0), ("a", 2.0, 1_000), ("b", 3.0, 0))))
    await store.write(Batch(GROUP, windows=windows(("a", 4.0, 0), size_ms=5_000)))
    await store.write(
        Batch(GROUP, windows=windows(("a", 5.0, 0), size_ms=10_000))
    )  # of a size that is not stored now
    for closed, count in (
        ((0, 10_000, 0), 3),
        ((1_000, 2_000, 0), 1),
        ((0, 4_999, 0), 2),
        ((2_000, 4_999, 0), 0),
    ):
        assert (await store.extras("windows", [scope(a=closed)], None, nothing, 10)).count == count
    (compared,) = [(await store.compare(Batch(GROUP, windows=windows(("a", 2.0, 1_000)))))["windows"]]
    found = await store.extras(
        "windows", [scope(a=(0, 2_000, 0))], None, lambda n: np.isin(n, compared.number), 10
    )
    assert [(extra.sensor, extra.row["mean"]) for extra in found.rows] == [("a", 1.0)]
    assert await store.withdraw("windows", [extra.number for extra in found.rows]) == 1
    assert sorted(database.rows("SELECT mean FROM sensor_windows")) == [(2.0,), (3.0,), (4.0,), (5.0,)]


async def test_withdrawn_rows(database: Database, store: Store) -> None:
    """Predictions go, but not one that an event refers to; events stay, superseded; the rest stays as it is."""
    await store.write(whole())
    database.execute("UPDATE ml_events SET prediction_id = (SELECT max(id) FROM predictions)")
    numbers = {name: rows.number.tolist() for name, rows in (await store.compare(whole())).items()}
    assert await store.withdraw("predictions", numbers["predictions"]) == 1
    assert await store.withdraw("events", numbers["events"]) == 1
    assert await store.withdraw("events", numbers["events"]) == 0
    assert await store.withdraw("readings", numbers["readings"]) == 0
    assert await store.withdraw("notifications", numbers["notifications"]) == 0
    assert database.rows("SELECT status FROM ml_events") == [("superseded",)]
    assert len(database.rows("SELECT * FROM sensor_readings")) == 2
    scopes = [scope(a=(-1, 1_000, 1_000))]
    for table in ("events", "notifications"):  # people were told, and see why it does not count
        assert (await store.extras(table, scopes, None, nothing, 10)).count == 0


def chain(*severities: Severity) -> list[SeverityEvent]:
    """A sensor's events one after another, a second apart."""
    before = [Severity.NORMAL, *severities]
    return [
        event("a", severity, previous, 1_000 * number)
        for number, (previous, severity) in enumerate(zip(before, severities, strict=False))
    ]


async def test_the_last_standing_event_is_active(database: Database, store: Store) -> None:
    """An older event that was missing does not become active; if the last is superseded, the one before it does."""
    warned, raised = chain(Severity.WARN, Severity.CRITICAL)
    query = "SELECT severity, status FROM ml_events ORDER BY created_at"
    await store.write(Batch(GROUP, {PLACE: (None, 1)}, events=events(raised)))
    await store.overwrite(Batch(GROUP, events=events(warned)))
    assert database.rows(query) == [("WARN", "resolved"), ("CRITICAL", "active")]
    ((number,),) = database.rows("SELECT id FROM ml_events WHERE severity = 'CRITICAL'")
    await store.withdraw("events", [number])
    assert database.rows(query) == [("WARN", "active"), ("CRITICAL", "superseded")]
    await store.overwrite(Batch(GROUP, events=events(raised)))
    assert database.rows(query) == [("WARN", "resolved"), ("CRITICAL", "active")]


async def test_of_a_refused_batch_nothing_is_written_over(database: Database, store: Store) -> None:
    """One row that the database does not take leaves the others as they were."""
    await store.write(whole())
    database.refuse(13.0)
    with pytest.raises(RowsRefused, match="not wanted"):
        await store.overwrite(Batch(GROUP, readings=readings(("a", 1.0, 5), ("a", 13.0, 6))))
    assert database.rows("SELECT count(*) FROM sensor_readings") == [(2,)]


async def test_a_writer_keeps_no_reader_out(database: Database, store: Store) -> None:
    """While somebody else writes, rows can be compared; to write over them is for later."""
    if not isinstance(database, Sqlite):
        pytest.skip(
            "whether SQL Server's readers wait for writers is a setting of the database (READ_COMMITTED_SNAPSHOT)"
        )
    await store.write(whole())
    with database.locked():
        assert not (await store.compare(whole()))["readings"].wrong.any()
        with pytest.raises(StoreUnavailable):
            await store.overwrite(whole())


async def test_a_retry_in_the_range_is_not_written_over_its_first(store: Store) -> None:
    """The row keeps the first record's time, wherever a later one lies."""
    await store.write(whole())
    again = readings(("a", 1.5, 1), first_offset=40)
    again.received[:] += 5_000
    assert not (await store.compare(Batch(GROUP, readings=again)))["readings"].wrong.any()
    again.offset[:] = 0  # as if it were the first
    assert (await store.compare(Batch(GROUP, readings=again)))["readings"].wrong.all()


class Kept(dict[tuple[str, int], bytes]):
    """Pages in memory."""

    def page(self, table: str, number: int) -> bytes | None:
        """A page that was kept."""
        return self.get((table, number))

    def keep(self, table: str, number: int, bits: bytes) -> None:
        """Keep a page."""
        self[table, number] = bits


@given(st.lists(st.lists(st.integers(1, 5 * PAGE))), st.lists(st.integers(1, 5 * PAGE)))
def test_what_was_seen_is_a_set(added: list[list[int]], asked: list[int]) -> None:
    """Numbers that were added are seen, others are not, whether kept in between or not."""
    kept = Kept()
    seen = Seen("readings", kept)
    for numbers in added:
        seen.add(ints(*numbers))
        seen.flush()
    wanted = [number in {n for numbers in added for n in numbers} for number in asked]
    assert seen.has(ints(*asked)).tolist() == wanted
    assert Seen("readings", kept).has(ints(*asked)).tolist() == wanted
