"""The only reader of the environment, and of the file that IOT_ENV_FILE names. `load()` reports every fault at once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from dotenv import dotenv_values
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from streamproc.errors import SettingsError
from streamproc.settings import connection
from streamproc.settings.access import AccessSettings
from streamproc.settings.console import ConsoleSettings
from streamproc.settings.database import STORE, DatabaseSettings
from streamproc.settings.engine import EngineSettings
from streamproc.settings.gateway import GatewaySettings
from streamproc.settings.jobs import JobsSettings
from streamproc.settings.kafka import KafkaSettings
from streamproc.settings.notify import NotifySettings
from streamproc.settings.sink import SinkSettings

PREFIX = "STREAMPROC_"
#: Names a file whose settings count where the environment has none.
FILE = "IOT_ENV_FILE"
#: Where none is named: the file of the backend, whose credentials the ingest services have always shared.
BACKENDS_FILE = Path("iot_monitor_backend/.env")


class Settings(
    JobsSettings,
    ConsoleSettings,
    NotifySettings,
    SinkSettings,
    EngineSettings,
    AccessSettings,
    GatewaySettings,
    DatabaseSettings,
    KafkaSettings,
):
    """All settings, frozen. Each field's alias is its environment variable; the last base's fields come first."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, env_ignore_empty=True
    )

    env_file: Path | None = Field(
        None,
        alias=FILE,
        description="A `.env` file, for settings that the environment lacks; its other variables are ignored. By default"
        " `iot_monitor_backend/.env`, if the working directory has it; `/dev/null` turns it off.",
    )
    cache_home: Path = Field(
        Path("~/.cache"),
        alias="XDG_CACHE_HOME",
        description="Holds `streamproc/`, where the downloaded Kafka is shared by all projects.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", alias="STREAMPROC_LOG_LEVEL", description="Least severe level that is logged."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  # the library's form
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is given, then the environment; looking for the library's other files takes as long as both."""
        return init_settings, env_settings


def load(**overrides: object) -> Settings:
    """Read the settings from the environment and its file; `overrides`, by field name, take precedence over both.

    Raises SettingsError that names every wrong value, every one that is missing, and every unknown `STREAMPROC_*` variable.
    """
    faults = _unknown(os.environ)
    filed = _filed(os.environ.get(FILE), faults)
    given = {name: value for name, value in overrides.items() if value is not None}
    values = {**_ours(filed), **_ours(os.environ), **_by_alias(given)}
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        faults += [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
    faults += [*_missing(values), *connection.faults(values)]
    if faults:
        raise SettingsError("\n".join(faults))
    return settings


def _filed(named: str | None, faults: list[str]) -> dict[str, str]:
    """The variables of the file that is named, else of the backend's where there is one; what is wrong goes into `faults`."""
    path = Path(named) if named else BACKENDS_FILE
    try:
        found = _from_file(path.expanduser())
    except (OSError, UnicodeDecodeError) as error:
        if named or not isinstance(error, FileNotFoundError | NotADirectoryError):
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            faults.append(f"{FILE}: cannot read {path}: {reason}")
        return {}
    faults += [f"{fault} (in {path})" for fault in _unknown(found)]
    return found | {FILE: str(path)}


def _missing(values: Mapping[str, object]) -> list[str]:
    """What a SQL Server cannot be reached without; told beside the other faults, not after them."""
    if values.get(STORE, "sqlserver" if values.get("DB_HOST") else "sqlite") != "sqlserver":
        return []
    needed = [name for name in ("DB_HOST", "DB_USER", "DB_PASSWORD") if not values.get(name)]
    return [f"{name}: needed for the database on SQL Server" for name in needed]


def _aliases() -> list[str]:
    return [str(field.alias) for field in Settings.model_fields.values()]


def _unknown(names: Iterable[str]) -> list[str]:
    known = set(_aliases())
    return [
        f"{name}: no such setting" for name in sorted(names) if name.startswith(PREFIX) and name not in known
    ]


def _from_file(path: Path) -> dict[str, str]:
    """The variables of a `.env` file, as they stand: a `$` in a password is no reference to another."""
    with path.open(encoding="utf-8-sig") as lines:
        return {
            name: value for name, value in dotenv_values(stream=lines, interpolate=False).items() if value
        }


def _ours(variables: Mapping[str, str]) -> dict[str, object]:
    return {alias: variables[alias] for alias in _aliases() if variables.get(alias)}


def _by_alias(given: dict[str, object]) -> dict[str, object]:
    return {
        str(Settings.model_fields[name].alias) if name in Settings.model_fields else name: value
        for name, value in given.items()
    }
