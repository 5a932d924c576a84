"""`streamproc explain EVENT_ID [--json]`."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from streamproc import settings
from streamproc.core.counted import counted
from streamproc.explain import report
from streamproc.explain.find import find
from streamproc.explain.reasons import Finding, judge
from streamproc.explain.report import Told
from streamproc.explain.source import recompute, source_of
from streamproc.kafka.chunks import AS_A_WORKER
from streamproc.kafka.reading import consuming
from streamproc.process import tune_collector
from streamproc.settings import Settings


def explain(
    event_id: Annotated[
        str,
        typer.Argument(metavar="EVENT_ID", help="The event's id, as in ml_events or on the topic `events`."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
) -> None:
    """Explain an event: its records, what each kind of evidence said, the rule, the versions.

    It is made once more of its records on `readings`, by the engine's core.
    Exit code 0: it comes out the same, byte for byte. 1: it does not. 2: an error, such as an unknown event.
    3: its records are gone from Kafka.
    """
    told = asyncio.run(_explained(settings.load(), event_id.strip().lower()))
    typer.echo(report.as_json(told) if as_json else report.as_text(told))
    raise typer.Exit(int(told.finding.verdict))


async def _explained(chosen: Settings, event_id: str) -> Told:
    tune_collector()
    async with consuming(chosen.kafka, AS_A_WORKER) as consumer:
        found = await find(chosen, consumer, event_id)
        event = found.event
        source = await source_of(chosen, consumer, event)
        if source.has(event):
            records = source.begin - source.start
            if records:
                typer.echo(
                    f"reading {counted(records, 'record')} before it, from offset {source.start} on", err=True
                )
        made = await recompute(chosen, consumer, source, event) if source.has(event) else None
    finding: Finding = judge(event, source, made)
    return Told(found, source, made, finding)
