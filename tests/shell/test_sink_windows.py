"""Windows and predictions through the sink's writer: rows of a message that are not wanted, or refused."""

from __future__ import annotations

from pathlib import Path

import msgspec

from streamproc.records import PredictionRows, SensorEntry, WindowRows
from streamproc.settings import Settings
from streamproc.sink.writer import Writer
from streamproc.store.sqlite.store import SqliteStore
from tests.shell.sink_bench import Bench, singles
from tests.shell.test_sink_rows import COLUMNS, prediction_value, window_value
from tests.store.builders import GROUP, chunk, save_entries


async def test_windows_of_sizes_not_wanted_are_passed(bench: Bench) -> None:
    """They leave no row and no dead letter, and their offsets are behind; those before and after are rows."""
    settings = Settings.model_validate({"sink_windows": "1", "sink_batch_rows": 2})
    values = [window_value(size_ms=5_000), window_value(), window_value(size_ms=10_000)]
    await Writer(bench.store, settings, bench._keep, bench.registry).write([chunk(values, topic="windows")])
    assert bench.rows("SELECT size_ms, count(*) FROM sensor_windows GROUP BY size_ms") == [(1_000, 2)]
    assert (await bench.store.offsets(GROUP), bench.letters) == ({("windows", 0): 3}, [])


async def test_a_refused_window_goes_alone(bench: Bench) -> None:
    """The other windows of its message are rows; its dead letter is a message of itself, to be sent again."""
    bench.rows(
        "CREATE TRIGGER refuse BEFORE INSERT ON sensor_windows WHEN NEW.mean = 1.5"
        " BEGIN SELECT RAISE(ABORT, 'this window is not wanted'); END"
    )
    await bench.writer().write([singles(0, 3), chunk([window_value()], topic="windows")])
    assert bench.rows("SELECT mean FROM sensor_windows") == [(0.1 + 0.2,)]
    assert [(fault.topic, fault.reason) for fault in bench.letters] == [
        ("windows", "this window is not wanted")
    ]
    assert bench.rows("SELECT count(*) FROM sensor_readings") == [(3,)]
    told = msgspec.json.decode(bench.letters[0].payload or "", type=WindowRows)
    assert (told.size_ms, told.sensor, told.mean, told.last_offset) == (1_000, ["A"], [1.5], [2**63 - 1])
    bench.rows("DROP TRIGGER refuse")
    again = (bench.letters[0].payload or "").encode()
    await bench.writer().write([chunk([again], first_offset=1, topic="windows")])
    assert bench.rows("SELECT mean FROM sensor_windows ORDER BY mean") == [(0.1 + 0.2,), (1.5,)]


async def test_unknown_sensors_predictions_go_alone(tmp_path: Path) -> None:
    """Of a record of predictions the dead letter has the rows of the sensors that nobody knows."""
    bench = Bench(tmp_path / "s.db", SqliteStore(tmp_path / "s.db"))
    await save_entries(bench.store, [SensorEntry("a")])
    await bench.writer().write(
        [chunk([prediction_value(), prediction_value(sensor=["a", "A"])], topic="predictions")]
    )
    (fault,) = bench.letters
    assert (fault.offset, fault.reason) == (0, "unknown sensor b")
    told = msgspec.json.decode(fault.payload or "", type=PredictionRows)
    assert (told.sensor, told.value, told.model) == (["b"], [0.0], "level@1")
    await bench.store.close()


async def test_the_refused_window_of_many_is_told_by_its_size(bench: Bench) -> None:
    """A letter for one row of thousands is as long as a row."""
    many = 4_000
    columns: dict[str, object] = dict.fromkeys(COLUMNS, [1] * many)
    sensors = [f"s-{i}" for i in range(many)]
    bench.rows(
        "CREATE TRIGGER refuse BEFORE INSERT ON sensor_windows WHEN (SELECT uuid FROM sensors WHERE id = NEW.sensor_id)"
        " = 's-1234' BEGIN SELECT RAISE(ABORT, 'this window is not wanted'); END"
    )
    await bench.writer().write([chunk([window_value(**columns, sensor=sensors)], topic="windows")])
    assert bench.rows("SELECT count(*) FROM sensor_windows") == [(many - 1,)]
    assert len(bench.letters[0].payload or "") < 500
