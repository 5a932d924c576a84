"""The admin API of policies, silences, trials and alarms over HTTP, with a real database and a topic in memory."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamproc.records import SensorEntry, Severity
from streamproc.records.alerting import HandlingEntry, PolicyEntry, SilenceEntry
from streamproc.store.documents import FORMS, name_field
from streamproc.store.edits import Author
from streamproc.store.protocol import Batch
from streamproc.store.sqlite.connection import connection
from streamproc.store.sqlite.store import SqliteStore
from tests.shell.test_admin import Client, Memory, ask, served
from tests.store.builders import GROUP, PLACE, event, events, save_entries

HOUR = 3_600_000
WEEKLY = {"days": [0], "at": "22:00", "minutes": 60, "zone": "Europe/Madrid"}


@pytest.fixture
async def memory(tmp_path: Path) -> Memory:
    """The services on a new database."""
    return Memory(SqliteStore(tmp_path / "s.db"))


@pytest.fixture
async def client(memory: Memory) -> AsyncIterator[Client]:
    """A client of the admin API."""
    async with served(memory) as started:
        yield started


@pytest.mark.parametrize(
    ("path", "name", "body", "more"),
    [
        ("policies", "Air%2FPump", {"up_windows": 2}, {"remind_seconds": 60.0}),
        ("silences", "Nights", {"site": "north"}, {"weekly": WEEKLY}),
        ("trials", "Slower", {"kind": "pump"}, {"learners": {"level_fading": 0.2}}),
    ],
)
async def test_a_document_is_put_changed_and_removed(
    client: Client, memory: Memory, path: str, name: str, body: dict[str, Any], more: dict[str, Any]
) -> None:
    """By its name in the path; each change is on the topic when it is answered, and in the audit."""
    one = f"/admin/{path}/{name}"
    status, made = await ask(client, "PUT", one, body)
    named = name.lower().replace("%2f", "/")
    (key,) = memory.topic
    kind = key.split("/", maxsplit=1)[0]
    field = name_field(kind)
    assert (status, made[field], made["version"], key) == (201, named, 1, f"{kind}/{named}")
    assert await ask(client, "GET", one) == (200, made)
    status, changed = await ask(client, "PUT", one, {**made, **more}, If_Match='"1"')
    assert (status, changed) == (200, {**made, **more, "version": 2})
    assert (await ask(client, "PUT", one, made, If_Match='"1"'))[1][0] == "entry-changed"
    assert (await ask(client, "PUT", one, {**made, field: "other"}))[1][0] == "entry-invalid"
    _, told = await ask(client, "GET", f"/admin/{path}")
    assert [msgspec.convert(entry, FORMS[kind]) for entry in told[path]] == [
        msgspec.convert(changed, FORMS[kind])
    ]
    assert (await ask(client, "DELETE", one, If_Match='"2"')) == (204, None)
    assert memory.topic == {key: None}
    assert (await ask(client, "GET", one))[1][0] == "entry-unknown"
    _, told = await ask(client, "GET", f"/admin/audit?kind={kind}&name={name}")
    assert [line["action"] for line in told["audit"]] == ["remove", "change", "create"]


async def test_a_silence_gets_an_id_and_a_name(client: Client, memory: Memory) -> None:
    """Where it is posted: from now on, by the admin's address unless it says by whom; nobody's is overwritten."""
    before = time.time_ns() // 1_000_000
    status, made = await ask(client, "POST", "/admin/silences", {"site": "north", "end": before + HOUR})
    assert status == 201
    assert made["begin"] >= before
    assert made["by"].startswith("admin@")
    kept = msgspec.json.decode(memory.topic[f"silence/{made['silence']}"] or b"", type=SilenceEntry)
    assert msgspec.structs.asdict(kept) == made
    _, bobs = await ask(client, "POST", "/admin/silences", {"all_sensors": True, "by": "bob"})
    assert bobs["by"] == "bob"
    assert bobs["silence"] != made["silence"]
    assert (await ask(client, "POST", "/admin/silences", {"silence": "x", "site": "y"}))[1][
        0
    ] == "entry-invalid"


async def test_silences_are_narrowed_down(client: Client) -> None:
    """By what they are of, and by whether they are in force."""
    now = time.time_ns() // 1_000_000
    for name, entry in {
        "a": {"site": "north", "end": now - HOUR},
        "b": {"site": "north", "begin": now + HOUR},
        "c": {"site": "south"},
    }.items():
        assert (await ask(client, "PUT", f"/admin/silences/{name}", entry))[0] == 201
    for query, wanted in {
        "": "abc",
        "?site=north": "ab",
        "?state=active": "c",
        "?state=ended&site=north": "a",
        "?after=a&limit=1": "b",
    }.items():
        _, told = await ask(client, "GET", f"/admin/silences{query}")
        assert [entry["silence"] for entry in told["silences"]] == list(wanted), query
    assert (await ask(client, "GET", "/admin/silences?state=asleep"))[1][0] == "entry-invalid"


@pytest.mark.parametrize(
    ("path", "entry", "reason"),
    [
        ("policies/pump", {"up_windows": 0}, "up_windows must be 1 to"),
        ("policies/pump", {"up": 1}, "unknown field `up`"),
        ("policies/" + "k" * 101, {}, "kind must have 1 to 100"),
        ("silences/a", {}, "say of which sensors"),
        ("silences/a%2Fb", {"site": "x"}, "its name must be 1 to 64"),
        ("silences/a", {"site": "x", "weekly": {**WEEKLY, "zone": "Nowhere"}}, "zone 'Nowhere' is not known"),
        ("trials/t", {"learners": {"level_fading": "slow"}}, "Expected `float`"),
    ],
)
async def test_a_wrong_document_is_refused(
    client: Client, path: str, entry: dict[str, Any], reason: str
) -> None:
    """With what is wrong; nothing is changed."""
    status, (kind, detail) = await ask(client, "PUT", f"/admin/{path}", entry)
    assert (status, kind) == (422, "entry-invalid")
    assert reason in detail
    several = path.split("/", maxsplit=1)[0]
    assert (await ask(client, "GET", f"/admin/{several}"))[1][several] == []


async def test_what_sql_has_written_wrong_is_told(client: Client, memory: Memory) -> None:
    """It is not in force, and not in the list; it can be put right."""
    assert isinstance(memory.kept, SqliteStore)
    await memory.kept.registry()
    opened = connection(memory.kept._path)
    opened.execute(
        "INSERT INTO registry_documents (kind, name, body) VALUES ('policy', 'pump', '{\"up\": 2}')"
    )
    opened.close()
    status, (kind, detail) = await ask(client, "GET", "/admin/policies/pump")
    assert (status, kind) == (404, "entry-unknown")
    assert "is not in force" in detail
    assert "unknown field `up`" in detail
    assert (await ask(client, "GET", "/admin/policies"))[1]["policies"] == []
    status, made = await ask(client, "PUT", "/admin/policies/pump", {"up_windows": 2})
    assert (status, made["version"]) == (200, 2)
    assert PolicyEntry("pump", 2, version=2) == msgspec.json.decode(
        memory.topic["policy/pump"] or b"", type=PolicyEntry
    )


@pytest.fixture
async def alarmed(memory: Memory) -> None:
    """A sensor with an alarm, and one without."""
    store = memory.kept
    made = await save_entries(store, [SensorEntry("a", name="boiler", site="north"), SensorEntry("calm")])
    assert made[0].sensor_id == 1
    told = event("a", Severity.WARN, Severity.NORMAL)
    await store.write(Batch(GROUP, {PLACE: (None, 1)}, events=events(told)))
    await store.edit_registry([], Author("ann", 1))


@pytest.mark.usefixtures("alarmed")
async def test_an_alarm_is_acknowledged_snoozed_and_let_go(client: Client, memory: Memory) -> None:
    """By name or number; who and why is in the list, until it is nobody's again."""
    status, told = await ask(client, "POST", "/admin/alarms/1/acknowledge", {"note": "Mine.", "by": "ann"})
    assert (status, told["sensor"], told["acknowledged"], told["by"]) == (200, "a", True, "ann")
    until = time.time_ns() // 1_000_000 + HOUR
    status, told = await ask(client, "POST", "/admin/alarms/A/snooze", {"until": until})
    assert (status, told["snoozed_until"], told["acknowledged"], told["note"]) == (200, until, True, "Mine.")
    kept = msgspec.json.decode(memory.topic["handling/a"] or b"", type=HandlingEntry)
    assert msgspec.structs.asdict(kept) == told
    _, found = await ask(client, "GET", "/admin/alarms")
    (alarm,) = found["alarms"]
    assert (found["count"], alarm["sensor"], alarm["name"], alarm["severity"]) == (1, "a", "boiler", "WARN")
    assert (alarm["note"], alarm["snoozed_until"]) == ("Mine.", until)
    for query, count in {"?site=North": 1, "?site=south": 0, "?kind=pump": 0}.items():
        assert (await ask(client, "GET", f"/admin/alarms{query}"))[1]["count"] == count
    assert await ask(client, "DELETE", "/admin/alarms/1/handling") == (204, None)
    assert (await ask(client, "DELETE", "/admin/alarms/1/handling"))[1][0] == "entry-unknown"
    (alarm,) = (await ask(client, "GET", "/admin/alarms"))[1]["alarms"]
    assert (alarm["acknowledged"], alarm["snoozed_until"], alarm["by"]) == (False, None, None)


