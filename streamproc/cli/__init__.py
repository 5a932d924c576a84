"""The command line. Each command imports what it needs when it is called, so that `--help` is quick."""

# ruff: noqa: PLC0415  # see above

from __future__ import annotations

import asyncio
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal

import typer

from streamproc import __version__
from streamproc.cli import benches, notifying
from streamproc.cli.loading import loaded
from streamproc.errors import StreamprocError
from streamproc.process import collect_seldom, refused

#: What a shell reports for a program that Ctrl-C has ended: 128 + SIGINT.
INTERRUPTED = 130

app = typer.Typer(
    name="streamproc",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(notifying.commands, name="notify")
app.add_typer(benches.commands, name="bench")

Speed = Annotated[
    float,
    typer.Option(
        min=60, max=36_000, help="How many times faster than real time the hourly series is played."
    ),
]
#: For commands that are defined elsewhere: all arguments, `--help` too, are theirs.
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def _tell_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """An asyncio stream-processing engine for sensor data, on Faust and Kafka."""


def main() -> None:
    """Run the command line; what streamproc refuses is told in a line, with exit code 2."""
    # A tenth of what it takes to import a stage goes into collections that find nothing (the worker's: 0.95 s of CPU time,
    # 0.85 s without).
    collect_seldom()
    try:
        app()
    except StreamprocError as error:
        sys.exit(refused(str(error)))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read the output has left. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _pass_on(module: str, name: str, context: typer.Context) -> None:
    """Run the command or group of commands `name` of `module` with the arguments left in `context`."""
    from streamproc.cli.logs import leave_connecting_out

    loaded()
    leave_connecting_out()
    target = getattr(import_module(module), name)
    if isinstance(target, typer.Typer):
        # Not its command, which would offer to install completion for a program of this name.
        main = typer.main.get_group(target).main
    else:
        alone = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
        alone.command()(target)
        main = typer.main.get_command(alone).main
    sys.exit(main(context.args, prog_name=context.command_path, standalone_mode=True))


@app.command()
def gateway(
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, max=256, help="Number of processes on the port. [STREAMPROC_GATEWAY_WORKERS, or 1]"
        ),
    ] = None,
    worker: Annotated[int | None, typer.Option(hidden=True, help="Be this one of several.")] = None,
    port: Annotated[int | None, typer.Option(hidden=True, help="The port that all of them share.")] = None,
    directory: Annotated[Path | None, typer.Option(hidden=True, help="Where they ask each other.")] = None,
) -> None:
    """Accept packets over HTTP and put them on the topic `readings`."""
    from streamproc.cli.serving import until_signal
    from streamproc.gateway.siblings import Member
    from streamproc.gateway.workers import run, run_member

    settings = loaded(gateway_workers=workers, gateway_port=port)
    if worker is None or directory is None:
        asyncio.run(until_signal(lambda stop: run(settings, stop)))
    else:
        member = Member(worker, settings.gateway_workers, directory)
        asyncio.run(until_signal(lambda stop: run_member(settings, stop, member)))


@app.command()
def worker() -> None:
    """Process readings: windows, learners, severity. Same as `faust -A streamproc.worker worker`."""
    loaded()
    from streamproc.worker import run

    run()


@app.command()
def sink() -> None:
    """Write readings, windows, predictions, events and notifications into the database."""
    loaded()
    from streamproc.sink.app import run

    run()


@app.command(context_settings=PASS_ON)
def jobs(context: typer.Context) -> None:
    """Run scheduled jobs, such as the deletion of old rows, when they are due (and list, run)."""
    if context.args:
        _pass_on("streamproc.jobs.commands", "commands", context)
    from streamproc.cli.serving import serve_to_the_end
    from streamproc.jobs.app import run

    settings = loaded()
    serve_to_the_end(lambda stop: run(settings, stop))


@app.command()
def console() -> None:
    """Show sensors and their changes of severity: a live page and an API, read only."""
    from streamproc.cli.serving import serve_to_the_end
    from streamproc.console.app import run

    settings = loaded()
    serve_to_the_end(lambda stop: run(settings, stop))


@app.command()
def dev(
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Directory of the database, Kafka's log and the logs. [STREAMPROC_DATA_DIR, or data]"
        ),
    ] = None,
    simulate: Annotated[
        bool, typer.Option(help="Simulate devices that send readings: a real series and synthetic ones.")
    ] = True,
    speed: Speed = 3_600,
) -> None:
    """Run everything on this machine: real Kafka, all stages and a simulator. Ctrl-C stops it."""
    from rich.console import Console

    from streamproc.cli.logs import configure
    from streamproc.dev import Options, log_file, run
    from streamproc.settings import FILE, load

    # The backend's file, which counts where none is named, leads to its database: no place for made readings.
    os.environ[FILE] = os.environ.get(FILE) or os.devnull
    settings = load(data_dir=data_dir, auto_register=True)
    configure(settings.log_level, log_file(settings))

    asyncio.run(run(settings, Options(simulate, speed), Console()))


