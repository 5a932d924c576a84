"""`python -m tests.chaos`: faults at random on real processes, and nothing lost, doubled or different."""

from __future__ import annotations

import argparse
import asyncio
import logging
import shutil
import sys
import tempfile
from pathlib import Path

from streamproc.kafka.broker import install
from tests.chaos.plan import plan
from tests.chaos.run import Outcome, run

#: The promise: from a kill to the first new result.
RECOVERY_S = 10.0


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
    parser.add_argument("--report", type=Path, help="a file to which a line is added for each seed")
    parser.add_argument(
        "--directory", type=Path, help="where to keep logs and data (default: a new folder in /tmp)"
    )
    parser.add_argument("--keep", action="store_true", help="keep the folder though nothing is wrong")
    return parser.parse_args()


def main() -> int:
    """Run the seeds; 0 where all is well, 1 otherwise."""
    chosen = arguments()
    installation = asyncio.run(install(print))
    failed = False
    for seed in range(chosen.seed, chosen.seed + chosen.seeds):
        base = chosen.directory or Path(tempfile.mkdtemp(prefix="chaos-"))
        made = plan(seed, chosen.minutes * 60, chosen.profile)
        directory = base / f"seed-{seed}"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        # What the driver's own clients say of a broker that is away is no news on the terminal.
        logging.basicConfig(filename=directory / "driver.log", force=True)
        outcome = asyncio.run(run(made, installation, directory, print))
        wrong = _tell(outcome, chosen)
        failed = failed or wrong
        if chosen.report:
            with chosen.report.open("a") as file:
                file.write(outcome.line() + "\n")
    return int(failed)


def _tell(outcome: Outcome, chosen: argparse.Namespace) -> bool:
    for line in outcome.lines(RECOVERY_S):
        print(line, flush=True)
    wrong = bool(outcome.faults(RECOVERY_S))
    if wrong:
        profile = f" --profile {chosen.profile}" if chosen.profile else ""
        print(f"logs and data: {outcome.directory}")
        print(
            f"again: python -m tests.chaos --seed {outcome.plan.seed} --minutes {chosen.minutes:g}{profile}"
        )
    elif not chosen.keep:
        outcome.remove()
    return wrong


if __name__ == "__main__":
    sys.exit(main())
