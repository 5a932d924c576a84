"""An entry of the registry as a row: uuid, device's uuid, id, name, unit, kind, the four bounds, version."""

from __future__ import annotations

from streamproc.records import Range, SensorEntry


def row_of(entry: SensorEntry) -> tuple[object, ...]:
    """An entry's columns."""
    warning, critical = entry.warning or Range(), entry.critical or Range()
    return (
        entry.sensor,
        entry.device,
        entry.sensor_id,
        entry.name,
        entry.unit,
        entry.kind,
        warning.low,
        warning.high,
        critical.low,
        critical.high,
        entry.version,
    )


def entry_of(
    row: tuple[str, str | None, int, str | None, str | None, str | None, *tuple[float | None, ...], int],
) -> SensorEntry:
    """The entry that a row of these columns is."""
    sensor, device, sensor_id, name, unit, kind, *bounds, version = row
    warning_low, warning_high, critical_low, critical_high = bounds
    return SensorEntry(
        sensor=sensor,
        device=device,
        sensor_id=sensor_id,
        name=name,
        unit=unit,
        kind=kind,
        warning=_range(warning_low, warning_high),
        critical=_range(critical_low, critical_high),
        version=version,
    )


def _range(low: float | None, high: float | None) -> Range | None:
    return None if low is None and high is None else Range(low, high)
