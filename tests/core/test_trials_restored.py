"""Trials of which parts of several checkpoints are found: each sensor goes on in the trial that its block was in."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from streamproc.core.checkpoint import Snapshot, encode, restore
from streamproc.core.engine import PartitionState
from streamproc.core.registry import RegistryLog
from streamproc.core.sensors import BLOCK
from streamproc.records import NoData, Range, SensorEntry
from streamproc.records.alerting import TrialEntry
from tests.core.oracle import HERE, NOW, OPTIONS, RULES, Record, new_state, story
from tests.core.test_trials import TRIALS, Tried, judged, put, remove

#: Two blocks, the second of which rests at times.
SENSORS = 300
#: Without silences: of these a device decides, whose sensors may be in several blocks.
BY_NAME = {
    trial.trial: msgspec.structs.replace(
        trial, rules=tuple(rule for rule in trial.rules if not isinstance(rule, NoData))
    )
    for trial in TRIALS
}
#: Which checkpoint's head is found with which checkpoints' blocks: older and newer ones, before and after each edit.
FOUND = ((0, (6, 3)), (1, (3, 5)), (3, (1, 6)), (3, (5, 4)), (5, (0, 6)), (6, (2, 5)))


def story_of_trials() -> tuple[list[Record], RegistryLog]:
    """Trials that begin, are edited, end and begin again, and sensors that join one."""
    records = story(1, sensors=SENSORS, seconds=14)
    records += [replace(each, timestamp=each.timestamp + 30_000) for each in story(101, 24, 20)]
    log, out, count = RegistryLog(), list[Record](), len(records)
    rules = (RULES[0], RULES[1], RULES[3])
    for index, sensor in enumerate(HERE[:SENSORS]):
        kind, middle = ("pump", "fan", None)[index % 3], 20 + index % 20
        entry = SensorEntry(sensor, kind=kind, warning=Range(middle - 2, middle + 2), rules=rules[index % 3])
        log.append(log.position, 0, sensor, entry)
    again = [msgspec.structs.replace(BY_NAME[name], version=2) for name in ("learners", "silence")]
    edits: dict[int, list[TrialEntry]] = {
        count // 10: [BY_NAME["nothing"], BY_NAME["rules"], BY_NAME["alarms"]],
        count // 4: [BY_NAME["silence"], BY_NAME["learners"]],
        count // 2: [BY_NAME["stuck"]],
        count * 6 // 10: again,
    }
    for index, each in enumerate(records):
        at = each.timestamp - 5
        put(log, at, *edits.get(index, ()))
        if index == count // 2:
            remove(log, at, BY_NAME["silence"])
        if index == count * 8 // 10:
            remove(log, at, BY_NAME["rules"])
            for sensor in HERE[:20]:
                log.append(log.position, at, sensor, SensorEntry(sensor, kind="pump"))
        if index in {*edits, count * 8 // 10}:
            out.append(Record(each.timestamp, edit=b"%d" % log.position))
        out.append(each)
    return out, log


def kept(state: PartitionState) -> list[object]:
    """All that is remembered of trials."""
    count = len(state.sensors)
    return [state.trials.dump(number, count) for number in range(-(-count // BLOCK))]


@pytest.mark.live
def test_parts_of_several_checkpoints_lose_and_double_nothing() -> None:
    """Whichever are found: what trials tell from each sensor's own offset on is what they told, and so is their state."""
    records, log = story_of_trials()
    state, written = new_state(), list[int]()
    marks = [len(records) * part // 100 for part in (8, 20, 33, 45, 55, 75, 88)]
    told, snapshots = list[Tried](), list[Snapshot]()
    for mark in marks:
        told.append(judged(state, records[:mark], log))
        snapshots.append(encode(state, written))
    told.append(judged(state, records, log))
    names = [name or "?" for name in state.sensors.names]
    for head, blocks in FOUND:
        found = {
            number: [[taken.blocks[number] for taken in snapshots[: mark + 1] if number in taken.blocks][-1]]
            for number, mark in enumerate(blocks)
        }
        copy, _ = restore(OPTIONS, [snapshots[head].head], found)
        reached, first = copy.sensors.block_next or [copy.next_offset] * 2, copy.next_offset
        begins = {name: reached[slot // BLOCK] for slot, name in enumerate(names)}
        wanted, again = Tried(), judged(copy, records, log, (NOW % 97, first + 31))
        for begin, part in zip([0, *marks], told, strict=True):
            for its, theirs in ((wanted.trials, part.trials), (wanted.begun, part.begun)):
                for key, events in theirs.items():
                    if begin >= begins[key[1]]:
                        its[key] += events
        assert {key: rows for key, rows in again.trials.items() if rows} == wanted.trials, (head, blocks)
        assert {key: rows for key, rows in again.begun.items() if rows} == wanted.begun, (head, blocks)
        assert kept(copy) == kept(state), (head, blocks)
