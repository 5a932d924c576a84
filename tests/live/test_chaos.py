"""A short chaos on real processes: whatever is killed, the database holds each thing once (tests/chaos has the long one)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from streamproc.kafka.broker import Installation
from tests.chaos.__main__ import RECOVERY_S
from tests.chaos.plan import Fault, plan
from tests.chaos.run import run

#: One of each kind that needs another way of recovery, close enough together to be felt by one another.
FAULTS = (
    Fault(8, "kill-worker", 0, 0),
    Fault(11, "database-locked", 0, 5),
    Fault(14, "kill-all", 0, 0),
    Fault(22, "broker-kill", 0, 0),
    Fault(31, "bad-checkpoint", 0, 0),
    Fault(34, "kill-sink", 0, 0),
)


@pytest.mark.timeout(600)  # it takes 70 s where nothing else runs
async def test_nothing_is_lost_doubled_or_different(installation: Installation, tmp_path: Path) -> None:
    """Gateway, two workers, sink and broker, each killed amid the load of 120 sensors with all their oddities."""
    whole = plan(seed=7, seconds=40, profile="busy")
    made = dataclasses.replace(whole, devices=whole.devices[:40], faults=FAULTS)
    outcome = await run(made, installation, tmp_path, lambda _: None)
    assert not outcome.wrong(), "\n".join(outcome.lines(RECOVERY_S))
    assert outcome.verdict.compared["readings"] > 1_000
    assert outcome.verdict.compared["events"] > 10
    assert outcome.verdict.compared["foreign readings"] > 10
