"""What users say of sensors and of how they are told: rules of each kind, policies, silences, trials, acknowledgements.

Pure but for `acknowledged`, which looks into the database for an alarm, as a person would.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from random import Random

from streamproc.records import (
    DeltaSpike,
    Expression,
    NoData,
    RateOfChange,
    Rule,
    Severity,
    StuckValue,
)
from streamproc.records.alerting import (
    Document,
    HandlingEntry,
    LearnersEntry,
    PolicyEntry,
    SilenceEntry,
    TrialEntry,
    Weekly,
)
from tests.chaos.plan import Device, Plan

#: Sensors of these kinds have policies, numbers and trials of their own; the others have those of all.
KINDS = ("pump", "fan", None)
#: Alarms among which one is acknowledged: more need not be read.
_ALARMS = 200


def rules(number: int, device: Device) -> tuple[Rule, ...]:
    """One kind of rule or two for a sensor of this number, so that all kinds are there; one device in three is awaited whole.

    Made values are about 20, and 60 or 120 for seconds now and then. A device pauses for 15 s and more.
    """
    silent = NoData(seconds=2.5 * device.every_s + 2), NoData(14.0, Severity.CRITICAL)
    kinds: tuple[tuple[Rule, ...], ...] = (
        (),
        (DeltaSpike(absolute=30.0), DeltaSpike(absolute=70.0, severity=Severity.CRITICAL)),
        (RateOfChange(5.0, window="10s"),),
        (StuckValue(4 * device.every_s + 1, tolerance=12.0),),
        (Expression("mean_5s > 50 and max_1s - min_10s > 20", severity=Severity.CRITICAL),),
        silent[:1],
        (Expression("count_10s > 0 and last_1s < 19", for_windows=2, clear_windows=2), silent[1]),
    )
    chosen = kinds[number % len(kinds)]
    awaited = int(device.name.rpartition("-")[2]) % 3 == 0 and not any(isinstance(r, NoData) for r in chosen)
    return (*chosen, silent[0]) if awaited else chosen


def at_first() -> list[Document]:
    """How people are told: reminders, others told, a cooldown, and what is on trial from the begin on."""
    return [
        PolicyEntry("*", cooldown_seconds=2.0, remind_seconds=15.0, escalate_seconds=8.0),
        PolicyEntry("pump", up_windows=2, down_windows=3, remind_seconds=5.0),
        TrialEntry("awaited", kind="pump", rules=(NoData(5.0),), instead=True, up_windows=1, begun_at=1),
    ]


def at_last() -> list[Document]:
    """Nobody is reminded any more: what stands would be told, and ticks be asked for, without end."""
    return [PolicyEntry("*", escalate_seconds=8.0), PolicyEntry("pump", up_windows=2, down_windows=3)]


def order(plan: Plan, chance: Random, now_ms: int) -> Document:
    """What somebody says next: a silence, once or weekly, another policy, or a trial."""
    device = chance.choice(plan.devices)
    begin, name = now_ms + chance.randrange(-2_000, 3_000), f"s{chance.randrange(12)}"
    end = begin + chance.randrange(1_000, 15_000)
    choices: tuple[Document, ...] = (
        SilenceEntry(name, device=device.name, begin=begin, end=end, maintenance=chance.random() < 0.5),
        SilenceEntry(name, sensor=chance.choice(device.sensors), begin=begin, end=end),
        SilenceEntry(name, kind=chance.choice(("pump", "fan")), begin=begin, end=end, up_to=Severity.WARN),
        SilenceEntry(name, kind="fan", begin=begin, end=end, weekly=Weekly((0, 2, 4, 6), "00:00", 1_440)),
        PolicyEntry("fan", down_windows=chance.randrange(1, 8), flapping=chance.random() < 0.5),
        LearnersEntry("fan", {"alarm_surprise": chance.choice((2.0, 3.0, 4.5))}),
        TrialEntry("louder", kind="fan", learners={"warm_up": 20.0}, begun_at=now_ms),
    )
    return chance.choice(choices)


def acknowledged(database: Path, chance: Random, now_ms: int) -> HandlingEntry | None:
    """That somebody looks after an alarm of the database, or snoozes it; None where it has none, or cannot be read now."""
    query = """SELECT s.uuid, e.event_id FROM ml_events e JOIN sensors s ON s.id = e.sensor_id
        WHERE e.status = 'active' ORDER BY e.id DESC LIMIT ?"""
    try:
        connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=0.2)
    except sqlite3.Error:
        return None
    try:
        found = connection.execute(query, (_ALARMS,)).fetchall()
    except sqlite3.Error:  # it is cut off, which is a fault of the plan
        return None
    finally:
        connection.close()
    if not found:
        return None
    sensor, event = chance.choice(found)
    until = now_ms + 5_000 if chance.random() < 0.3 else None
    return HandlingEntry(sensor, event, acknowledged=until is None, snoozed_until=until, by="ann", at=now_ms)
