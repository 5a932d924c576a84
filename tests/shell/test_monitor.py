"""What a process tells of itself: the documentation has every metric, checks have reasons, logs are thin and whole."""

from __future__ import annotations

import importlib
import json
import logging
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from time import monotonic
from types import SimpleNamespace

import numpy as np
import pytest
from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import Metric

import streamproc
from streamproc.cli.logs import REPEAT_S, Places, Repeats
from streamproc.console import health as console_health
from streamproc.console.live import Live
from streamproc.console.reading import Reading
from streamproc.core.chunk import Chunk
from streamproc.core.engine import Options, PartitionState, run, step
from streamproc.core.registry import RegistryLog
from streamproc.engine import health as engine_health
from streamproc.engine import metrics as engine_metrics
from streamproc.engine.watchdog import Watchdog
from streamproc.errors import RowsRefused, StoreUnavailable
from streamproc.gateway.access.address import Addresses
from streamproc.gateway.access.following import Following
from streamproc.gateway.access.metrics import Counts
from streamproc.gateway.connections import Bounds, Crowd
from streamproc.gateway.load import Load
from streamproc.gateway.metrics import Metrics
from streamproc.gateway.siblings import Joined
from streamproc.jobs import health as jobs_health
from streamproc.kafka.health import SILENCE_S, broker_check, lag_check
from streamproc.monitor import Check, build_info, report
from streamproc.monitor.standing import LAST_PAUSE_S, Standing, backoff
from streamproc.notify import health as notify_health
from streamproc.records import SensorEntry
from streamproc.settings import Settings
from streamproc.sink import health as sink_health
from streamproc.sink.app import Sink
from streamproc.store.opening import Database
from tests.shell.served import MemoryPublisher

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


def documented() -> list[str]:
    """The metrics in the tables of docs/operations.md."""
    return re.findall(r"^\| `(streamproc_\w+)` \|", OPERATIONS.read_text(), re.MULTILINE)


def scraped(families: Iterable[Metric]) -> set[str]:
    """Their names as Prometheus sees them."""
    ends = {"counter": "_total", "info": "_info"}
    return {
        family.name + ends.get(family.type, "")
        for family in families
        if family.name.startswith("streamproc_")
    }


def exist(tmp_path: Path) -> set[str]:
    """All metrics that there are: counters of all modules called `metrics`, and the gauges of each stage."""
    for module in pkgutil.walk_packages(streamproc.__path__, "streamproc."):
        if module.name.endswith(".metrics"):
            importlib.import_module(module.name)
    sink = Sink(Settings.model_validate({"database": tmp_path / "d.db", "kafka_bootstrap": "localhost:1"}))
    worker = SimpleNamespace(app=sink.app, partitions={}, taken_over=False)
    return (
        scraped(REGISTRY.collect())
        | scraped(sink_health.gauges(sink))
        | scraped(engine_health.gauges(worker))
        | scraped(Metrics(Load(1, 1), MemoryPublisher()).registry.collect())
        | scraped(_of_access())
        | scraped(notify_health.gauges([]))
        | scraped(console_health.connections(None, 1))
        | scraped(console_health.gauges(Live(1), Reading(Database(sink.settings, "tests").opened), 1))
        | scraped(jobs_health.gauges(SimpleNamespace(jobs=[], runner=SimpleNamespace(clock=lambda: 0))))  # type: ignore[arg-type]
        | scraped(Joined([None]).collect())
        | scraped([build_info("x")])
        | {"streamproc_check"}
    )


def _of_access() -> Iterable[Metric]:
    """What the gateway tells of those who may not write, and of its connections."""
    registry = CollectorRegistry()
    Crowd(Bounds(1, 1, 1), Addresses([]), registry)
    for collector in (*Counts().collectors(), Following(Settings.model_validate({}))):
        registry.register(collector)
    return registry.collect()


async def test_each_metric_is_documented_once_and_there_are_no_others(tmp_path: Path) -> None:
    """docs/operations.md has what Prometheus gets, by the same names."""
    told = documented()
    assert sorted(told) == sorted(exist(tmp_path))


