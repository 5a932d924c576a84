"""The settings as text: the README's table, and the values in force."""

from __future__ import annotations

from pathlib import Path

from pydantic.fields import FieldInfo

from streamproc.settings import Settings


def settings_table() -> str:
    """All settings as a Markdown table: variable, default, meaning; the README holds a copy.

    >>> print(settings_table().splitlines()[0])
    | Variable | Default | What it does |
    """
    rows = [f"| `{field.alias}` | {_default(field)} | {field.description} |" for field in _fields()]
    return "\n".join(["| Variable | Default | What it does |", "|---|---|---|", *rows])


def settings_now(settings: Settings) -> str:
    """Each setting's variable and value, one a line; a secret's value is not shown."""
    lines = []
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        lines.append(f"{field.alias}={'(set)' if value and not field.repr else _text(value)}")
    return "\n".join(lines)


def _fields() -> list[FieldInfo]:
    return list(Settings.model_fields.values())


def _default(field: FieldInfo) -> str:
    return f"`{_text(field.default)}`" if field.default not in (None, "") else "none"


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return value.as_posix() if isinstance(value, Path) else str(value)
