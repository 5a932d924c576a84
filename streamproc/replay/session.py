"""A replay from command to report: prepared or resumed, run, reported, and confirmed before it writes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import Enum
from pathlib import Path
from time import monotonic, process_time

import msgspec
import typer
from aiokafka import AIOKafkaConsumer

from streamproc.core.counted import counted
from streamproc.core.registry import RegistryLog
from streamproc.kafka.chunks import AS_A_WORKER
from streamproc.kafka.reading import consuming
from streamproc.process import tune_collector
from streamproc.registry import Registry
from streamproc.replay import report
from streamproc.replay.journal import Journal
from streamproc.replay.ranges import Overlaid
from streamproc.replay.request import Interrupted, Request
from streamproc.replay.run import Pace, Replay, Site
from streamproc.replay.screen import showing
from streamproc.replay.span import Span, spans, told
from streamproc.settings import Settings
from streamproc.store import connect, must_exist
from streamproc.store.protocol import Store


class Outcome(Enum):
    """Whether the database holds what the replay gives, or that cannot be told of a whole partition of the range."""

    SAME = "same"
    DIFFERENT = "different"
    UNCOMPARED = "not compared"


class Session:
    """One command. `ask` is asked before anything is written (None: it need not be), `output` gets the differences."""

    def __init__(
        self, settings: Settings, request: Request, ask: Callable[[str], bool] | None, output: Path | None
    ) -> None:
        self._settings, self._request, self._ask, self._output = settings, request, ask, output
        self._stopped = False
        tune_collector()

    def stop(self) -> None:
        """Have `run` end soon, so that it can be gone on with."""
        self._stopped = True

    async def run(self) -> Outcome:
        """Do it; raises Interrupted or StreamprocError."""
        folder = self._request.folder(self._settings)
        must_exist(self._settings)
        journal = Journal(folder)
        try:
            async with _opened(self._settings) as store:
                group = self._settings.group(f"replay-{folder.name}")
                async with consuming(self._settings.kafka, AS_A_WORKER, group) as consumer:
                    outcome = await self._run(journal, store, consumer)
        except BaseException:
            journal.close()
            raise
        journal.remove()
        return outcome

    async def _run(self, journal: Journal, store: Store, consumer: AIOKafkaConsumer) -> Outcome:
        found = await self._planned(journal, store, consumer)
        registry = await self._registry()
        for line in told(found):
            typer.echo(f"note: {line}")
        if not any(span.begin < span.end for span in found):
            return self._nothing(found)
        asked = self._request.apply and self._ask is not None
        write = self._request.apply and (not asked or journal.fact("phase") == "apply")
        while True:
            with showing("applying" if write else "comparing") as show:
                site = Site(
                    self._settings,
                    self._request,
                    store,
                    consumer,
                    journal,
                    registry,
                    show,
                    lambda: self._stopped,
                )
                replay = Replay(site, found, write=write)
                done = await replay.run()
            if not done:
                raise Interrupted(
                    f"interrupted after {replay.pace.done:,} of {replay.pace.total:,} records; "
                    "the same command goes on from there"
                )
            self._tell(journal, replay.pace)
            if write or not asked or not report.differ(journal.counts()):
                return self._ended(journal, found, write=write)
            if self._ask is None or not self._ask("Write this to the database?"):
                typer.echo("nothing was written")
                return Outcome.DIFFERENT
            journal.restart("apply")
            write = True

    async def _planned(self, journal: Journal, store: Store, consumer: AIOKafkaConsumer) -> list[Span]:
        """The spans; those of an earlier run where there was one, whatever came onto the topic since."""
        kept = journal.fact("spans")
        if kept is not None:
            typer.echo("going on where it was interrupted", err=True)
            return msgspec.convert(kept, list[Span])
        found = await spans(self._settings, self._request, store, consumer, lambda: self._stopped)
        journal.put("spans", found)
        journal.commit()
        return found

    async def _registry(self) -> RegistryLog:
        """What sensors are judged by: the registry at each record's place, and the request's ranges before it."""
        registry = Registry(self._settings.kafka, self._settings.topic("registry"))
        await registry.start()
        await registry.stop()
        return Overlaid(registry.log, self._request.ranges) if self._request.ranges else registry.log

    def _tell(self, journal: Journal, pace: Pace) -> None:
        """Print what was found."""
        counts = journal.counts()
        for line in report.summary(counts):
            typer.echo(line)
        listed = report.differ(counts) + report.refused(counts)
        for line in report.shown(journal.differences(), listed):
            typer.echo(line)
        if self._output is not None:
            report.write(self._output, journal.differences())
        seconds, cpu = monotonic() - pace.began, process_time() - pace.cpu
        typer.echo(
            f"{counted(pace.readings, 'reading')} in {seconds:.1f} s, {pace.readings / max(cpu, 1e-3):,.0f} per CPU-second",
            err=True,
        )

    def _ended(self, journal: Journal, found: list[Span], *, write: bool) -> Outcome:
        counts = journal.counts()
        remaining = report.left(counts) if write else report.differ(counts)
        lacking = self._lacking(found)
        return Outcome.DIFFERENT if remaining else lacking

    def _nothing(self, found: list[Span]) -> Outcome:
        """Say that there is nothing to compare, and whether that is as it should be."""
        outcome = self._lacking(found)
        if outcome is Outcome.SAME:
            typer.echo("nothing to compare: there are no records in this range")
        return outcome

    @staticmethod
    def _lacking(found: list[Span]) -> Outcome:
        """Say which partitions were not compared at all."""
        lacking = [str(span.partition) for span in found if span.uncompared]
        if not lacking:
            return Outcome.SAME
        typer.echo(
            f"NOT COMPARED: {len(lacking)} of {len(found)} partitions of the range ({', '.join(lacking)})"
        )
        return Outcome.UNCOMPARED


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[Store]:
    store = connect(
        settings, process="replay", migrates=False
    )  # to look changes nothing, and who applies is asked first
    try:
        await store.open()
        yield store
    finally:
        await store.close()
