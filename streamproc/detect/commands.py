"""`streamproc detect FILE.csv [-o OUT.csv]`."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import isnan
from pathlib import Path
from typing import Annotated, TextIO

import typer

from streamproc import detect as series
from streamproc.core.ranges import Limits
from streamproc.detect.arriving import Arriving
from streamproc.errors import SeriesError
from streamproc.records import Language, Range


def detect(
    file: Annotated[Path, typer.Argument(help="A `timestamp,value` file; `-` reads standard input.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", "--output", help="Output file; by default standard output.")
    ] = None,
    warning: Annotated[
        str | None,
        typer.Option(help="Acceptable values, `LO:HI`, either may be left out; a row outside is WARN."),
    ] = None,
    critical: Annotated[str | None, typer.Option(help="The same; a row outside is CRITICAL.")] = None,
    language: Annotated[Language, typer.Option(help="Language of the explanations.")] = "en",
) -> None:
    """Judge each row of a `timestamp,value` file by that row and those before it.

    streamproc detect series.csv --warning 10:80 --critical :95 -o judged.csv

    gunzip -c series.csv.gz | streamproc detect -
    """
    limits = Limits(parse_range(warning), parse_range(critical))
    if out is not None and out.exists() and file.exists() and out.samefile(file):
        raise typer.BadParameter("it is the input")
    try:
        with _reading(file) as lines, _writing(out) as sink:
            _write(series.blocks(lines, limits, language), sink, live=str(file) == "-")
    except BrokenPipeError:
        raise  # who reads has left: no fault of the file's
    except SeriesError as error:
        raise _failure(f"{file}: {error}") from None
    except OSError as error:
        # What cannot be opened names itself; what fails later is what is written to.
        raise _failure(f"{error.filename or out or 'standard output'}: {error.strerror}") from None


def _failure(text: str) -> typer.Exit:
    typer.echo(text, err=True)
    return typer.Exit(1)


def parse_range(text: str | None) -> Range | None:
    """Read `LO:HI`, either of which may be empty.

    >>> parse_range("-5:").low
    -5.0
    """
    if text is None:
        return None
    low, colon, high = text.partition(":")
    try:
        bounds = [float(bound) if bound.strip() else None for bound in (low, high)]
    except ValueError:
        bounds = [float("nan")]
    known = [bound for bound in bounds if bound is not None]
    if not colon or any(map(isnan, known)) or known != sorted(known):
        raise typer.BadParameter(f"{text!r} is not LO:HI")
    return Range(*bounds)


@contextmanager
def _reading(file: Path) -> Iterator[Iterable[str]]:
    """Open the input; bytes that are no UTF-8 stay visible, so that the row they are in is told."""
    if str(file) == "-":
        if sys.stdin is None:
            raise SeriesError("standard input is closed")
        yield Arriving(sys.stdin.fileno())
        return
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
        yield lines


@contextmanager
def _writing(out: Path | None) -> Iterator[TextIO]:
    if out is None:
        yield sys.stdout
        return
    with out.open("w", encoding="utf-8", newline="") as sink:
        yield sink


def _write(blocks: Iterator[Iterator[series.Row]], sink: TextIO, *, live: bool) -> None:
    """Write the rows as CSV; `live` sends on at once what has come."""
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(series.HEADER)
    for rows in blocks:
        writer.writerows(map(series.Row.fields, rows))
        if live:
            sink.flush()
