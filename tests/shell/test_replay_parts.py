"""What a replay writes in one transaction: bounded by rows and by bytes, as the sink's."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from streamproc.core.engine import Options, PartitionState
from streamproc.core.predict import MODEL
from streamproc.core.registry import RegistryLog
from streamproc.engine.options import options
from streamproc.records import Severity
from streamproc.replay.compare import Comparison
from streamproc.replay.engine import Engine
from streamproc.replay.journal import Journal
from streamproc.replay.parts import parts
from streamproc.replay.refused import Refused
from streamproc.settings import Settings
from streamproc.sink.batches import Bounds
from streamproc.store.comparison import Scope
from streamproc.store.protocol import Batch
from streamproc.store.sqlite.store import SqliteStore
from tests.store.builders import (
    GROUP,
    chunk,
    event,
    events,
    notification,
    notifications,
    predictions,
    readings,
    single,
    windows,
)

ENOUGH = 2**30


def told(*lengths: int) -> Batch:
    """Two readings, a prediction, an event for each of these lengths of explanations, a notification, a window."""
    raised = [
        replace(event(f"s{n}", Severity.CRITICAL, Severity.NORMAL), explanation="x" * length)
        for n, length in enumerate(lengths)
    ]
    return Batch(
        GROUP,
        {},
        readings(("a", 1.0, 1), ("b", 2.0, 2)),
        predictions(("a", 1.0, 1)),
        events(*raised),
        notifications(notification("a")),
        windows(("a", 1.0, 0)),
    )


@given(
    lengths=st.lists(st.integers(0, 2_000), max_size=20),
    rows=st.integers(1, 10),
    size_bytes=st.integers(1, 8_000),
    data=st.data(),
)
def test_parts_are_the_rows_within_the_bounds(
    lengths: list[int], rows: int, size_bytes: int, data: st.DataObject
) -> None:
    """Each row once, in order; texts of several rows together are no longer than the bound; none is left behind."""
    whole = told(*lengths)
    at = np.flatnonzero(data.draw(st.lists(st.booleans(), min_size=len(whole), max_size=len(whole))))
    found = list(parts(whole, at, Bounds(rows, size_bytes)))
    numbers = {id(row): number for number, row in enumerate(whole.events.event)}
    kept = [numbers[id(row)] for part in found for row in part.events.event]
    assert kept == [int(n) - 3 for n in at if 3 <= n < 3 + len(lengths)]
    assert sum(map(len, found)) == len(at)
    for part in found:
        assert 1 <= len(part) <= rows
        size = sum(len(msgspec.json.encode(row)) for row in part.events.event)
        assert len(part) == 1 or size <= size_bytes


def test_numbers_are_bounded_by_rows_under_the_defaults() -> None:
    """A transaction of nothing but windows has as many as the sink's, whatever bytes are reckoned for them."""
    settings = Settings.model_validate({})
    bounds = Bounds(settings.sink_batch_rows, settings.sink_batch_bytes)
    sensor = "aaaaaaaa-0000-0000-0000-000000000101"
    whole = Batch(GROUP, {}, windows=windows(*((sensor, 1.0, 1_000 * n) for n in range(bounds.rows + 1))))
    assert [len(part) for part in parts(whole, np.arange(len(whole)), bounds)] == [bounds.rows, 1]


class Watched(SqliteStore):
    """A store that remembers how many rows each transaction wrote over."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, auto_register=True)
        self.sizes: list[int] = []

    async def overwrite(self, batch: Batch) -> None:
        """Count them, and write them."""
        self.sizes.append(len(batch))
        await super().overwrite(batch)


@pytest.mark.parametrize(
    ("bounds", "sizes"),
    [(Bounds(4, ENOUGH), [4, 4, 2]), (Bounds(1_000, 1), [1] * 10), (Bounds(1_000, ENOUGH), [10])],
    ids=["rows", "bytes", "neither"],
)
async def test_a_replay_writes_over_rows_in_parts(tmp_path: Path, bounds: Bounds, sizes: list[int]) -> None:
    """Ten readings that somebody has changed, in as many transactions as the bounds make; all are right afterwards."""
    settings = Settings.model_validate({})
    engine = Engine(PartitionState(Options("readings", 0, 1)), settings, RegistryLog(), None)
    made = engine.make(chunk([single("a", float(n), n) for n in range(10)]))
    store = Watched(tmp_path / "s.db")
    await store.open()
    await store.write(made.rows)
    await store._run(lambda: store._connected().execute("UPDATE sensor_readings SET value = -1").fetchall())
    journal, refused = Journal(tmp_path / "journal"), Refused(settings, {})
    comparison = Comparison(store, journal, refused, bounds, lambda: False, write=True)
    await comparison.take(made)
    await comparison.settle()
    assert store.sizes == sizes
    assert journal.counts()["readings"] == {"compared": 10, "different": 10, "written": 10}
    assert not (await store.compare(made.rows))["readings"].wrong.any()
    journal.close()
    await store.close()


async def test_the_predictions_of_all_steps_are_compared(tmp_path: Path) -> None:
    """As many as the settings ask for; a replay with fewer finds the others extra, and nothing else."""
    rows = [single("a", float(second % 3), 1_000 * second) for second in range(45)]
    made = {}
    for steps in (3, 1):
        settings = Settings.model_validate({"ML_BATCH_HORIZON": steps})
        engine = Engine(PartitionState(options(settings, 0, 1)), settings, RegistryLog(), None)
        made[steps] = engine.make(chunk(rows)).rows
    assert len(made[3].predictions) == 3 * len(made[1].predictions) > 0
    ahead = made[3].predictions.target - made[3].predictions.made_at
    assert sorted(set(ahead.tolist())) == [10_000, 20_000, 30_000]
    store = SqliteStore(tmp_path / "s.db", auto_register=True)
    await store.open()
    await store.write(made[3])
    scope = Scope("readings", 0, 0, 1_000, {"a": (0, *engine.closed()["a"])}, MODEL)
    for steps, extra in ((3, 0), (1, 2 * len(made[1].predictions))):
        compared = (await store.compare(made[steps]))["predictions"]
        assert not compared.wrong.any()
        given = partial(np.isin, test_elements=compared.number)
        found = await store.extras("predictions", [scope], None, given, 99)
        assert found.count == extra
    await store.close()
