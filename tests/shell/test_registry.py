"""The registry's files and its commands, without Kafka."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from typer.testing import CliRunner

from streamproc.errors import RegistryError
from streamproc.records import (
    ActionEntry,
    DeltaSpike,
    DeviceEntry,
    DeviceKey,
    Expression,
    NoData,
    Range,
    RateOfChange,
    SensorEntry,
    Severity,
    StuckValue,
)
from streamproc.records.alerting import SilenceEntry, Weekly
from streamproc.registry import device_commands, files
from streamproc.registry.commands import commands
from streamproc.store.edits import Author, Edit, PutAction, PutDevice, PutSensor, sensors
from streamproc.store.edits import devices as registered_devices
from streamproc.store.sqlite.store import SqliteStore
from tests.store.builders import save_entries

numbers = st.one_of(st.none(), st.floats(-1e6, 1e6))
texts = st.one_of(
    st.none(), st.text(st.characters(categories=("L", "N", "P", "Zs")), min_size=1, max_size=20)
)


def a_range(low: float | None, high: float | None, inner: list[float] | None) -> Range | None:
    """A range that makes sense, with clear levels inside it or none, or no range."""
    if low is None and high is None:
        return None
    if low is not None and high is not None and low > high:
        low, high = high, low
    if inner is None:
        return Range(low, high)
    least, most = -1e6 if low is None else low, 1e6 if high is None else high
    levels = sorted(least + part * (most - least) for part in inner)
    clear_low, clear_high = (min(max(level, least), most) for level in levels)
    return Range(low, high, None if low is None else clear_low, None if high is None else clear_high)


ranges = st.builds(
    a_range, numbers, numbers, st.one_of(st.none(), st.lists(st.floats(0, 1), min_size=2, max_size=2))
)

positive = st.floats(1e-3, 1e6)
rules = st.one_of(
    st.builds(DeltaSpike, absolute=positive, within_seconds=st.one_of(st.none(), positive)),
    st.builds(DeltaSpike, percent=positive, severity=st.sampled_from([Severity.WARN, Severity.CRITICAL])),
    st.builds(RateOfChange, positive, st.sampled_from(["1s", "10s"]), for_windows=st.integers(1, 9)),
    st.builds(NoData, st.integers(1, 10**6).map(float)),
    st.builds(StuckValue, st.integers(1, 10**6).map(float), clear_windows=st.integers(1, 9)),
    st.sampled_from([Expression("mean_10s > 80 and trend_1s < -0.5"), Expression("max_1s\n> 3")]),
)
names = st.text("abc123-ñ", min_size=1, max_size=20)
entries = st.lists(
    st.builds(
        SensorEntry,
        sensor=names,
        device=st.one_of(st.none(), st.text("xyz-", min_size=1, max_size=5)),
        name=texts,
        unit=texts,
        kind=texts,
        site=texts,
        tenant=texts,
        warning=ranges,
        rules=st.lists(rules, max_size=3).map(tuple),
    ),
    unique_by=lambda entry: entry.sensor,
    max_size=5,
)
times = st.integers(0, 4_000_000_000_000)
keys = st.builds(
    lambda number, made, ends: DeviceKey(f"k{number}", f"{number:064x}", made, ends),
    st.integers(1, 10**9),
    times,
    st.one_of(st.none(), times),
)
devices = st.lists(
    st.builds(
        DeviceEntry,
        device=names,
        name=texts,
        site=texts,
        enabled=st.booleans(),
        keys=st.lists(keys, max_size=1).map(tuple),
    ),
    unique_by=(
        lambda entry: entry.device,
        lambda entry: entry.keys[0].key_id if entry.keys else entry.device,
    ),
    max_size=3,
)


@pytest.mark.parametrize("suffix", [".yaml", ".json", ".csv"])
@given(given_entries=entries, given_devices=devices)
def test_what_is_exported_is_imported(
    tmp_path_factory: pytest.TempPathFactory,
    suffix: str,
    given_entries: list[SensorEntry],
    given_devices: list[DeviceEntry],
) -> None:
    """In each format, and nothing is lost; CSV has no devices."""
    path = tmp_path_factory.mktemp("files") / f"sensors{suffix}"
    path.write_text(files.export(given_entries, suffix, given_devices), "utf-8")
    found = files.read(path)
    assert found.sensors == given_entries == files.import_file(path)
    assert found.devices == ([] if suffix == ".csv" else given_devices)


@pytest.mark.live
@given(given_entries=entries, given_devices=devices)
@settings(max_examples=25)
def test_what_is_exported_makes_the_same_registry(
    tmp_path_factory: pytest.TempPathFactory,
    given_entries: list[SensorEntry],
    given_devices: list[DeviceEntry],
) -> None:
    """In another database, and once more in the first, where it changes nothing."""
    folder = tmp_path_factory.mktemp("round")

    async def exported(store: SqliteStore) -> str:
        found = await store.registry()
        return files.export(sensors(found), ".yaml", registered_devices(found))

    async def imported(store: SqliteStore, text: str) -> list[bool]:
        contents = files.read(write(folder, "r.yaml", text))
        edits: list[Edit] = [PutDevice(entry) for entry in contents.devices]
        edits += [PutSensor(entry) for entry in contents.sensors]
        return [outcome.changed for outcome in await store.edit_registry(edits, Author("test", 1))]

    async def run() -> None:
        one, other = SqliteStore(folder / "one.db"), SqliteStore(folder / "other.db")
        await imported(one, files.export(given_entries, ".yaml", given_devices))
        text = await exported(one)
        await imported(other, text)
        assert await exported(other) == text
        assert not any(await imported(one, text))
        await one.close()
        await other.close()

    asyncio.run(run())


def write(folder: Path, name: str, text: str) -> Path:
    """A file with this text."""
    path = folder / name
    path.write_text(text, "utf-8", newline="")
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


@pytest.mark.parametrize(
    "name", ["10:22:33:44:55:01", "007", "1_000", "0x1f", "2026-11-22", "1.50", "no", "true", "7"]
)
def test_names_in_yaml_are_as_they_are_written(tmp_path: Path, name: str) -> None:
    """YAML 1.1 would read a MAC address as a number of minutes, and register another sensor without a word."""
    text = f"- {{sensor: {name}, device: {name}, name: {name}, site: ~, sensor_id: 7}}"
    expected = SensorEntry(name, device=name, name=name, sensor_id=7)
    assert files.import_file(write(tmp_path, "s.yaml", text)) == [expected]
    assert files.import_file(write(tmp_path, "t.yaml", files.export([expected]))) == [expected]


def test_a_time_of_day_in_yaml_needs_no_quotes(tmp_path: Path) -> None:
    """YAML 1.1 would read it as a number of minutes."""
    weekly = "{days: [0], at: 22:00, minutes: 480, zone: Europe/Madrid}"
    text = f"silences: [{{silence: nights, site: north, weekly: {weekly}}}]"
    [silence] = files.read(write(tmp_path, "s.yaml", text)).documents
    assert silence == SilenceEntry("nights", site="north", weekly=Weekly((0,), "22:00", 480, "Europe/Madrid"))


@pytest.mark.parametrize(
    ("suffix", "text"),
    [(".yaml", "- {sensor: a}"), (".json", '[{"sensor": "a"}]'), (".csv", "sensor,unit\r\na,\r\n")],
)
def test_a_mark_before_the_text_is_no_part_of_it(tmp_path: Path, suffix: str, text: str) -> None:
    """Spreadsheets write one, and Windows' editors and shells."""
    assert files.import_file(write(tmp_path, f"s{suffix}", f"\ufeff{text}")) == [SensorEntry("a")]


