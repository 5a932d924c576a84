"""`python -m tests.chaos`: faults at random on real processes, and nothing lost, doubled or different."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from types import FrameType

from streamproc.kafka.broker import Installation, install
from tests.chaos import report
from tests.chaos.outcome import Outcome
from tests.chaos.plan import Plan, plan
from tests.chaos.report import Told
from tests.chaos.run import run

#: The promise: from a kill to the first new result.
RECOVERY_S = 10.0
#: What a shell gives to a command that Ctrl-C has ended: 128 and the signal's number.
INTERRUPTED = 128 + signal.SIGINT


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="what decides all that is random (default: 1)")
    parser.add_argument(
        "--seeds", type=int, default=1, help="so many seeds, one after the other, from --seed on"
    )
    parser.add_argument("--minutes", type=float, default=3.0, help="how long each load lasts (default: 3)")
    parser.add_argument(
        "--profile", choices=("recovery", "busy"), help="10,000 sensors or 300; by default the seed decides"
    )
    parser.add_argument(
        "--report", type=Path, help="a file to which each seed is added as it ends, and a table at the end"
    )
    parser.add_argument(
        "--resume", action="store_true", help="leave out the seeds that --report has, and count them in"
    )
    parser.add_argument(
        "--directory", type=Path, help="where to keep logs and data (default: a new folder in /tmp)"
    )
    parser.add_argument("--keep", action="store_true", help="keep the folder though nothing is wrong")
    chosen = parser.parse_args()
    if chosen.resume and not chosen.report:
        parser.error("--resume needs --report: which seeds are done?")
    return chosen


def main() -> int:
    """Run the seeds; 0 where all is well, 1 where something is lost, doubled, different or not over, 130 when interrupted."""
    chosen = arguments()
    signal.signal(signal.SIGTERM, _interrupt)
    base = chosen.directory or Path(tempfile.mkdtemp(prefix="chaos-"))
    told = report.read(chosen.report) if chosen.resume else []
    told = [seed for seed in told if seed.seconds == round(chosen.minutes * 60)]
    try:
        installation = asyncio.run(install(print))
        for seed in range(chosen.seed, chosen.seed + chosen.seeds):
            made = plan(seed, chosen.minutes * 60, chosen.profile)
            if any((done.seed, done.profile) == (seed, made.profile) for done in told):
                print(f"seed {seed} is in {chosen.report}", flush=True)
            else:
                told.append(_seed(made, installation, base / f"seed-{seed}", chosen))
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        return INTERRUPTED
    finally:
        _tell_table(told, chosen)
        with suppress(OSError):  # where something is kept in it
            base.rmdir()
    return int(any(seed.wrong for seed in told))


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM ends it as Ctrl-C does: with its processes."""
    os.kill(os.getpid(), signal.SIGINT)


def _seed(made: Plan, installation: Installation, directory: Path, chosen: argparse.Namespace) -> Told:
    """Run one seed, and tell what it has shown on the terminal and in the report."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    # What the driver's own clients say of a broker that is away is no news on the terminal.
    logging.basicConfig(filename=directory / "driver.log", force=True)
    try:
        outcome = asyncio.run(run(made, installation, directory, print))
    except KeyboardInterrupt:
        if not chosen.keep:
            shutil.rmtree(directory, ignore_errors=True)
        raise
    told = Told.of(outcome)
    if chosen.report:
        with chosen.report.open("a") as file:
            file.write(told.text())
    _print(outcome, chosen)
    return told


def _print(outcome: Outcome, chosen: argparse.Namespace) -> None:
    for line in outcome.lines(RECOVERY_S):
        print(line, flush=True)
    if outcome.wrong() or outcome.slow(RECOVERY_S):
        profile = f" --profile {chosen.profile}" if chosen.profile else ""
        print(f"logs and data: {outcome.directory}")
        print(
            f"again: python -m tests.chaos --seed {outcome.plan.seed} --minutes {chosen.minutes:g}{profile}"
        )
    elif not chosen.keep:
        outcome.remove()


def _tell_table(told: list[Told], chosen: argparse.Namespace) -> None:
    lines = report.table(told)
    print("\n".join(lines), flush=True)
    if chosen.report:
        with chosen.report.open("a") as file:
            file.write("\n".join(["", *lines, ""]) + "\n")


if __name__ == "__main__":
    sys.exit(main())
