"""What a seed decides."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.chaos.faults import Faults
from tests.chaos.plan import DATABASE_FAULTS, PROCESS_FAULTS, plan

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


def test_twenty_seeds_have_every_kind() -> None:
    """Each fault comes in twenty seeds of three minutes, and each can be done."""
    kinds = {fault.kind for seed in range(1, 21) for fault in plan(seed, SECONDS).faults}
    assert kinds == PROCESS_FAULTS.keys() | DATABASE_FAULTS.keys()
    assert all(hasattr(Faults, kind.replace("-", "_")) for kind in kinds)
