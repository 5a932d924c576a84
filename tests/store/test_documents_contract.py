"""What every store must do with documents of the registry: policies, silences, the handling of alarms, trials."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from streamproc.errors import StaleEntry, UnknownEntry
from streamproc.records import NoData, SensorEntry, Severity
from streamproc.records.alerting import HandlingEntry, PolicyEntry, SilenceEntry, TrialEntry, Weekly
from streamproc.store.documents import AlertingEntry, DocumentEntry, PutDocument, RemoveDocument, Unreadable
from streamproc.store.edits import DATABASE, Author, Found, Gone, Outcome, PutSensor, RemoveSensor
from streamproc.store.protocol import Batch, Store
from tests.store.builders import GROUP, PLACE, START, event, events, save_entries
from tests.store.databases import Database
from tests.store.test_registry_contract import ANN, NOW, edit

WEEKLY = Weekly((0, 4, 5), "22:00", 480, "Europe/Madrid")
#: One of each kind, with all that there is.
WHOLE: tuple[DocumentEntry, ...] = (
    PolicyEntry(
        "pump/ñ", 2, 7, flapping=False, cooldown_seconds=60.0, remind_seconds=0.5, escalate_seconds=9.0
    ),
    SilenceEntry(
        "night-1",
        *("pump/7", "dev", "pump", "north", "acme"),
        begin=NOW,
        end=NOW + 1,
        weekly=WEEKLY,
        up_to=Severity.WARN,
        maintenance=True,
        reason="'); DROP TABLE sensors; --",
        by="ann",
    ),
    HandlingEntry("pump/7", "e1", acknowledged=True, snoozed_until=NOW, note="On my way.", by="ann", at=NOW),
    TrialEntry("t", "pump", rules=(NoData(60.0),), learners={"fading": 0.1}),
)


@pytest.mark.parametrize("whole", WHOLE, ids=lambda entry: entry.key)
async def test_documents_are_kept(store: Store, whole: PolicyEntry) -> None:
    """Whole; they are versioned, audited, removed and put again as other entries."""
    kind, _, name = whole.key.partition("/")
    (made,) = await edit(store, PutDocument(replace(whole, version=9)))
    assert made == Outcome(kind, name, whole, changed=True)  # type: ignore[arg-type]
    assert made.key == whole.key
    assert await store.registry() == await store.registry([whole.key, "sensor"]) == {whole.key: whole}
    assert await store.documents() == {whole.key: whole}
    (same,) = await edit(store, PutDocument(whole, expected=1))
    assert not same.changed
    with pytest.raises(StaleEntry, match="has version 1 by now, not 7"):
        await edit(store, PutDocument(whole, expected=7))
    remove = RemoveDocument(made.kind, name, expected=1)  # type: ignore[arg-type]
    await edit(store, remove)
    assert await store.registry() == {}
    with pytest.raises(UnknownEntry, match=f"no {kind} {name} is registered"):
        await edit(store, replace_expected(remove))
    await edit(store, PutDocument(whole, expected=0))
    assert await store.registry([whole.key]) == {whole.key: replace(whole, version=3)}
    lines = await store.audit((made.kind, name))
    assert [(line.action, line.version) for line in lines] == [("restore", 3), ("remove", 2), ("create", 1)]


def replace_expected(edit: RemoveDocument) -> RemoveDocument:
    """The same of whatever version."""
    return RemoveDocument(edit.kind, edit.name)


async def test_documents_do_not_meet(store: Store) -> None:
    """Two of one name are two, where their kinds differ; so are names that differ in case or in blanks at the end."""
    both: list[AlertingEntry] = [
        PolicyEntry("a", up_windows=2),
        HandlingEntry("a", "e", acknowledged=True),
        PolicyEntry("A"),
    ]
    await edit(store, *map(PutDocument, both), PutSensor(SensorEntry("a")))
    assert len(await store.registry()) == 4
    assert (await store.documents()).keys() == {"policy/a", "policy/A", "handling/a"}
    await edit(store, RemoveDocument("policy", "a"), RemoveSensor("a"))
    assert {key for key, entry in (await store.registry()).items() if entry} == {"handling/a", "policy/A"}


async def test_a_document_that_was_removed_leaves_no_row(database: Database, store: Store) -> None:
    """There may be thousands of silences in a year; its versions go on, and a topic that has it yet is told again."""
    one = SilenceEntry("a", site="x")
    await edit(store, PutDocument(one))
    await edit(store, RemoveDocument("silence", "a"), PutDocument(replace(one, site="y")))
    assert await store.documents() == {"silence/a": SilenceEntry("a", site="y", version=3)}
    await edit(store, RemoveDocument("silence", "a"))
    assert database.rows("SELECT name FROM registry_documents") == []
    (gone,) = await edit(store, Gone(replace(one, version=3)), by=Author(DATABASE, NOW))
    assert gone == Outcome("silence", "a", None, changed=False)
    lines = await store.audit(("silence", "a"))
    assert [line.action for line in lines] == ["remove", "restore", "remove", "create"]


async def test_a_document_that_sql_has_switched_off_can_be_switched_on(
    database: Database, store: Store
) -> None:
    """Its row stays."""
    one = SilenceEntry("a", site="x")
    await edit(store, PutDocument(one))
    database.execute("UPDATE registry_documents SET is_active = 0")
    assert await store.documents() == {"silence/a": None}
    (gone,) = await edit(store, Gone(one), by=Author(DATABASE, NOW))
    assert (gone.entry, gone.changed) == (None, True)
    database.execute("UPDATE registry_documents SET is_active = 1")
    assert await store.documents() == {"silence/a": replace(one, version=2)}


async def test_documents_of_others_are_found(database: Database, store: Store) -> None:
    """Who writes one by SQL need not know of versions; one that is none is told, and can be put right."""
    insert = "INSERT INTO registry_documents (kind, name, body) VALUES ('policy', '{}', '{}')"
    for name, body in (("pump", '{"up_windows": 2}'), ("fan", '{"up": 2}'), ("all", "[]"), ("no", "{")):
        database.execute(insert.format(name, body))
    database.execute("INSERT INTO registry_documents (kind, name) VALUES ('weather', 'x')")
    found = await store.registry()
    assert found.pop("policy/pump") == PolicyEntry("pump", up_windows=2)
    assert found.keys() == {"policy/fan", "policy/all", "policy/no"}
    assert all(isinstance(entry, Unreadable) for entry in found.values())
    fan = found["policy/fan"]
    assert isinstance(fan, Unreadable)
    assert "unknown field `up`" in fan.reason
    (outcome,) = await edit(store, PutDocument(PolicyEntry("fan")))
    assert outcome.entry == PolicyEntry("fan", version=2)
    await edit(store, RemoveDocument("policy", "no"))
    assert (await store.registry(["policy/no"])) == {}


async def test_documents_that_others_change_get_a_version_and_a_line(
    database: Database, store: Store
) -> None:
    """In the database's name, as sensors do; one that is deleted is gone."""
    entry = PolicyEntry("pump", up_windows=2)
    database.execute(
        "INSERT INTO registry_documents (kind, name, body) VALUES ('policy', 'pump', '{\"up_windows\":2}')"
    )
    by = Author(DATABASE, NOW)
    (found,) = await edit(store, Found(entry, None), by=by)
    assert found == Outcome("policy", "pump", entry, changed=True)
    database.execute("UPDATE registry_documents SET body = '{\"up_windows\":3}'")
    three = replace(entry, up_windows=3)
    (found,) = await edit(store, Found(three, entry), by=by)
    assert found.entry == replace(three, version=2)
    database.execute("DELETE FROM registry_documents")
    (gone,) = await edit(store, Gone(replace(three, version=2)), by=by)
    assert (gone.entry, gone.changed) == (None, True)
    assert [line.action for line in await store.audit(("policy", "pump"))] == ["remove", "change", "create"]


