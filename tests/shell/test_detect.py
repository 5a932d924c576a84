"""`streamproc detect`: each row by the rows before it, faults named by line and column, memory that stays."""

from __future__ import annotations

import io
import os
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from streamproc.core.codec import to_ms
from streamproc.core.ranges import Limits
from streamproc.detect import BLOCK_ROWS, Row, run
from streamproc.detect.arriving import Arriving
from streamproc.detect.commands import detect, parse_range
from streamproc.detect.series import read
from streamproc.errors import SeriesError
from streamproc.records import Range, Severity

LIMITS = Limits(Range(0.0, 60.0), Range(-10.0, 90.0))


def series(values: list[float | None], start: int = 1_700_000_000) -> list[str]:
    """A file's lines; None is an empty value."""
    rows = ("" if value is None else repr(value) for value in values)
    return ["timestamp,value\n", *(f"{start + second},{text}\n" for second, text in enumerate(rows))]


def noisy(n: int) -> list[float | None]:
    """A quiet sensor at 20 that jumps to 70 in the middle."""
    values: list[float | None] = (20 + np.random.default_rng(4).normal(size=n)).tolist()
    values[n // 2] = 70.0
    return values


def told(lines: list[str], **options: object) -> list[tuple[str, ...]]:
    """The rows as they are written."""
    return [row.fields() for row in run(lines, **options)]  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 700), st.sampled_from([1, 2, 15, 16, 100, BLOCK_ROWS // 2]))
def test_a_row_depends_on_the_rows_before_it_alone(cut: int, block_rows: int) -> None:
    """A file cut off anywhere, read in blocks of any size, has the same first rows to the byte."""
    lines = series(noisy(600))
    whole = told(lines, limits=LIMITS)
    assert told(lines[: cut + 1], limits=LIMITS, block_rows=block_rows) == whole[:cut]


def test_a_jump_is_scored_raised_explained_and_over() -> None:
    """The row of the jump is WARN with its explanation; calm rows bring it back; other rows say nothing."""
    rows = list(run(series(noisy(600))))
    assert [row.severity for row in rows[298:302]] == [Severity.NORMAL] * 2 + [Severity.CRITICAL] * 2
    assert rows[300].anomaly_score > 0.5
    assert rows[300].explanation.startswith("The sensor jumped to 70 at 22:18:20 UTC on 14 November 2023")
    explained = [row for row in rows if row.explanation]
    assert [row.severity for row in explained] == [Severity.CRITICAL, Severity.NORMAL]
    assert "It had left its normal state at 22:18:20 UTC on 14 November 2023" in explained[1].explanation


def test_ranges_are_judged_at_once() -> None:
    """With --warning and --critical the severity follows each value, in Spanish where asked."""
    rows = list(run(series([20.0, 61.0, 91.0, *[20.0] * 6]), LIMITS, "es"))
    severities = [row.severity.name for row in rows]
    assert severities == ["NORMAL", "WARN", "CRITICAL", *["CRITICAL"] * 4, "NORMAL", "NORMAL"]
    assert rows[1].explanation == (
        "El sensor marcó 61 a las 22:13:21 UTC del 14 de noviembre de 2023, "
        "por encima de su límite de aviso de 60."
    )


def test_times_may_run_backwards_and_repeat() -> None:
    """Rows count in their order, whatever their times say."""
    values = [20.0, 91.0, *[20.0] * 6]
    backwards = [series([value], start=1_700_000_000 - row)[1] for row, value in enumerate(values)]
    forwards = list(run(series(list(values)), LIMITS))
    assert [row.severity for row in run(["timestamp,value\n", *backwards], LIMITS)] == [
        row.severity for row in forwards
    ]


def test_a_missing_reading_changes_nothing() -> None:
    """An empty value gives a row of score 0, and the rows after it are as if it had not been there."""
    values = noisy(400)
    gap = [*values[:150], None, *values[150:]]
    with_gap = [(row.anomaly_score, row.severity) for row in run(series(gap))]
    without = [(row.anomaly_score, row.severity) for row in run(series(values))]
    assert with_gap[:150] + with_gap[151:] == without
    assert with_gap[150] == (0.0, Severity.NORMAL)


def test_fields_come_out_as_they_were_written() -> None:
    """Times in ISO or epoch seconds, other columns, any order, blank lines and a byte-order mark are fine."""
    lines = [
        "\ufeffValue, quality ,TIMESTAMP\n",
        "1.50,good,2024-05-01 12:00:00\n",
        "\n",
        "2e0,bad,2024-05-01T12:00:01+02:00\n",
        "3,,1714564802.5\n",
    ]
    assert [row.fields()[:4] for row in run(lines)] == [
        ("2024-05-01 12:00:00", "1.50", "0.000000", "NORMAL"),
        ("2024-05-01T12:00:01+02:00", "2e0", "0.000000", "NORMAL"),
        ("1714564802.5", "3", "0.000000", "NORMAL"),
    ]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("1700000000,warm", "line 3, column value: not a number: 'warm'"),
        ("1700000000,nan", "line 3, column value: not a number from -1e100 to 1e100: 'nan'"),
        ("1700000000,-inf", "line 3, column value: not a number from -1e100 to 1e100: '-inf'"),
        ("1700000000,1e101", "line 3, column value: not a number from -1e100 to 1e100: '1e101'"),
        ("yesterday,1", "line 3, column timestamp: not a time from 1970 to 2100: 'yesterday'"),
        ("1700000000000,1", "line 3, column timestamp: not a time from 1970 to 2100: '1700000000000'"),
        ("nan,1", "line 3, column timestamp: not a time from 1970 to 2100: 'nan'"),
        (",1", "line 3, column timestamp: not a time from 1970 to 2100: ''"),
        ("1700000000", "line 3: 1 column; `timestamp` and `value` are wanted"),
        ('"1700000000,1', "line 3: unexpected end of data"),
    ],
)
def test_a_faulty_row_is_named_after_the_good_ones(row: str, fault: str) -> None:
    """The rows before it come out; then the error says where and what."""
    rows: Iterator[Row] = run([*series([1.0]), row])
    assert next(rows).value == "1.0"
    with pytest.raises(SeriesError) as raised:
        next(rows)
    assert str(raised.value) == fault


