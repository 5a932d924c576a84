"""What a seed decides."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.records import ActionEntry, Rule
from streamproc.records.alerting import Document, HandlingEntry
from streamproc.registry.checks import rules_faults
from streamproc.registry.document_checks import document_faults
from tests.chaos.faults import Faults
from tests.chaos.orders import at_first, order
from tests.chaos.packets import entries
from tests.chaos.plan import DATABASE_FAULTS, MEASURED_S, PROCESS_FAULTS, plan

SECONDS = 180.0


@settings(max_examples=25, deadline=None)  # 40 ms each: 10,000 sensors
@given(st.integers(0, 10_000))
def test_a_seed_decides_everything(seed: int) -> None:
    """The same seed gives the same plan, whenever it is asked."""
    assert plan(seed, SECONDS) == plan(seed, SECONDS)


@settings(max_examples=25, deadline=None)  # 40 ms each: 10,000 sensors
@given(st.integers(0, 10_000))
def test_faults_fit_into_the_load(seed: int) -> None:
    """None begins before the stages work or ends after the load, and no process's fault begins amid another."""
    faults = plan(seed, SECONDS).faults
    assert all(fault.at_s >= 12 and fault.at_s + fault.lasts_s < SECONDS for fault in faults)
    alone = [fault for fault in faults if fault.kind in PROCESS_FAULTS]
    assert all(before.at_s + before.lasts_s < after.at_s for before, after in pairwise(alone))


@settings(max_examples=25, deadline=None)  # 40 ms each: 10,000 sensors
@given(st.integers(0, 10_000))
def test_recovery_has_the_time_to_be_measured(seed: int) -> None:
    """With 10,000 sensors no fault of a process comes before the one before is over by MEASURED_S, nor does the end."""
    faults = [fault for fault in plan(seed, SECONDS, "recovery").faults if fault.kind in PROCESS_FAULTS]
    begins = [fault.at_s for fault in faults[1:]] + [SECONDS]
    assert all(
        fault.at_s + fault.lasts_s + MEASURED_S <= begin + 0.02  # both are rounded to 10 ms
        for fault, begin in zip(faults, begins, strict=True)
    )


def test_twenty_seeds_have_every_kind() -> None:
    """Each fault comes in twenty seeds of three minutes, and each can be done."""
    kinds = {fault.kind for seed in range(1, 21) for fault in plan(seed, SECONDS).faults}
    assert kinds == PROCESS_FAULTS.keys() | DATABASE_FAULTS.keys()
    assert all(hasattr(Faults, kind.replace("-", "_")) for kind in kinds)


def test_rules_of_each_kind_are_there() -> None:
    """In both profiles; and what people say is what the registry takes."""
    for profile in ("recovery", "busy"):
        made = plan(1, SECONDS, profile)
        found = {type(rule) for entry in entries(made) for rule in entry.rules}
        assert found == set(get_args(Rule))
        chance = Random(1)  # noqa: S311  # made data
        said = [*at_first(), *(order(made, chance, 1_700_000_000_000) for _ in range(200))]
        faults = [document_faults(each) for each in said if not isinstance(each, ActionEntry)]
        faults += [rules_faults(entry.rules) for entry in entries(made)[:100]]
        assert [fault for its in faults for fault in its] == []
        assert {type(document) for document in said} == set(get_args(Document)) - {ActionEntry, HandlingEntry}