@pytest.mark.parametrize("suffix", [".yaml", ".json", ".csv"])
@pytest.mark.parametrize(
    "text", ["a\rb", "a\r\nb", "\n", "\x85", "a\x85b", "\u2028", "\x00", "\x1b", "'\"", "😀"]
)
def test_any_text_is_exported_and_imported(tmp_path: Path, suffix: str, text: str) -> None:
    """Other programs' tables have what people have pasted, ends of lines as well."""
    entry = SensorEntry("a", name=text, unit="V")
    assert files.import_file(write(tmp_path, f"s{suffix}", files.export([entry], suffix))) == [entry]


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
- {sensor: '', unit: [5]}
- 17
- {sensor: device/x}
- {sensor: g, warning: {low: 1, clear_low: 0.5, clear_high: 3}}
- {sensor: h, warning: {low: 1, high: 9, clear_low: 8, clear_high: 2}}
- {sensor: i, rules: [{rule: delta_spike}, {rule: delta_spike, absolute: -1, severity: 0}]}
- {sensor: j, rules: [{rule: other}]}
- {sensor: k, unit: ''}
- sensor: l
  rules: [{rule: rate_of_change, per_second: 0, for_windows: 0}, {rule: rate_of_change, per_second: 1, window: 3s}]
- {sensor: m, rules: [{rule: rate_of_change}]}
- sensor: n
  rules: [{rule: no_data, seconds: 0.5}, {rule: stuck_value, seconds: .nan, tolerance: -1, clear_windows: 2000}]