@pytest.mark.parametrize("block_rows", [1, 2, BLOCK_ROWS])
def test_a_faulty_row_is_named_by_its_line_whatever_lines_came_before(block_rows: int) -> None:
    """Blank lines, fields of several lines and rows without a value count as the file's lines do."""
    lines = [
        "timestamp,value,note\n",
        "\n",
        "1,1,a\n",
        '2,,"b\n',
        'c"\n',
        "\n",
        "2024-05-01 12:00:00,3,\n",
        "4,x,\n",
    ]
    rows = run(lines, block_rows=block_rows)
    assert [next(rows).timestamp for _ in range(3)] == ["1", "2", "2024-05-01 12:00:00"]
    with pytest.raises(SeriesError, match=r"^line 8, column value: not a number: 'x'"):
        next(rows)


@pytest.mark.parametrize(
    ("header", "column"), [("", "timestamp"), ("timestamp,temp", "value"), ("1,2", "timestamp")]
)
def test_a_missing_header_is_told(header: str, column: str) -> None:
    """The first line must name both columns."""
    with pytest.raises(SeriesError, match=f"^line 1: no column `{column}`"):
        list(run([header]))


@pytest.mark.live
def test_memory_does_not_grow_with_the_file() -> None:
    """Twenty times as many rows take no more memory."""

    def peak(rows: int) -> int:
        tracemalloc.start()
        lines = (line for line in ["timestamp,value\n", *[f"{1_700_000_000},{1}\n"] * rows])
        for _ in run(lines):
            pass
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used - rows * 8  # the list of lines itself

    peak(BLOCK_ROWS)
    assert peak(20 * BLOCK_ROWS) < 1.3 * peak(BLOCK_ROWS)


def app() -> typer.Typer:
    """The command as the command line runs it."""
    commands = typer.Typer()
    commands.command()(detect)
    return commands


