"""`streamproc trial add|list|remove|report|promote|numbers|reset`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import typer
import yaml
from rich.markup import escape

from streamproc.core.counted import counted
from streamproc.core.numbers import TUNABLE
from streamproc.core.trial import applies
from streamproc.errors import RegistryError, UnknownEntry
from streamproc.process import epoch_ms
from streamproc.records import ANY_KIND, Range, Rule
from streamproc.records.alerting import TRIAL_PREFIX, LearnersEntry, PolicyEntry, TrialEntry
from streamproc.registry import tables
from streamproc.registry.document_checks import normal, trial_faults
from streamproc.registry.session import edit, looking
from streamproc.registry.spans import length_ms, moment_or_ago, moment_text
from streamproc.store.documents import PutDocument, RemoveDocument
from streamproc.store.edits import Entry, PutSensor, documents, sensors
from streamproc.store.trial_history import SeverityChange, TrialHistory
from streamproc.trials.comparing import Span, compared
from streamproc.trials.promotion import edits_of
from streamproc.trials.report import plain, table, words

commands = typer.Typer(
    no_args_is_help=True,
    help="Try rules and learners' numbers beside the live ones: results are recorded, nobody is notified.",
)

Name = Annotated[str, typer.Argument(help="The trial's name.")]
#: Each trial judges its sensors once more: so many at once would cost more than the engine itself.
MOST = 16


#: What the options of `trial add` are about, as its help groups them.
_WHERE, _WHAT = "Where: one of them", "What to try: any of them"


@commands.command()
def add(  # noqa: PLR0913  # each is an option of the command
    name: Annotated[str, typer.Argument(help="A name of your own: a-z, 0-9, dot, dash, underscore.")],
    *,
    kind: Annotated[
        str | None, typer.Option(help="All sensors of this kind.", rich_help_panel=_WHERE)
    ] = None,
    sensor: Annotated[str | None, typer.Option(help="This sensor.", rich_help_panel=_WHERE)] = None,
    every: Annotated[bool, typer.Option("--all", help="All sensors.", rich_help_panel=_WHERE)] = False,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULE",
            help="A rule as in `registry import`: '{rule: delta_spike, absolute: 2}'. May be given again.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    instead: Annotated[
        bool,
        typer.Option(
            "--instead",
            help="The rules replace the sensors' own rules of the same sort.",
            rich_help_panel=_WHAT,
        ),
    ] = False,
    warning: Annotated[
        str | None,
        typer.Option(
            metavar="RANGE",
            help="Another warning range: '{low: 1, high: 8, clear_high: 7}'.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    critical: Annotated[
        str | None, typer.Option(metavar="RANGE", help="Another critical range.", rich_help_panel=_WHAT)
    ] = None,
    up_windows: Annotated[
        int | None,
        typer.Option(
            help="Windows in a row that must ask for a higher severity before it goes up.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    down_windows: Annotated[
        int | None,
        typer.Option(help="Calm windows in a row before the severity goes down.", rich_help_panel=_WHAT),
    ] = None,
    flapping: Annotated[
        bool | None,
        typer.Option(
            "--flapping/--no-flapping", help="Hold the severity while a sensor flaps.", rich_help_panel=_WHAT
        ),
    ] = None,
    learner: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=NUMBER",
            help="A number of the learners, such as alarm_surprise=4; see `trial numbers`. May be given again.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    reason: Annotated[str | None, typer.Option(help="What the trial is for.")] = None,
) -> None:
    """Begin a trial, or begin it anew with these options. Within a second it judges what its sensors send.

    streamproc trial add calmer --kind pump --learner alarm_surprise=4 --reason "pumps cry wolf"

    streamproc trial add jumps --sensor boiler-3 --rule "{rule: delta_spike, absolute: 2}" --instead
    """
    if sum((kind is not None, sensor is not None, every)) != 1:
        raise RegistryError("say where to try it: --kind KIND, --sensor SENSOR or --all")
    entry = normal(
        TrialEntry(
            name,
            kind=kind or ANY_KIND,
            sensor=sensor,
            rules=tuple(_parsed(text, Rule) for text in rule or ()),
            instead=instead,
            warning=None if warning is None else _parsed(warning, Range),
            critical=None if critical is None else _parsed(critical, Range),
            learners=_numbers(learner or ()),
            up_windows=up_windows,
            down_windows=down_windows,
            flapping=flapping,
            begun_at=epoch_ms(),
            reason=reason,
        )
    )
    faults = list(trial_faults(entry))
    if instead and not entry.rules:
        faults.append("--instead is about rules: give the --rule that takes the place of the sensors' own")
    if not (entry.rules or entry.warning or entry.critical or entry.learners or entry.policy):
        faults.append(
            "say what to try: --rule, --warning, --critical, --learner, --up-windows, --down-windows or --no-flapping"
        )
    if faults:
        raise RegistryError("\n".join(faults))
    count = asyncio.run(_add(entry))
    typer.echo(
        f"trial {entry.trial} has begun at {counted(count, 'sensor')} of the registry; see `trial report {entry.trial}`"
    )
    if not count:
        typer.echo("note: no sensor of the registry is like that, yet", err=True)


async def _add(entry: TrialEntry) -> int:
    """Save it; gives how many sensors it is of."""
    async with looking() as store:
        found = await store.registry()
    others = [one for one in _trials(found) if one.trial != entry.trial]
    if len(others) >= MOST:
        raise RegistryError(f"{MOST} trials are on already, the most there may be: remove one of them first")
    was = found.get(entry.key)
    await edit([PutDocument(entry, was.version if was else 0)])
    return sum(applies(entry, one.sensor, one) for one in sensors(found))


@commands.command("list")
def list_() -> None:
    """Show the trials that are running."""

    async def run() -> list[TrialEntry]:
        async with looking() as store:
            return _trials(await store.registry())

    found = asyncio.run(run())
    made = tables.of("trial", "version", "of", "since", "tries", "reason")
    for one in found:
        since = moment_text(one.begun_at or None)
        row = (one.trial, str(one.version), _whom(one), since, _tries(one), one.reason or "")
        made.add_row(*map(escape, row))
    if found:
        tables.show(made)
    else:
        typer.echo("no trials")


@commands.command()
def remove(name: Name) -> None:
    """End a trial, and change nothing else. Its results stay, and `trial report` shows them."""
    asyncio.run(edit([RemoveDocument("trial", name.lower())]))
    typer.echo(f"trial {name.lower()} has ended")


@commands.command()
def report(
    name: Name,
    *,
    since: Annotated[
        str | None,
        typer.Option(help="Begin of the report: 2026-11-22T14:00 (UTC), or 2d for the last two days."),
    ] = None,
    until: Annotated[str | None, typer.Option(help="End of the report; by default now.")] = None,
    within: Annotated[
        str, typer.Option(help="Two alarms that begin no further apart than this count as the same.")
    ] = "1m",
    rows: Annotated[
        int, typer.Option(min=1, help="Show so many sensors, those with the greatest differences.")
    ] = 40,
    json: Annotated[bool, typer.Option("--json", help="As JSON, with all sensors.")] = False,
) -> None:
    """Compare the alarms of a trial with the live ones, sensor by sensor and in total."""
    now = epoch_ms()
    history, told, span = asyncio.run(
        _recorded(
            name.lower(),
            None if since is None else moment_or_ago(since, now),
            now if until is None else moment_or_ago(until, now),
        )
    )
    span = Span(span.since, span.until, length_ms(within))
    found = compared(history, told, span)
    if json:
        typer.echo(msgspec.json.encode(plain(name.lower(), history, span, found)).decode())
        return
    for line in words(name.lower(), history, span, found):
        typer.echo(line)
    if any(one.live or one.trial or one.differs for one in found):
        typer.echo("")
        tables.show(table(found, rows))


async def _recorded(
    name: str, since: int | None, until: int
) -> tuple[TrialHistory, list[SeverityChange], Span]:
    async with looking() as store:
        history = await store.trial_recorded(name)
        if history is None:
            raise UnknownEntry(
                f"nothing is recorded of a trial {name}: see `streamproc trial list`; one that has just begun shows once its"
                " sensors have sent something, and the sink has written it"
            )
        begun = history.begun_at or min(change.at for change in history.changes)
        # A sensor's clock may be behind: its begin in the trial is then before the trial's.
        first = min(begun, *(change.at for change in history.changes if change.at))
        told = await store.trial_told(name, first, until)
    return history, told, Span(since or first, until)


@commands.command()
def promote(
    name: Name,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")
    ] = False,
) -> None:
    """Make a trial live, and end it: its sensors get its rules and ranges, the live learners its numbers."""
    trial, found = asyncio.run(_standing(name.lower()))
    edits = edits_of(trial, found)
    changed = [one.entry.sensor for one in edits if isinstance(one, PutSensor)]
    if not dry_run:
        asyncio.run(edit(edits))
    would = "would be" if dry_run else "are"
    if trial.rules or trial.warning or trial.critical:
        typer.echo(
            f"the rules and ranges of {counted(len(changed), 'sensor')} {would} those of trial {trial.trial}"
        )
        for sensor in changed if dry_run else ():
            typer.echo(f"  {sensor}")
    if trial.learners:
        typer.echo(
            f"the live learners of kind {trial.kind} {'would ' if dry_run else ''}go by {_pairs(trial.learners)}"
        )
    for kind in (
        one.entry.kind for one in edits if isinstance(one, PutDocument) and isinstance(one.entry, PolicyEntry)
    ):
        typer.echo(f"the policy of kind {kind} {'would have' if dry_run else 'has'} {_policy(trial)}")
    if not dry_run:
        typer.echo(f"trial {trial.trial} has ended")


async def _standing(name: str) -> tuple[TrialEntry, dict[str, Entry | None]]:
    async with looking() as store:
        found = dict(await store.registry())
    trial = found.get(TRIAL_PREFIX + name)
    if not isinstance(trial, TrialEntry):
        raise UnknownEntry(f"no trial {name} is on: see `streamproc trial list`")
    return trial, found


@commands.command()
def numbers() -> None:
    """Show the learners' numbers that can be tried, their limits, and those that were promoted."""

    async def run() -> list[LearnersEntry]:
        async with looking() as store:
            return _promoted(await store.registry())

    found = asyncio.run(run())
    heads = ("number", "usual", *(f"{one.kind}" for one in found), "from", "to", "what it is")
    made = tables.of(*map(escape, heads))
    for name, number in TUNABLE.items():
        theirs = (f"{one.learners[name]:g}" if name in one.learners else "" for one in found)
        bounds = (f"{number.least:g}", f"{number.most:g}")
        made.add_row(name, f"{number.usual:g}", *theirs, *bounds, number.meaning)
    tables.show(made)