async def test_an_alarm_is_handled_by_its_event(client: Client, memory: Memory) -> None:
    """As notifications name it: of one that has eased the graver event counts, whichever was named last."""
    told = [
        event("a", Severity.CRITICAL, Severity.NORMAL),
        event("a", Severity.WARN, Severity.CRITICAL, 5_000),
    ]
    await save_entries(memory.kept, [SensorEntry("a")])
    await memory.kept.write(Batch(GROUP, {PLACE: (None, 1)}, events=events(*told)))
    grave, eased = (f"/admin/alarms/{each.event_id}" for each in told)
    _, made = await ask(client, "POST", f"{eased}/acknowledge", {"note": "Mine."})
    assert (made["sensor"], made["event_id"]) == ("a", told[1].event_id)
    for path in (grave, eased, "/admin/alarms/a"):
        _, made = await ask(client, "POST", f"{path}/snooze", {"seconds": 60})
        assert (made["event_id"], made["acknowledged"], made["note"]) == (told[0].event_id, True, "Mine.")
    assert await ask(client, "DELETE", f"{grave}/handling") == (204, None)
    assert memory.topic == {"handling/a": None}
    over = event("a", Severity.NORMAL, Severity.WARN, 9_000)
    await memory.kept.write(Batch(GROUP, {PLACE: (1, 2)}, events=events(over)))
    status, (kind, detail) = await ask(client, "POST", f"{eased}/acknowledge")
    assert (status, kind) == (409, "entry-refused")
    assert "is over: the sensor is NORMAL since" in detail