- {sensor: o, rules: [{rule: stuck_value, seconds: 5}, {rule: stuck_value, seconds: 9, tolerance: 1}]}
- {sensor: p, rules: [{rule: no_data, seconds: 9}, {rule: expression, expression: mean_10s > foo, severity: 0}]}
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
        "entry 9: Expected `str | null`, got `array`",
        "entry 10: Expected `object`, got `int`",
        "entry 11: device/x: a sensor's name may not begin with device/",
        "entry 12: g: warning has clear_high, but no high",
        "entry 12: g: warning has the clear level 0.5 outside the range",
        "entry 13: h: warning has clear_low 8.0 above clear_high 2.0",
        "entry 14: i: rule 1: needs absolute or percent",
        "entry 14: i: rule 2: absolute must be above 0",
        "entry 14: i: rule 2: severity must be",
        "entry 15: Invalid value 'other' - at `$.rules[0].rule`",
        "entry 16: k: unit must have 1 to 50 characters",
        "entry 17: Invalid enum value '3s' - at `$.rules[1].window`",
        "entry 18: Object missing required field `per_second` - at `$.rules[0]`",
        "entry 19: n: rule 1: seconds must be 1 to 31622400 (a year)",
        "entry 19: n: rule 2: seconds must be above 0",
        "entry 19: n: rule 2: tolerance must be 0 or more",
        "entry 19: n: rule 2: clear_windows must be 1 to 1000",
        "entry 20: o: all of its rules stuck_value must have the same tolerance",
        "entry 21: p: rule 2: severity must be 1 (WARN) or 2 (CRITICAL)",
        "entry 21: p: rule 2: expression `foo` is no number of a window: name one as <number>_<size>: mean min max",
    ):
        assert f"{path}: {fault}" in str(told.value)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("s.yaml", "- {sensor: a}\n- {sensor: A}", "sensor a is there 2 times"),
        ("s.yaml", "sensor: a", "not a list"),
        ("s.yaml", "sensors: a", "`sensors:` is not a list"),
        ("s.yaml", "devices: [{device: a}, {device: A}]", "device a is there 2 times"),
        ("s.yaml", "devices: [{device: a, keys: [{key_id: K, sha256: x, created_at: 1}]}]", "64 hexadecimal"),
        ("s.csv", "sensor,rules\na,nothing\n", "malformed"),
        ("s.yaml", "- [", "expected"),
        ("s.json", '[{"sensor": "a"}', "truncated"),
        ("s.csv", "sensor,colour\na,red\n", "unknown columns: colour"),
        ("s.csv", "sensor,unit\na\n", "not as many cells"),
        ("s.csv", "sensor,unit\na,b,c\n", "not as many cells"),
        ("s.csv", "sensor,warning_low\na,cold\n", "Expected `float | null`, got `str`"),
        ("s.csv", "sensor;unit\na;V\n", "unknown columns: sensor;unit; separate cells by commas"),
        ("s.csv", "sensor,unit,unit\na,V,W\n", "columns that are there twice: unit"),
        ("s.yaml", "sensors: [{sensor: a}]\nsensors: [{sensor: b}]", "'sensors' is there twice"),
        ("s.yaml", "- {sensor: a, unit: V, unit: W}", "'unit' is there twice"),
        (
            "s.json",
            '{"sensors": [{"sensor": "a"}], "sensors": [{"sensor": "b"}]}',
            "'sensors' is there twice",
        ),
        ("s.json", '[{"sensor": "a", "critical": {"low": 1, "low": 2}}]', "'low' is there twice"),
        (
            "s.csv",
            'sensor,rules\na,"[{""rule"":""no_data"",""seconds"":9,""seconds"":60}]"\n',
            "'seconds' is there twice",
        ),
        ("s.yaml", '- {sensor: a, name: "\\ud800"}', "entry 1: a: name has half a character"),
        ("s.yaml", "[" * 2_000, "recursion"),
        ("s.json", "[" * 2_000, "recursion"),
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
        await save_entries(store, [entry])
        await save_entries(store, [replace(entry, unit="V")])
        await store.close()

    asyncio.run(save())
    return replace(entry, unit="V")


