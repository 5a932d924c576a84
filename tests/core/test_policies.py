"""Policies of the registry: whose they are, and that they count from their place in the stream on."""

from __future__ import annotations

import msgspec
import pytest

from streamproc.core.checkpoint import resume, snapshot
from streamproc.core.policies import policies_of, policy_of
from streamproc.core.registry import RegistryLog
from streamproc.records import ANY_KIND, Range, SensorEntry
from streamproc.records.alerting import PolicyEntry
from tests.core.oracle import HERE, NOW, OPTIONS, Reading, Record, Told, feed, new_state, registry

PUMP, FAN, BARE = HERE[:3]
PUMPS = PolicyEntry("pump", up_windows=3)
ALL = PolicyEntry(ANY_KIND, up_windows=2)


def site() -> RegistryLog:
    """A pump and a fan with one range."""
    limits = Range(0, 50)
    return registry(
        SensorEntry(PUMP, kind="Pump", warning=limits), SensorEntry(FAN, kind="fan", warning=limits)
    )


def out(begin: int, end: int) -> list[Record]:
    """A reading outside the range of each sensor, each second."""
    return [
        Record(NOW + 1_000 * at, (Reading(name, 60.0, NOW + 1_000 * at),))
        for at in range(begin, end)
        for name in (PUMP, FAN)
    ]


def raised(told: Told) -> dict[str, int]:
    """When each sensor was told to be up first, in seconds."""
    events = {name: msgspec.json.decode(rows[0])[0] for name, rows in told.events.items()}
    return {name: (event["at"] - NOW) // 1_000 for name, event in events.items()}


def test_a_sensor_goes_by_its_kinds_policy_or_by_that_of_all() -> None:
    """Kinds are in small letters there; who has none goes by all's; without that all is as usual."""
    policies = policies_of({entry.key: entry for entry in (PUMPS, ALL)})
    assert policy_of(SensorEntry(PUMP, kind="PUMP"), policies) == PUMPS
    assert policy_of(SensorEntry(FAN, kind="fan"), policies) == ALL
    assert policy_of(None, policies) == ALL
    assert policy_of(SensorEntry(FAN, kind="fan"), {PUMPS.kind: PUMPS}).up_windows == 1


@pytest.mark.parametrize("cuts", [(), range(40)])
def test_a_policy_counts_from_its_place_on(cuts: tuple[int, ...] | range) -> None:
    """Before it readings raise at once, after it after as many windows; once it is removed, at once again."""
    log = site()
    assert raised(feed(new_state(), out(0, 12), cuts, log)) == {PUMP: 0, FAN: 0}
    log.append_document(log.position, NOW - 5, PUMPS.key, PUMPS)
    log.append_document(log.position, NOW - 5, ALL.key, ALL)
    assert raised(feed(new_state(), out(0, 12), cuts, log)) == {PUMP: 3, FAN: 2}
    position = log.position
    log.append_document(log.position, NOW + 500, PUMPS.key, None)
    log.append_document(log.position, NOW + 500, ALL.key, None)
    edit = Record(NOW + 900, edit=b"%d" % log.position)
    assert position < log.position
    assert raised(feed(new_state(), [*out(0, 1), edit, *out(1, 12)], cuts, log)) == {PUMP: 1, FAN: 1}


def test_a_restored_state_goes_by_the_policies_of_its_place() -> None:
    """They are the registry's, and no part of a checkpoint; what was counted by them is."""
    log = site()
    log.append_document(log.position, NOW - 5, PUMPS.key, PUMPS)
    state = new_state()
    records = out(0, 12)
    feed(state, records[:5], (), log)
    restored = resume(OPTIONS, snapshot(state))
    told = feed(restored, records, (), log)
    assert told == feed(state, records, (), log)
    assert raised(told) == {PUMP: 3}


def test_a_sensor_that_the_registry_does_not_know_goes_by_all() -> None:
    """Its learners' windows count by the policy of all kinds; of one that comes later, too."""
    log = RegistryLog()
    log.append_document(0, NOW - 5, ALL.key, ALL)
    state = new_state()
    feed(state, [Record(NOW, (Reading(BARE, 1.0, NOW),))], (), log)
    bank = state.router.severity
    slot = state.sensors.slot_of(BARE)
    assert slot is not None
    assert bank.policy(slot) == ALL