@pytest.mark.usefixtures("alarmed")
async def test_what_cannot_be_said_of_an_alarm_is_refused(client: Client) -> None:
    """With what to do; nobody handles it then."""
    table: list[tuple[str, dict[str, Any], int, str]] = [
        ("none/acknowledge", {}, 404, "no sensor none is registered"),
        ("calm/acknowledge", {}, 409, "sensor calm is NORMAL"),
        ("a/acknowledge", {"note": "two\nlines"}, 422, "note must be a line"),
        ("a/acknowledge", {"until": 5}, 422, "unknown field `until`"),
        ("a/snooze", {}, 422, "give either seconds or until"),
        ("a/snooze", {"seconds": 5, "until": 5}, 422, "give either seconds or until"),
        ("a/snooze", {"seconds": 0}, 422, "it would be over already"),
        ("a/snooze", {"until": 10**15}, 422, "snoozed_until must be milliseconds since 1970"),
    ]
    for path, body, status, reason in table:
        told, (_, detail) = await ask(client, "POST", f"/admin/alarms/{path}", body)
        assert (told, reason in detail) == (status, True), detail
    (alarm,) = (await ask(client, "GET", "/admin/alarms"))[1]["alarms"]
    assert (alarm["acknowledged"], alarm["snoozed_until"]) == (False, None)
