"""`streamproc bench …`. Each imports what it measures when it is called, so that `--help` is quick."""

# ruff: noqa: PLC0415  # see above

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Literal

import typer

from streamproc.cli.loading import loaded

commands = typer.Typer(no_args_is_help=True, help="Measure the README's figures again.")


@commands.command("engine")
def engine(
    readings: Annotated[int, typer.Option(min=1, help="Total number of readings.")] = 4_000_000,
    sensors: Annotated[int, typer.Option(min=1, help="Number of sensors.")] = 1_000,
    rate: Annotated[float, typer.Option(min=1, help="Readings in a second of event time.")] = 2_000,
    rules: Annotated[
        bool,
        typer.Option("--rules", help="Register the sensors, with a critical range and a rule of each kind."),
    ] = False,
) -> None:
    """Readings per second of wall and CPU time through Kafka, windows, learners and checkpoints."""
    loaded()
    from streamproc.bench.engine import Load, run
    from streamproc.cli.serving import measured

    measured(run(Load(readings, sensors, rate, rules)))


@commands.command("latency")
def latency(
    seconds: Annotated[float, typer.Option(min=5, max=3_600, help="How long to measure.")] = 30,
    rate: Annotated[int, typer.Option(min=100, max=100_000, help="Readings per second.")] = 5_000,
) -> None:
    """From POST to the severity event on its topic, and to its row: p50 and p99."""
    loaded()
    from streamproc.bench.latency import run
    from streamproc.cli.serving import measured

    measured(run(seconds, rate))


@commands.command("gateway")
def gateway(
    seconds: Annotated[float, typer.Option(min=1, max=3_600, help="How long each round takes.")] = 10,
    rounds: Annotated[
        int, typer.Option(min=1, max=100, help="Rounds for each server; the middle one counts.")
    ] = 3,
    connections: Annotated[
        list[int] | None,
        typer.Option(min=1, max=20_000, help="Number of connections; may be repeated. [64, 1000]"),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Number of gateway processes.")] = 1,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.1, help="Only load the gateway for so long, and show its memory over time."),
    ] = None,
) -> None:
    """Packets per CPU-second that the gateway accepts, beside an aiohttp handler that only reads them; latency, memory."""
    loaded()
    from streamproc.bench.gateway import Plan, run, soak

    if minutes is not None:
        asyncio.run(soak(minutes, (connections or [64])[0], workers))
    else:
        asyncio.run(run(Plan(tuple(connections or (64, 1_000)), seconds, rounds, workers)))


@commands.command("anomalies")
def anomalies(
    directory: Annotated[
        Path,
        typer.Argument(
            help="Labelled series: windows.json and data/GROUP/NAME.csv, as the Numenta benchmark has them."
        ),
    ] = Path("../shared/anomalies"),
) -> None:
    """The learners' score on labelled series, how often their forecasts' ranges hold, and their cost."""
    from streamproc.bench.anomalies import run

    run(directory)


@commands.command("faults")
def faults(
    seeds: Annotated[
        int, typer.Option(min=1, max=1_000, help="Sensors for each fault, size, sampling and kind of series.")
    ] = 20,
    sampling: Annotated[
        Literal["1s", "10s", "1min", "5min"] | None,
        typer.Option(help="Time between a sensor's readings; by default all four in turn."),
    ] = None,
    days: Annotated[
        int,
        typer.Option(
            min=0, max=3_000, help="Sensor-days of each kind of clean series at 1 s, in steps of 30."
        ),
    ] = 30,
    fault: Annotated[
        list[str] | None, typer.Option(help="Only this fault, by its name in the tables; may be repeated.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables of docs/faults.md.")] = False,
) -> None:
    """Which faults of a catalogue the engine finds, how soon, and its alarms on clean series."""
    from streamproc.bench.fault_report import run
    from streamproc.bench.fault_series import FAULTS

    if unknown := set(fault or ()) - {one.name for one in FAULTS}:
        raise typer.BadParameter(
            f"{', '.join(sorted(unknown))} is none of {', '.join(one.name for one in FAULTS)}"
        )
    samplings = (sampling,) if sampling else ("1s", "10s", "1min", "5min")
    run(samplings, seeds, days, only=fault or (), markdown=markdown)


@commands.command("sink")
def sink(
    rows: Annotated[int, typer.Option(min=1, help="Total number of rows.")] = 1_000_000,
    store: Annotated[
        Literal["sqlite", "sqlserver"],
        typer.Option(help="sqlserver: in a database made for it on the server of DB_HOST."),
    ] = "sqlite",
) -> None:
    """Rows that the sink writes, against a bare driver: per CPU-second with SQLite, per second with SQL Server."""
    settings = loaded(store=store)
    from streamproc.cli.serving import measured

    if store == "sqlserver":
        from streamproc.bench import sqlserver

        measured(sqlserver.run(settings, rows))
        return
    from streamproc.bench.sink import run

    measured(run(rows))