@app.command()
def simulate(
    speed: Speed = 3_600,
) -> None:
    """Register the simulator's sensors and send their readings to the gateway until stopped."""
    settings = loaded()
    from streamproc.cli.serving import until_signal
    from streamproc.dev.simulator import run

    asyncio.run(until_signal(lambda stop: run(settings, speed, stop)))


@app.command(context_settings=PASS_ON)
def topics(context: typer.Context) -> None:
    """Compare topics.yaml with the topics on the broker, and change them (plan, apply, check)."""
    _pass_on("streamproc.topics.commands", "commands", context)


@app.command(context_settings=PASS_ON)
def registry(context: typer.Context) -> None:
    """Devices, sensors, their ranges and rules, recommended actions (import, export, show, remove, history, action)."""
    _pass_on("streamproc.registry.commands", "commands", context)


@app.command(context_settings=PASS_ON)
def alarm(context: typer.Context) -> None:
    """Sensors that are not NORMAL, and who handles them (list, ack, snooze, unack)."""
    _pass_on("streamproc.registry.alarm_commands", "commands", context)


@app.command(context_settings=PASS_ON)
def silence(context: typer.Context) -> None:
    """Times without notifications: once or weekly, for maintenance or not (add, list, end)."""
    _pass_on("streamproc.registry.silence_commands", "commands", context)


@app.command(context_settings=PASS_ON)
def policy(context: typer.Context) -> None:
    """When and how often people are notified, by kind of sensor (set, list, remove)."""
    _pass_on("streamproc.registry.policy_commands", "commands", context)


@app.command(context_settings=PASS_ON)
def trial(context: typer.Context) -> None:
    """Try rules and learners' numbers without notifying anybody (add, list, report, promote, remove, numbers, reset)."""
    _pass_on("streamproc.trials.commands", "commands", context)


@app.command(context_settings=PASS_ON)
def device(context: typer.Context) -> None:
    """Devices and their keys (add, list, show, enable, disable, remove, key new|list|revoke)."""
    _pass_on("streamproc.registry.device_commands", "commands", context)


@app.command(context_settings=PASS_ON)
def dlq(context: typer.Context) -> None:
    """Dead letters: see what was refused and why, and send it again after a fix (list, show, redrive)."""
    _pass_on("streamproc.dlq.commands", "commands", context)


@app.command(context_settings=PASS_ON)
def detect(context: typer.Context) -> None:
    """Find anomalies in a `timestamp,value` file, with the same core as live."""
    _pass_on("streamproc.detect.commands", "detect", context)


@app.command(context_settings=PASS_ON)
def replay(context: typer.Context) -> None:
    """Process a range of readings again, and compare the results with the database or write them there."""
    _pass_on("streamproc.replay.commands", "replay", context)


@app.command(context_settings=PASS_ON)
def explain(context: typer.Context) -> None:
    """Explain an event: its records, what each kind of evidence said, and whether it comes out the same again."""
    _pass_on("streamproc.explain.commands", "explain", context)


@app.command(context_settings=PASS_ON)
def db(context: typer.Context) -> None:
    """The database's schema (migrate, check, status)."""
    _pass_on("streamproc.store.commands", "commands", context)


@app.command()
def doctor() -> None:
    """Check that this machine has what streamproc needs, and say what to do; exit code 1 if something is wrong."""
    import logging

    settings = loaded()
    from streamproc.cli.doctor import State, examine

    logging.disable()  # what libraries log of a broker that is away, the findings tell

    async def told() -> bool:
        well = True
        async for finding in examine(settings):
            print(finding, flush=True)
            well = well and finding.state is not State.WRONG
        return well

    if not asyncio.run(told()):
        raise typer.Exit(1)


@app.command("settings")
def showloaded(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the README's table of all settings.")
    ] = False,
) -> None:
    """Show every setting with its current value; with --markdown, its default."""
    from streamproc.cli.reference import settings_now, settings_table

    print(settings_table() if markdown else settings_now(loaded()))


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


@app.command()
def health(
    stage: Annotated[
        Literal["gateway", "worker", "sink", "notify", "console", "jobs"],
        typer.Argument(help="The stage to ask."),
    ],
    ready: Annotated[bool, typer.Option("--ready", help="Ask whether it is ready to work.")] = False,
) -> None:
    """Ask a stage on this machine whether it is alive; exit code 1 if not. Its address comes from the settings."""
    from streamproc.cli.health import ask
    from streamproc.settings import load

    answer = ask(load(), stage, ready=ready)
    typer.echo(answer.text, err=not answer.ok)
    if not answer.ok:
        raise typer.Exit(1)
