"""The registry's log: what it says of each position and time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.core import registry
from streamproc.core.registry import KEEP_MS, Edit, RegistryLog, actions_of
from streamproc.records import ActionEntry, SensorEntry

edits = st.lists(
    st.tuples(
        st.integers(1, 3),
        st.sampled_from((0, 0, 1, 50, -20, KEEP_MS // 2)),
        st.sampled_from("abc"),
        st.sampled_from((None, "V", "W")),
    ),
    max_size=30,
)


def made(plan: list[tuple[int, int, str, str | None]]) -> tuple[RegistryLog, list[Edit]]:
    """A log, and its edits: each so many offsets and milliseconds after the one before."""
    log, plain, offset, timestamp = RegistryLog(), list[Edit](), -1, 1_000
    for gap, later, sensor, unit in plan:
        offset, timestamp = offset + gap, timestamp + later
        entry = None if unit is None else SensorEntry(sensor, unit=unit)
        log.append(offset, timestamp, sensor, entry)
        plain.append(Edit(offset, timestamp, sensor, entry))
    return log, plain


@given(edits, st.integers(0, 70), st.integers(0, 70))
def test_positions_are_offsets(plan: list[tuple[int, int, str, str | None]], begin: int, end: int) -> None:
    """An edit counts from the position after it on; edits between two positions lead from one to the other."""
    log, plain = made(plan)
    assert log.position == (plain[-1].offset + 1 if plain else 0)
    assert log.between(begin, end) == [edit for edit in plain if begin <= edit.offset < end]
    wanted = {edit.sensor: edit.entry for edit in plain if edit.offset < end}
    assert log.as_of(end) == {sensor: entry for sensor, entry in wanted.items() if entry is not None}


@given(edits, st.integers(900, 3_000))
def test_a_times_position_never_changes(plan: list[tuple[int, int, str, str | None]], at: int) -> None:
    """It is that of the first later edit, however many come after, and whether or not the broker's clock steps back."""
    log, plain = made(plan)
    later = [edit.offset for edit in plain if edit.timestamp > at]
    assert log.position_at(at) == (later[0] if later else log.position)


@pytest.mark.live
def test_old_edits_are_forgotten_and_change_nothing() -> None:
    """Superseded longer than KEEP_MS ago: positions since then say what they said, and the log stays short."""
    log, whole = RegistryLog(), list[Edit]()
    for offset in range(45_000):
        sensor, timestamp = f"s{offset % 3}", offset * KEEP_MS // 5_000
        entry = None if offset % 7 == 0 else SensorEntry(sensor, version=offset)
        log.append(offset, timestamp, sensor, entry)
        whole.append(Edit(offset, timestamp, sensor, entry))
        assert len(log) <= 20_000
    for position in range(len(whole) - 4_999, len(whole) + 1, 7):
        wanted = {edit.sensor: edit.entry for edit in whole[position - 30 : position]}
        assert log.as_of(position) == {name: entry for name, entry in wanted.items() if entry is not None}
        assert log.position_at(whole[position - 1].timestamp) == position
    assert len(log) < len(whole) / 2


def test_a_devices_name_is_an_edit_where_it_is_another_one() -> None:
    """A key or a site of its own says nothing of what is told: such a record only moves the position."""
    log = RegistryLog()
    for offset, name in enumerate((None, "Pump 7", "Pump 7", "Pump 8", None)):
        log.append_device(offset, 1_000 + offset, "d", name)
    assert (len(log), log.position) == (3, 5)
    assert [log.names_between(0, end) for end in (1, 2, 4, 5)] == [
        {},
        {"d": "Pump 7"},
        {"d": "Pump 8"},
        {"d": None},
    ]
    assert not log.names_between(2, 3)
    assert not log.as_of(5)
    assert not log.documents_as_of(5)
    with pytest.raises(ValueError, match="offset 4"):
        log.append_device(4, 2_000, "d", "Pump 7")


def test_an_offset_comes_once() -> None:
    """What comes again is of another topic."""
    log = RegistryLog()
    log.append(5, 0, "a", SensorEntry("a"))
    with pytest.raises(ValueError, match="before position 6"):
        log.append(5, 0, "a", None)
    log.advance(9)
    log.advance(3)
    assert log.position == 9
    assert log.position_at(10**15) == 9


def test_what_is_imported_again_takes_no_room_twice() -> None:
    """Equal entries are one object."""
    log = RegistryLog()
    for offset in range(2):
        log.append(offset, 0, "a", SensorEntry("a"))
    first, second = log.between(0, 2)
    assert first.entry is second.entry


def test_recommended_actions_have_positions_too() -> None:
    """In one order with the sensors' edits: as of any position and time, and not among the sensors."""
    log = RegistryLog()
    first, second = ActionEntry("*", "stuck", en="Look."), ActionEntry("pump", "stuck", es="Mire.")
    log.append(0, 1_000, "a", SensorEntry("a"))
    log.append_document(1, 2_000, first.key, first)
    log.append_document(2, 3_000, second.key, second)
    log.append(3, 4_000, "b", SensorEntry("b"))
    log.append_document(4, 5_000, first.key, None)
    assert [log.position_at(time) for time in (1_000, 1_999, 2_000, 4_999, 5_000)] == [1, 1, 2, 4, 5]
    assert [list(actions_of(log.documents_as_of(position))) for position in range(6)] == [
        [],
        [],
        [("*", "stuck")],
        [("*", "stuck"), ("pump", "stuck")],
        [("*", "stuck"), ("pump", "stuck")],
        [("pump", "stuck")],
    ]
    assert [edit.offset for edit in log.documents_between(1, 4)] == [1, 2]
    assert list(log.as_of(5)) == ["a", "b"]
    assert [edit.offset for edit in log.between(0, 5)] == [0, 3]
    with pytest.raises(ValueError, match="lies before position 5"):
        log.append_document(4, 6_000, first.key, first)


def test_old_recommended_actions_are_forgotten_but_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """As sensors' edits are; one of the same name as a sensor is another thing."""
    monkeypatch.setattr(registry, "_FEW", 10)
    log = RegistryLog()
    texts = [ActionEntry("*", "stuck", en=f"Look {number}.") for number in range(40)]
    log.append(0, 0, "*/stuck", SensorEntry("*/stuck"))
    for offset, entry in enumerate(texts, 1):
        log.append_document(offset, 0, entry.key, entry)
    log.append(200, 2 * KEEP_MS, "a", SensorEntry("a"))
    for offset in range(201, 400):
        log.append(offset, 2 * KEEP_MS, "a", SensorEntry("a", unit=str(offset)))
    assert log.documents_as_of(200) == {texts[-1].key: texts[-1]}
    assert len(log.documents_between(0, 200)) == 1
    assert set(log.as_of(log.position)) == {"*/stuck", "a"}
