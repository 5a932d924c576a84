"""`python -m tests.fuzz`: nearly right requests to a real gateway for as long as is asked, and the topic looked at."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path
from time import monotonic

from streamproc.kafka.broker import Broker, install
from streamproc.settings import Settings
from streamproc.settings.connection import Connection
from streamproc.topics import apply, load, plan
from tests.fuzz.aim import Target, aim
from tests.fuzz.schema import requests_of_the_document
from tests.fuzz.topic import faults_on
from tests.fuzz.wire import requests_as_bytes
from tests.live.processes import Site, running

#: Requests of a round: to each operation, and as bytes. A round of one gateway takes a minute on two cores.
EXAMPLES, REQUESTS = 50, 2_000
#: A gateway that has been fuzzed for hours has no more memory than one that has been for minutes.
MEMORY_BYTES = 400_000_000


def main() -> int:
    """Fuzz, and tell; 1 where something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument(
        "--seed", type=int, default=1, help="what decides all that is random (default: 1); each round adds 1"
    )
    parser.add_argument(
        "--minutes", type=float, default=3.0, help="how long (default: 3); at least one round"
    )
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as directory:
        try:
            asyncio.run(fuzz(Path(directory), chosen.seed, chosen.minutes * 60))
        except (AssertionError, BaseExceptionGroup) as found:
            print(f"found:\n{found}", file=sys.stderr)
            return 1
        except Exception as found:  # noqa: BLE001  # the task's edge: schemathesis' findings have no common base
            print(f"found: {type(found).__name__}: {found}", file=sys.stderr)
            return 1
    print("nothing found")
    return 0


async def fuzz(directory: Path, seed: int, seconds: float) -> None:
    """Run round after round; raises with what was found."""
    installation = await install(lambda line: print(line, flush=True))
    broker = await Broker.start(installation, directory / "kafka")
    kafka = Connection(broker.bootstrap)
    try:
        await apply(kafka, await plan(kafka, load()))
        async with running(kafka, "", directory) as site:
            await _rounds(site, seed, monotonic() + seconds)
    finally:
        await broker.stop()


async def _rounds(site: Site, seed: int, end: float) -> None:
    target = await aim(site, keyed=False)
    behind = Site(site.bootstrap, "", site.directory / "keyed")
    behind.directory.mkdir()
    behind.stages = site.stages
    keyed = await aim(behind, keyed=True)
    while True:
        print(f"seed {seed}", flush=True)
        await _round(site, target, seed)
        await _round(site, keyed, seed)
        seed += 1
        if monotonic() >= end:
            return


async def _round(site: Site, target: Target, seed: int) -> None:
    stage = target.stage
    answered = await asyncio.to_thread(requests_of_the_document, target.url, EXAMPLES, seed, target.keys)
    answers = await requests_as_bytes(target.place, REQUESTS, seed, target.keys)
    records, faults = await faults_on(site.bootstrap, "readings", Settings.model_validate({}).allowed_skew_ms)
    memory = stage.memory_bytes()
    counts = ", ".join(f"{status}: {count}" for status, count in sorted(answers.counts.items()))
    print(
        f"  {answered} of the document; as bytes {counts}; {records} records; {memory >> 20} MiB", flush=True
    )
    assert not faults, "\n".join(faults[:5])
    assert not stage.told("request_failed"), stage.told("request_failed")[0]
    assert memory < MEMORY_BYTES, f"the gateway has {memory} bytes"


if __name__ == "__main__":
    sys.exit(main())