async def test_alarms_are_the_sensors_that_are_not_normal(store: Store) -> None:
    """By the newest event of each that was not withdrawn, the oldest first; those that have left the registry have none."""
    told = [
        event("a", Severity.WARN, Severity.NORMAL, 1_000),
        event("b", Severity.CRITICAL, Severity.NORMAL, 900),
        event("c", Severity.WARN, Severity.NORMAL, 800),
        event("d", Severity.WARN, Severity.NORMAL, 700),
        event("a", Severity.CRITICAL, Severity.WARN, 2_000),
        event("c", Severity.NORMAL, Severity.WARN, 2_000),
    ]
    await save_entries(store, [SensorEntry(name) for name in "abcde"])
    await store.write(Batch(GROUP, {PLACE: (None, 1)}, events=events(*told)))
    await edit(store, RemoveSensor("d"), by=ANN)
    found = await store.alarms()
    assert [(alarm.sensor, alarm.event.event_id) for alarm in found] == [
        ("b", told[1].event_id),
        ("a", told[4].event_id),
    ]
    assert [alarm.event.severity for alarm in found] == ["CRITICAL", "CRITICAL"]
    assert [alarm.normal_at for alarm in found] == [None, None]
    again = event("c", Severity.WARN, Severity.NORMAL, 3_000)
    await store.write(Batch(GROUP, {PLACE: (1, 2)}, events=events(again)))
    (*_, alarm) = await store.alarms()
    assert (alarm.sensor, alarm.normal_at) == ("c", datetime.fromtimestamp(START / 1000 + 2, UTC))
