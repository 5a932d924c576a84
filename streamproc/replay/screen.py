"""A replay's progress on standard error: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from streamproc.replay.run import Pace

#: The time between two lines where there is no terminal.
LINE_S = 5.0


class Show(Protocol):
    """Is told the pace, again and again."""

    def __call__(self, pace: Pace) -> None:
        """Show it."""


def rate(pace: Pace) -> float:
    """Records a second of this run."""
    return (pace.done - pace.earlier) / max(monotonic() - pace.began, 1e-3)


@contextmanager
def showing(title: str) -> Iterator[Show]:
    """What shows the pace until the block ends."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(title)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]:,.0f} records/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=None, rate=0.0)

        def show(pace: Pace) -> None:
            progress.update(
                task,
                description=f"{title}, partition {pace.partition}",
                total=pace.total,
                completed=pace.done,
                rate=rate(pace),
            )

        yield show


class _Lines:
    """A line now and then."""

    def __init__(self, title: str) -> None:
        self._title, self._told = title, monotonic()

    def __call__(self, pace: Pace) -> None:
        """Tell how far it is, if it is time to."""
        if monotonic() - self._told < LINE_S:
            return
        self._told = monotonic()
        seconds = (pace.total - pace.done) / max(rate(pace), 1e-3)
        print(  # noqa: T201  # it is made to print
            f"{self._title}: partition {pace.partition}, {pace.done:,} of {pace.total:,} records, "
            f"{rate(pace):,.0f}/s, {seconds:,.0f} s left",
            file=sys.stderr,
            flush=True,
        )