def test_export_and_show(known: SensorEntry, tmp_path: Path) -> None:
    """On stdout as YAML, or in a file; a sensor is found by its name or number."""
    printed = CliRunner().invoke(commands, ["export"])
    found = files.read(write(tmp_path, "printed.yaml", printed.stdout))
    assert found == files.Contents([DeviceEntry("d")], [known], [], [])
    CliRunner().invoke(commands, ["export", "-o", str(tmp_path / "out.csv")], catch_exceptions=False)
    assert files.import_file(tmp_path / "out.csv") == [known]
    nowhere = CliRunner().invoke(commands, ["export", "-o", str(tmp_path / "none" / "out.yaml")]).exception
    assert isinstance(nowhere, RegistryError)
    assert "cannot be written: No such file" in str(nowhere)
    for name in ("ABC", "41"):
        shown = CliRunner().invoke(commands, ["show", name])
        assert shown.stdout.startswith("- sensor: abc\n")
        assert "version: 2\n" in shown.stdout
    assert isinstance(CliRunner().invoke(commands, ["show", "none"]).exception, RegistryError)


@pytest.mark.usefixtures("known")
def test_lists_show_texts_as_they_are(tmp_path: Path) -> None:
    """What has brackets as rich's marks of style have is a text all the same, and no error."""

    async def save() -> None:
        store = SqliteStore(tmp_path / "streamproc.db")
        edits: list[Edit] = [
            PutDevice(DeviceEntry("[/d]", "[red]x")),
            PutAction(ActionEntry("[/k]", "stuck", "[/]")),
        ]
        await store.edit_registry(edits, Author("test", 1))
        await store.close()

    asyncio.run(save())
    listed = CliRunner().invoke(device_commands.commands, ["list"], catch_exceptions=False).stdout
    assert "[/d]" in listed
    assert "[red]x" in listed
    listed = CliRunner().invoke(commands, ["action", "list"], catch_exceptions=False).stdout
    assert "[/k]" in listed


def test_without_kafka_an_import_changes_nothing(known: SensorEntry, tmp_path: Path) -> None:
    """Database and topic stay alike."""
    path = write(tmp_path, "new.yaml", "- {sensor: new}")
    result = CliRunner().invoke(commands, ["import", str(path)])
    assert isinstance(result.exception, RegistryError)
    assert "nothing was changed" in str(result.exception)
    exported = files.export([known], devices=[DeviceEntry("d")])
    assert CliRunner().invoke(commands, ["export"]).stdout == exported