def test_each_decision_is_told() -> None:
    """The table of what is dropped, tried again or waited for names metrics that there are and lines that are written."""
    section = OPERATIONS.read_text().split("## What was dropped", 1)[1].split("\n## ", 1)[0]
    source = "".join(path.read_text() for path in Path(streamproc.__path__[0]).rglob("*.py"))
    rows = [line.split("|")[1:-1] for line in section.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 25
    for decision, metric, event in rows:
        assert metric.strip() or event.strip(), decision
        assert not metric.strip() or metric.strip("` ") in documented(), decision
        assert not event.strip() or f'"{event.strip()[1:-1]}"' in source, decision


def test_a_report_tells_what_fails_and_what_does_not() -> None:
    """All checks are in the body, and the reasons of those that fail in its detail."""
    good, bad = Check("lag", True, "3 records waiting"), Check("broker", False, "silent")
    assert report([good]) == {
        "status": "ready",
        "checks": [{"name": "lag", "ok": True, "detail": "3 records waiting"}],
    }
    body = report([good, bad])
    assert (body["status"], body["detail"], len(body["checks"])) == ("not ready", "broker: silent", 2)


@pytest.mark.parametrize(("silence", "ok"), [(None, False), (0.1, True), (SILENCE_S + 0.1, False)])
def test_a_broker_that_is_silent_is_away(silence: float | None, ok: bool) -> None:
    """It has to have answered, and lately."""
    assert broker_check(SimpleNamespace(silence_s=lambda: silence)).ok is ok  # type: ignore[arg-type]


def test_a_backlog_is_stuck_only_after_a_while() -> None:
    """Records that come after a long silence have waited for nobody; those that go on waiting are stuck."""
    held = SimpleNamespace(progressed=monotonic() - 1_000)
    app = SimpleNamespace(rebalancing=False, silence_s=lambda: 0.0)
    worker = SimpleNamespace(
        app=app, partitions={3: held}, taken_over=True, watchdog=Watchdog(), lags=lambda: {3: 5}
    )

    def stuck() -> bool:
        return not {check.name: check.ok for check in engine_health.checks(worker)}["progress"]

    assert not stuck()
    worker.watchdog.idle_s(3, 0, 0.0, 0.0)
    worker.watchdog.idle_s(3, 5, held.progressed, monotonic() - engine_health.STUCK_S - 1)
    assert stuck()


@pytest.mark.parametrize(
    ("lags", "ok", "detail"),
    [
        ({}, True, "0 records"),
        ({"0": 1, "1": 0}, True, "1 record waiting"),
        ({"0": 5, "1": 10}, True, "15 records"),
        ({"0": 5, "1": 11}, False, "'1': 11"),
        ({"0": 5, "1": None}, False, "nothing was read yet of partitions 1"),
    ],
)
def test_a_lag_beyond_the_bound_or_unknown_fails(lags: dict[str, int | None], ok: bool, detail: str) -> None:
    """The bound is for each partition by itself."""
    check = lag_check(lags, 10)
    assert check.ok is ok
    assert detail in check.detail


def test_the_database_stands_as_its_last_answer_says() -> None:
    """Not asked, answering, away, and back; a refusal is an answer."""
    standing = Standing()
    assert not standing.check().ok
    with standing.asking():
        pass
    assert standing.check().ok
    assert standing.fresh()
    with pytest.raises(StoreUnavailable), standing.asking():
        raise StoreUnavailable("database is locked", "locked")
    assert "database is locked" in standing.check().detail
    assert not standing.check().ok
    with pytest.raises(RowsRefused), standing.asking():
        raise RowsRefused("no such sensor")
    assert standing.check().ok


def test_pauses_double_up_to_the_longest() -> None:
    """With half of each left to chance."""
    pauses = backoff()
    for longest in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, LAST_PAUSE_S, LAST_PAUSE_S):
        assert longest / 2 <= next(pauses) <= longest


def chunk(*values: bytes | None, at: int = 1_700_000_000_000) -> Chunk:
    """Records from offset 0 on, one a millisecond."""
    count = len(values)
    return Chunk("readings", 0, np.arange(count), at + np.arange(count), list(values))


def test_the_watermark_delay_is_that_of_sensors_with_an_open_window() -> None:
    """A sensor that lags behind is the greatest; one whose windows are closed does not count; none: nothing."""
    state = PartitionState(Options("readings", 0, 1))
    assert engine_health.watermark_delay(state, 0) == (0.0, 0.0)
    begin = 1_700_000_000
    stamps = {"a": begin, "b": begin, "old": begin - 3_600}
    step(
        state,
        chunk(*(b'{"sensor_id": "%b", "value": 1, "ts": %d}' % (s.encode(), t) for s, t in stamps.items())),
    )
    assert engine_health.watermark_delay(state, begin * 1000 + 500) == (2.5, 3_602.5)
    tick = Chunk(
        "readings",
        0,
        np.array([9]),
        np.array([begin * 1000 + 60_000]),
        [None],
        {0: (("streamproc-tick", b"1"),)},
    )
    step(state, tick)
    assert engine_health.watermark_delay(state, begin * 1000 + 60_000) == (0.0, 0.0)