def test_the_command_writes_a_file(tmp_path: Path) -> None:
    """`detect FILE -o OUT` writes the header and a row for each row; the input is never the output."""
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("".join(series(noisy(600))))
    result = CliRunner().invoke(app(), [str(source), "-o", str(out), "--warning", "0:60"])
    assert result.exit_code == 0
    lines = out.read_text().splitlines()
    assert lines[0] == "timestamp,value,anomaly_score,severity,explanation"
    assert len(lines) == 601
    assert CliRunner().invoke(app(), [str(source), "-o", str(source)]).exit_code == 2
    assert source.read_text() == "".join(series(noisy(600)))


@contextmanager
def pipe() -> Iterator[tuple[int, BinaryIO]]:
    """A pipe's descriptor to read from, and what writes into it at once."""
    reads, writes = os.pipe()
    try:
        with os.fdopen(writes, "wb", buffering=0) as sink:
            yield reads, sink
    finally:
        os.close(reads)


def test_the_command_reads_standard_input_and_tells_faults(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`detect -` streams; a faulty row ends it with code 1 and a line that names it."""
    with pipe() as (reads, sink):
        sink.write(b"timestamp,value\n1,2\n2,x\n")
        sink.close()
        with os.fdopen(os.dup(reads)) as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            with pytest.raises(typer.Exit) as ended:
                detect(Path("-"))
    told = capsys.readouterr()
    assert ended.value.exit_code == 1
    assert told.out.splitlines()[1:] == ["1,2,0.000000,NORMAL,"]
    assert "line 3, column value: not a number: 'x'" in told.err


@pytest.mark.parametrize(
    ("source", "out", "told"),
    [
        ("absent.csv", None, "{0}/absent.csv: No such file or directory\n"),
        ("in.csv", "absent/out.csv", "{0}/absent/out.csv: No such file or directory\n"),
        ("in.csv", "/dev/full", "/dev/full: No space left on device\n"),
        ("-", None, "-: standard input is closed\n"),
    ],
)
def test_what_cannot_be_read_or_written_is_named(
    source: str, out: str | None, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file in question, and why; a closed standard input is none."""
    (tmp_path / "in.csv").write_text("".join(series(noisy(600))))
    monkeypatch.setattr(sys, "stdin", None)
    errors = io.StringIO()
    monkeypatch.setattr(sys, "stderr", errors)
    with pytest.raises(typer.Exit) as ended:
        detect(Path(source) if source == "-" else tmp_path / source, tmp_path / out if out else None)
    assert ended.value.exit_code == 1
    assert errors.getvalue() == told.format(tmp_path)


def test_a_reader_that_leaves_is_no_fault_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`detect FILE | head -1` says nothing of it: the command line ends quietly."""
    (tmp_path / "in.csv").write_text("".join(series(noisy(600))))
    reads, writes = os.pipe()
    os.close(reads)
    stdout = os.fdopen(writes, "w", buffering=1)
    monkeypatch.setattr(sys, "stdout", stdout)
    with pytest.raises(BrokenPipeError):
        detect(tmp_path / "in.csv")
    with suppress(BrokenPipeError):
        stdout.close()


def test_what_has_come_over_a_pipe_is_judged_at_once() -> None:
    """Rows come out while the pipe is open, whatever blank lines and begun ones are behind them."""
    with pipe() as (reads, sink):
        rows = run(Arriving(reads))
        sink.write(b"\xef\xbb\xbftimestamp,value\r\n1,1\r\n2,2\n\n")
        assert [next(rows).timestamp, next(rows).timestamp] == ["1", "2"]
        sink.write(b"3,3\n4,")
        assert next(rows).timestamp == "3"
        sink.write(b"4")
        sink.close()
        assert [row.fields()[:2] for row in rows] == [("4", "4")]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60))
def test_lines_over_a_pipe_are_those_of_a_file(at_once: int) -> None:
    """Wherever what comes is cut, amid a letter or a line's end, the same lines arrive."""
    text = "timestamp,value\r\n" + "".join(f"{row},{row}.5\r\n" for row in range(90)) + "áé\rno end"
    data = text.encode() + b"\xb5"
    with pipe() as (reads, sink):
        sink.write(data)
        sink.close()
        assert list(Arriving(reads, at_once)) == list(io.TextIOWrapper(io.BytesIO(data), "utf-8", "replace"))


def test_bytes_that_are_no_text_are_told_by_line(tmp_path: Path) -> None:
    """A file that is not UTF-8 fails at the field in question."""
    source = tmp_path / "latin.csv"
    source.write_bytes(b"timestamp,value\n1,2\n2,\xb5\n")
    result = CliRunner().invoke(app(), [str(source)])
    assert result.exit_code == 1
    assert "line 3, column value" in result.stderr
    assert CliRunner().invoke(app(), [str(tmp_path / "absent.csv")]).exit_code == 1


def test_ranges_are_read_from_text() -> None:
    """`LO:HI`, either bound may be left out; anything else is refused."""
    assert parse_range("-5:3.5") == Range(-5.0, 3.5)
    assert parse_range(":3") == Range(None, 3.0)
    for wrong in ("5", "a:b", "3:1", "nan:1", "1:2:3"):
        with pytest.raises(typer.BadParameter):
            parse_range(wrong)


def test_lines_may_come_one_by_one() -> None:
    """With blocks of one, a row comes out as soon as its line is read."""
    lines = io.StringIO("".join(series([1.0, 2.0, 3.0])))
    rows = run(iter(lines.readline, ""), block_rows=1)
    assert next(rows).value == "1.0"
    assert lines.readline().endswith(",2.0\n")


@given(st.integers(0, 4_102_444_800), st.sampled_from("T _"))
def test_a_plain_time_is_read_as_any_other(second: int, between: str) -> None:
    """What days and times of day are put together of is what `to_ms` says of the whole."""
    text = datetime.fromtimestamp(second, UTC).isoformat(between)[:19]
    (block,) = read(["timestamp,value\n", f"{text},1\n"], 1)
    assert block.at_ms.tolist() == [to_ms(text)]


@pytest.mark.parametrize(
    "text", ["2024-W05T10:00:00.0", "2024-W05-3T10:00:00", "2024-05-01T10+02:00", "1700000000.00000000"]
)
def test_other_times_of_that_length_are_read(text: str) -> None:
    """Weeks, zones and epoch seconds, which are no sum of a date and a time of day."""
    (block,) = read(["timestamp,value\n", f"{text},1\n"], 1)
    assert block.at_ms.item() == to_ms(float(text) if "." in text and "T" not in text else text)


@pytest.mark.parametrize("text", ["2024-05-01 25:00:00", "2024-13-01 00:00:00", "1970-01-01T00+02:00"])
def test_what_is_no_time_of_that_length_is_refused(text: str) -> None:
    """Not a time of day, not a date, and one before 1970."""
    with pytest.raises(SeriesError, match="not a time"):
        list(read(["timestamp,value\n", f"{text},1\n"], 1))


def times(lines: list[str], at_once: int) -> tuple[list[int], str]:
    """The times of lines read so many at once, and what is said of the first that is at fault."""
    known = list[int]()
    try:
        for block in read(["timestamp,value\n", *lines], at_once):
            known += block.at_ms.tolist()
    except SeriesError as error:
        return known, str(error)
    return known, ""


@given(
    st.lists(st.integers(0, 4_102_444_799), min_size=1, max_size=9),
    st.integers(0, 8),
    st.lists(st.tuples(st.integers(0, 18), st.sampled_from("0123456789-:T Zz.W٣"))),
)
def test_many_times_are_read_as_one_by_one(
    seconds: list[int], at: int, faults: list[tuple[int, str]]
) -> None:
    """Plain ones in columns, with one among them in which some letters may be others, to the same times and faults."""
    texts = [datetime.fromtimestamp(second, UTC).isoformat(" ") for second in seconds] * 130
    odd = list(texts[at])
    for place, letter in faults:
        odd[place] = letter
    texts[at] = "".join(odd)
    lines = [f"{text},1\n" for text in texts[:130]]
    assert times(lines, 130) == times(lines, 1)