@commands.command()
def reset(kind: Annotated[str, typer.Argument(help="The kind of sensor; * for all kinds.")]) -> None:
    """Set the live learners of a kind back to the usual numbers, or to those of *."""
    asyncio.run(edit([RemoveDocument("learners", kind.lower())]))
    typer.echo(f"the live learners of kind {kind.lower()} go by the usual numbers")


def _trials(found: Any) -> list[TrialEntry]:
    return [entry for entry in documents(found) if isinstance(entry, TrialEntry)]


def _promoted(found: Any) -> list[LearnersEntry]:
    return [entry for entry in documents(found) if isinstance(entry, LearnersEntry)]


def _parsed(text: str, form: Any) -> Any:
    """A rule or a range as people write it in a file of the registry; raises RegistryError."""
    try:
        return msgspec.convert(yaml.safe_load(text), form)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise RegistryError(f"{text}: {error}") from error


def _numbers(pairs: Sequence[str]) -> dict[str, float]:
    """Numbers given as NAME=NUMBER; raises RegistryError."""
    found = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        try:
            found[name.strip()] = float(text)
        except ValueError:
            raise RegistryError(f"{pair!r}: write it as NAME=NUMBER, such as alarm_surprise=4") from None
    return found


def _whom(entry: TrialEntry) -> str:
    if entry.sensor is not None:
        return f"sensor {entry.sensor}"
    return "all sensors" if entry.kind == ANY_KIND else f"kind {entry.kind}"


def _tries(entry: TrialEntry) -> str:
    """What a trial changes, in a line."""
    parts = [msgspec.json.encode(rule).decode() for rule in entry.rules]
    if entry.rules and entry.instead:
        parts.append("instead of the sensors' own of that sort")
    ranges = {"warning": entry.warning, "critical": entry.critical}
    parts += [f"{name} {msgspec.json.encode(its).decode()}" for name, its in ranges.items() if its]
    if entry.learners:
        parts.append(_pairs(entry.learners))
    if entry.policy:
        parts.append(_policy(entry))
    return ", ".join(parts)


def _policy(entry: TrialEntry) -> str:
    """What a trial changes of a policy."""
    words = {True: "yes", False: "no"}
    return ", ".join(
        f"{name}={words[value] if isinstance(value, bool) else value}" for name, value in entry.policy.items()
    )


def _pairs(given: dict[str, float]) -> str:
    return ", ".join(f"{name}={number:g}" for name, number in given.items())
