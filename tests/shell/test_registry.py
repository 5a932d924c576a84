"""The registry's files and its commands, without Kafka."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from typer.testing import CliRunner

from streamproc.errors import RegistryError
from streamproc.records import Range, SensorEntry
from streamproc.registry import files
from streamproc.registry.commands import commands
from streamproc.store.sqlite import SqliteStore

numbers = st.one_of(st.none(), st.floats(-1e6, 1e6))
texts = st.one_of(
    st.none(), st.text(st.characters(categories=("L", "N", "P", "Zs")), min_size=1, max_size=20)
)


def a_range(low: float | None, high: float | None) -> Range | None:
    """A range that makes sense, or none."""
    if low is None and high is None:
        return None
    return Range(high, low) if low is not None and high is not None and low > high else Range(low, high)


ranges = st.builds(a_range, numbers, numbers)
entries = st.lists(
    st.builds(
        SensorEntry,
        sensor=st.text("abc123-ñ", min_size=1, max_size=20),
        device=st.one_of(st.none(), st.text("xyz-", min_size=1, max_size=5)),
        name=texts,
        unit=texts,
        kind=texts,
        warning=ranges,
    ),
    unique_by=lambda entry: entry.sensor,
    max_size=5,
)


@pytest.mark.parametrize("suffix", [".yaml", ".json", ".csv"])
@given(given_entries=entries)
def test_what_is_exported_is_imported(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, given_entries: list[SensorEntry]
) -> None:
    """In each format, and nothing is lost."""
    path = tmp_path_factory.mktemp("files") / f"sensors{suffix}"
    path.write_text(files.export(given_entries, suffix), "utf-8")
    assert files.import_file(path) == given_entries


def write(folder: Path, name: str, text: str) -> Path:
    """A file with this text."""
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_yaml_and_csv_of_the_same_sensors(tmp_path: Path) -> None:
    """Names are lower-cased, bare numbers are names, empty cells are absent."""
    yaml = """
sensors:
  - sensor: ABC
    device: D-1
    unit: °C
    warning: {low: 10, high: 30.5}
    critical: {high: 40}
  - sensor: 7
    sensor_id: 7
"""
    csv = """sensor,device,unit,warning_low,warning_high,critical_high,sensor_id
ABC,D-1,°C,10,30.5,40,
7,,,,,,7
"""
    expected = [
        SensorEntry("abc", device="d-1", unit="°C", warning=Range(10.0, 30.5), critical=Range(None, 40.0)),
        SensorEntry("7", sensor_id=7),
    ]
    assert files.import_file(write(tmp_path, "s.yaml", yaml)) == expected
    assert files.import_file(write(tmp_path, "s.csv", csv)) == expected


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    """Each with the entry that it is in."""
    path = write(
        tmp_path,
        "s.yaml",
        """
- {sensor: a, warning: {low: 5, high: 1}}
- {sensor: b, color: red}
- {sensor: c, critical: {high: .inf}}
- {sensor: d, warning: {high: 9}, critical: {high: 5}}
- {sensor: A, sensor_id: 0}
- {name: nobody}
- {sensor: e, sensor_id: 3}
- {sensor: f, sensor_id: 3}
- {sensor: '', unit: 4}
- 17
""",
    )
    with pytest.raises(RegistryError) as told:
        files.import_file(path)
    for fault in (
        "entry 1: a: warning has low 5.0 above high 1.0",
        "entry 2: Object contains unknown field `color`",
        "entry 3: c: critical must be finite",
        "entry 4: d: warning reaches beyond critical",
        "entry 5: a: sensor_id must be",
        "entry 6: Object missing required field `sensor`",
        "sensor_id 3 is there 2 times",
        "entry 9: Expected `str | null`, got `int`",
        "entry 10: Expected `object`, got `int`",
    ):
        assert f"{path}: {fault}" in str(told.value)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("s.yaml", "- {sensor: a}\n- {sensor: A}", "sensor a is there 2 times"),
        ("s.yaml", "sensor: a", "not a list"),
        ("s.yaml", "- [", "expected"),
        ("s.json", '[{"sensor": "a"}', "truncated"),
        ("s.csv", "sensor,colour\na,red\n", "unknown columns: colour"),
        ("s.csv", "sensor,unit\na\n", "not as many cells"),
        ("s.csv", "sensor,unit\na,b,c\n", "not as many cells"),
        ("s.csv", "sensor,warning_low\na,cold\n", "Expected `float | null`, got `str`"),
        ("s.txt", "a", "must end in"),
    ],
)
def test_a_wrong_file_is_told(tmp_path: Path, name: str, text: str, reason: str) -> None:
    """With its path and a reason."""
    with pytest.raises(RegistryError, match=reason) as told:
        files.import_file(write(tmp_path, name, text))
    assert str(tmp_path / name) in str(told.value)


def test_no_file_is_told(tmp_path: Path) -> None:
    """As a fault of the registry, not as a traceback."""
    with pytest.raises(RegistryError, match="No such file"):
        files.import_file(tmp_path / "none.yaml")


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SensorEntry:
    """An entry in the database that the environment names."""
    monkeypatch.setenv("STREAMPROC_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "127.0.0.1:1")
    entry = SensorEntry("abc", device="d", sensor_id=41, warning=Range(1.0, 2.0))

    async def save() -> None:
        store = SqliteStore(tmp_path / "streamproc.db")
        await store.save_entries([entry])
        await store.save_entries([replace(entry, unit="V")])
        await store.close()

    asyncio.run(save())
    return replace(entry, unit="V")


def test_export_and_show(known: SensorEntry, tmp_path: Path) -> None:
    """On stdout as YAML, or in a file; a sensor is found by its name or number."""
    printed = CliRunner().invoke(commands, ["export"])
    assert files.import_file(write(tmp_path, "printed.yaml", printed.stdout)) == [known]
    CliRunner().invoke(commands, ["export", "-o", str(tmp_path / "out.csv")], catch_exceptions=False)
    assert files.import_file(tmp_path / "out.csv") == [known]
    for name in ("ABC", "41"):
        shown = CliRunner().invoke(commands, ["show", name])
        assert shown.stdout.startswith("- sensor: abc\n")
        assert "version: 2\n" in shown.stdout
    assert isinstance(CliRunner().invoke(commands, ["show", "none"]).exception, RegistryError)


def test_without_kafka_an_import_changes_nothing(known: SensorEntry, tmp_path: Path) -> None:
    """Database and topic stay alike."""
    path = write(tmp_path, "new.yaml", "- {sensor: new}")
    result = CliRunner().invoke(commands, ["import", str(path)])
    assert isinstance(result.exception, RegistryError)
    assert "nothing was changed" in str(result.exception)
    assert CliRunner().invoke(commands, ["export"]).stdout == files.export([known])