def test_what_is_rejected_is_counted_by_one_of_few_reasons() -> None:
    """Never by its text: a producer's inventions would make a series each."""
    values = (
        b"{",
        None,
        b'{"sensor_id": "s", "value": "x"}',
        b'{"sensor_id": "s", "value": 1, "ts": 1800000000}',
        b'{"device_uuid": "d", "readings": [{"sensor_uuid": "s", "value": 1}]}',
    )
    registry = RegistryLog()
    registry.append(0, 0, "s", SensorEntry("s", device="e"))
    for _, out in run(PartitionState(Options("readings", 0, 1)), chunk(*values), registry):
        engine_metrics.count("test", out)
    reasons = {
        sample.labels["reason"]: sample.value
        for family in engine_metrics.REJECTED.collect()
        for sample in family.samples
        if sample.labels["partition"] == "test" and sample.name.endswith("_total")
    }
    assert reasons == {"malformed": 1, "empty": 1, "invalid": 1, "early": 1, "foreign": 1}


def line(logger: str, message: object, at: float, *arguments: object) -> logging.LogRecord:
    """A line of the log at this time (s)."""
    record = logging.LogRecord(logger, logging.ERROR, "", 0, message, arguments, None)
    record.created = at
    return record


@given(st.lists(st.floats(0, 1_000, allow_nan=False), min_size=1).map(sorted))
def test_a_librarys_line_is_thinned_and_what_is_left_out_is_counted(times: list[float]) -> None:
    """No two lines within REPEAT_S, and each line is written, or counted by the next one written."""
    repeats = Repeats()
    records = [
        line("aiokafka", "Unable connect to node with id %s", at, number) for number, at in enumerate(times)
    ]
    written = [record for record in records if repeats.filter(record)]
    assert written[0] is records[0]
    assert all(b.created - a.created >= REPEAT_S for a, b in pairwise(written))
    left_out = sum(getattr(record, "repeated", 0) for record in written)
    after_last = len(records) - 1 - records.index(written[-1])
    assert len(written) + left_out + after_last == len(records)


def test_own_lines_are_written_unless_they_are_marked() -> None:
    """Those marked `sampled` are thinned by event and partition; other libraries' lines are not each other's."""
    repeats = Repeats()
    assert all(repeats.filter(line("streamproc", {"event": "partitions"}, 0)) for _ in range(3))
    sampled = [line("streamproc", {"event": "late", "partition": p, "sampled": True}, 0) for p in (1, 2, 1)]
    assert [repeats.filter(record) for record in sampled] == [True, True, False]
    again = line("streamproc", {"event": "late", "partition": 1, "sampled": True}, REPEAT_S)
    assert repeats.filter(again)
    assert isinstance(again.msg, dict)
    assert again.msg["repeated"] == 1


def test_a_librarys_partitions_are_fields() -> None:
    """One as topic and partition, several as a list."""
    one = line("aiokafka", "Failed %s", 0, TopicPartition("readings", 3))
    several = line("aiokafka", "Failed %s", 0, {TopicPartition("b", 1), TopicPartition("a", 2)})
    none = line("aiokafka", "Failed %s", 0, "readings")
    for record in (one, several, none):
        Places().filter(record)
    assert (one.__dict__["topic"], one.__dict__["partition"]) == ("readings", 3)
    assert several.__dict__["partitions"] == ["a/2", "b/1"]
    assert not {"topic", "partitions"} & none.__dict__.keys()


@pytest.mark.parametrize("where", ["raise ValueError('lost')", "Thread(target=lambda: 1 / 0).start()"])
def test_an_error_that_nobody_caught_is_one_json_line(where: str) -> None:
    """In the main thread or another: no traceback between the JSON lines."""
    program = (
        f"from threading import Thread; from streamproc.cli.logs import configure; configure('info'); {where}"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    (told,) = [json.loads(text) for text in ended.stderr.splitlines()]
    assert (told["event"], told["level"]) == ("ended by an error", "critical")
    assert "Traceback" in told["exception"]


def test_an_error_that_goes_into_a_file_is_told_on_the_screen(tmp_path: Path) -> None:
    """`dev` ended with nothing on it: the file alone had what nobody had caught."""
    log = tmp_path / "dev.log"
    program = (
        "from pathlib import Path; from streamproc.cli.logs import configure; "
        f"configure('info', Path({str(log)!r})); raise ValueError('lost')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.stderr == f"streamproc: ended by an error, which {log} has whole: ValueError: lost\n"
    assert "Traceback" in json.loads(log.read_text())["exception"]
