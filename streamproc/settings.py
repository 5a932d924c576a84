"""The only reader of the environment, and of the file that IOT_ENV_FILE names. `load()` reports every fault at once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from streamproc.errors import SettingsError
from streamproc.records import WINDOW_SIZES_MS

PREFIX = "STREAMPROC_"
#: Names a file whose settings count where the environment has none.
FILE = "IOT_ENV_FILE"
STORE = "STREAMPROC_STORE"


class Settings(BaseSettings):
    """All settings, frozen. Each field's alias is its environment variable."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, env_ignore_empty=True
    )

    kafka_bootstrap: str | None = Field(
        None,
        alias="KAFKA_BOOTSTRAP",
        description="Brokers as `host:port,…`. Without it, `dev` and the tests start their own.",
    )
    kafka_port: int = Field(
        9092, ge=1, le=65535, alias="KAFKA_PORT", description="Port of the broker that `dev` starts."
    )
    gateway_host: str = Field(
        "127.0.0.1", alias="GATEWAY_HOST", description="Address that the gateway listens on."
    )
    gateway_port: int = Field(8001, ge=0, le=65535, alias="GATEWAY_PORT", description="Port of the gateway.")
    console_port: int = Field(
        8002, ge=0, le=65535, alias="CONSOLE_PORT", description="Port of the console (read side)."
    )
    ingest_api_key: str | None = Field(
        None,
        alias="INGEST_API_KEY",
        repr=False,
        description="Where set, `/ingest/*` wants it in `X-API-Key`.",
    )

    env_file: Path | None = Field(
        None,
        alias=FILE,
        description="A `.env` file; its settings count where the environment has none. What else is in it is left alone.",
    )
    db_host: str | None = Field(
        None, alias="DB_HOST", description="Host of the SQL Server; where set, the database is there."
    )
    db_port: int = Field(1433, ge=1, le=65535, alias="DB_PORT", description="Port of the SQL Server.")
    db_user: str | None = Field(
        None, alias="DB_USER", description="Login at the SQL Server ([rights](docs/sqlserver.md#rights))."
    )
    db_password: SecretStr | None = Field(
        None, alias="DB_PASSWORD", repr=False, description="The login's password; never shown or logged."
    )
    db_name: str = Field(
        "iot_monitoring_system",
        min_length=1,
        max_length=128,
        alias="DB_NAME",
        description="Database at the SQL Server.",
    )
    db_encrypt: bool = Field(
        True,
        alias="DB_ENCRYPT",
        description="Encrypt the connection to the SQL Server; `no` sends all as it is.",
    )
    db_trust_server_certificate: bool = Field(
        False,
        alias="DB_TRUST_SERVER_CERTIFICATE",
        description="Take the SQL Server's certificate unchecked, such as the one that it makes itself.",
    )
    odbc_driver: str | None = Field(
        None,
        alias="ODBC_DRIVER",
        description="An installed ODBC driver by name, or a `.so` by path; by default Microsoft's 18 or 17, found by itself.",
    )
    store: Literal["sqlite", "sqlserver"] = Field(
        "sqlite",
        alias=STORE,
        description="`sqlite` or `sqlserver`; where `DB_HOST` is set, `sqlserver` is the default.",
    )

    data_dir: Path = Field(
        Path("data"),
        alias="STREAMPROC_DATA_DIR",
        description="Where `dev` keeps its database and Kafka's log.",
    )
    cache_home: Path = Field(
        Path("~/.cache"),
        alias="XDG_CACHE_HOME",
        description="Holds `streamproc/`, where the downloaded Kafka is kept for all projects.",
    )
    database: Path | None = Field(
        None,
        alias="STREAMPROC_DATABASE",
        description="SQLite file; by default `streamproc.db` in the data directory.",
    )
    topic_prefix: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._-]{0,60}$",
        alias="STREAMPROC_TOPIC_PREFIX",
        description="Put before every topic's and group's name, so that installations can share a broker.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", alias="STREAMPROC_LOG_LEVEL", description="Least severe line that is logged."
    )
    language: Literal["en", "es"] = Field(
        "en", alias="STREAMPROC_LANGUAGE", description="Language of explanations and recommended actions."
    )

    allowed_lateness_ms: int = Field(
        2_000,
        ge=0,
        le=3_600_000,
        alias="STREAMPROC_ALLOWED_LATENESS_MS",
        description="How far behind its sensor's newest reading a reading may be and still count in its window.",
    )
    allowed_skew_ms: int = Field(
        60_000,
        ge=0,
        le=86_400_000,
        alias="STREAMPROC_ALLOWED_SKEW_MS",
        description="How far ahead of its Kafka record's timestamp a reading may be.",
    )
    tick_interval_seconds: float = Field(
        1.0,
        gt=0,
        le=60,
        alias="STREAMPROC_TICK_INTERVAL_SECONDS",
        description="A partition that is silent for so long gets a tick record, which closes silent sensors' windows.",
    )
    checkpoint_interval_seconds: float = Field(
        5.0,
        gt=0,
        le=600,
        alias="STREAMPROC_CHECKPOINT_INTERVAL_SECONDS",
        description="Least time between two checkpoints of a partition.",
    )
    snapshot_interval_seconds: float = Field(
        3_600.0,
        ge=0,
        le=86_400,
        alias="STREAMPROC_SNAPSHOT_INTERVAL_SECONDS",
        description="Time between two snapshots of a partition, where replays and rebuilds start; 0 takes none.",
    )
    watchdog_seconds: float = Field(
        60.0,
        gt=0,
        alias="STREAMPROC_WATCHDOG_SECONDS",
        description="A worker with a backlog that processes nothing for so long leaves with an error.",
    )
    group_instance_id: str | None = Field(
        None,
        alias="STREAMPROC_GROUP_INSTANCE_ID",
        description="Static group membership: a worker restarted under the same name causes no rebalance.",
    )
    worker_host: str = Field(
        "127.0.0.1",
        alias="STREAMPROC_WORKER_HOST",
        description="Address of the worker's metrics and health.",
    )
    worker_port: int = Field(
        0,
        ge=0,
        le=65535,
        alias="STREAMPROC_WORKER_PORT",
        description="Port of the worker's metrics and health; 0 turns it off.",
    )

    auto_register: bool = Field(
        False,
        alias="STREAMPROC_AUTO_REGISTER",
        description="Register devices and sensors when they are first seen; `dev` turns it on.",
    )
    sink_batch_rows: int = Field(
        20_000,
        ge=1,
        le=1_000_000,
        alias="STREAMPROC_SINK_BATCH_ROWS",
        description="Most rows that the sink writes in one transaction.",
    )
    sink_host: str = Field(
        "127.0.0.1", alias="STREAMPROC_SINK_HOST", description="Address of the sink's metrics and health."
    )
    sink_port: int = Field(
        0,
        ge=0,
        le=65535,
        alias="STREAMPROC_SINK_PORT",
        description="Port of the sink's metrics and health; 0 turns it off.",
    )
    sink_linger_ms: int = Field(
        100,
        ge=0,
        le=60_000,
        alias="STREAMPROC_SINK_LINGER_MS",
        description="How long the sink waits for a batch to fill.",
    )

    sink_windows: str = Field(
        ",".join(str(size // 1000) for size in WINDOW_SIZES_MS),
        alias="STREAMPROC_SINK_WINDOWS",
        description="Sizes of the windows that the sink stores, in seconds; `none` stores none.",
    )

    body_limit_bytes: int = Field(
        1_048_576,
        ge=1_024,
        le=67_108_864,
        alias="STREAMPROC_BODY_LIMIT_BYTES",
        description="Largest body that the gateway reads.",
    )
    packet_readings_limit: int = Field(
        10_000,
        ge=1,
        le=1_000_000,
        alias="STREAMPROC_PACKET_READINGS_LIMIT",
        description="Most readings in one packet.",
    )
    body_timeout_seconds: float = Field(
        10.0,
        gt=0,
        le=300,
        alias="STREAMPROC_BODY_TIMEOUT_SECONDS",
        description="How long a client may take to send a body before the gateway answers 408.",
    )
    in_flight_limit_bytes: int = Field(
        67_108_864,
        ge=1_048_576,
        alias="STREAMPROC_IN_FLIGHT_LIMIT_BYTES",
        description="Bytes of bodies that the gateway holds at once; beyond, it answers 503.",
    )
    in_flight_limit: int = Field(
        4_096,
        ge=1,
        alias="STREAMPROC_IN_FLIGHT_LIMIT",
        description="Requests that may wait for Kafka at once; beyond, the gateway answers 503.",
    )
    ack_timeout_seconds: float = Field(
        10.0,
        gt=0,
        le=300,
        alias="STREAMPROC_ACK_TIMEOUT_SECONDS",
        description="How long the gateway waits for Kafka before it answers 503.",
    )

    @field_validator("sink_windows")
    @classmethod
    def _sizes_exist(cls, text: str) -> str:
        known = [str(size // 1000) for size in WINDOW_SIZES_MS]
        if unknown := [word for word in _words(text) if word not in known]:
            told = ", ".join(f"'{word}'" for word in unknown)
            raise ValueError(f"no such size: {told}; there are {','.join(known)}, or none")
        return text

    @model_validator(mode="before")
    @classmethod
    def _where_the_host_is(cls, values: dict[str, Any]) -> dict[str, Any]:
        if (values.get("DB_HOST") or values.get("db_host")) and not (
            values.get(STORE) or values.get("store")
        ):
            return {**values, STORE: "sqlserver"}
        return values

    @field_validator("db_host")
    @classmethod
    def _host_alone(cls, host: str | None) -> str | None:
        if host is not None and ("," in host or set(host) & set(" ;{}=")):
            raise ValueError("a host's name or address alone; its port goes into DB_PORT")
        return host

    @property
    def sink_window_sizes_ms(self) -> frozenset[int]:
        """The sizes of the windows that the sink stores."""
        return frozenset(int(word) * 1000 for word in _words(self.sink_windows))

    @property
    def database_path(self) -> Path:
        """The SQLite file in use."""
        return self.database or self.data_dir / "streamproc.db"

    @property
    def database_place(self) -> str:
        """Where the database is, as people are told: a file, or host:port/database."""
        if self.store == "sqlite":
            return str(self.database_path)
        return f"{self.db_host}:{self.db_port}/{self.db_name}"

    @property
    def bootstrap(self) -> str:
        """The brokers in use: those named, or the one that `dev` starts on this machine."""
        return self.kafka_bootstrap or f"127.0.0.1:{self.kafka_port}"

    def group(self, name: str) -> str:
        """The consumer group of the stage `name`."""
        return f"{self.topic_prefix}streamproc-{name}"

    def topic(self, name: str) -> str:
        """The broker's name of the topic that topics.yaml calls `name`."""
        return self.topic_prefix + name


def load(**overrides: object) -> Settings:
    """Read the settings from the environment and its file; `overrides`, by field name, go before both.

    Raises SettingsError that names every wrong value, every one that is missing, and every unknown `STREAMPROC_*` variable.
    """
    faults = _unknown(os.environ)
    filed: dict[str, str] = {}
    if path := os.environ.get(FILE):
        try:
            filed = _from_file(Path(path).expanduser())
        except (OSError, UnicodeDecodeError) as error:
            faults.append(
                f"{FILE}: cannot read {path}: {getattr(error, 'strerror', None) or 'it is not UTF-8'}"
            )
        faults += [f"{fault} (in {path})" for fault in _unknown(filed)]
    given = {name: value for name, value in overrides.items() if value is not None}
    values = {**_ours(filed), **_ours(os.environ), **_by_alias(given)}
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        faults += [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
    faults += _missing(values)
    if faults:
        raise SettingsError("\n".join(faults))
    return settings


def _missing(values: Mapping[str, object]) -> list[str]:
    """What a SQL Server cannot be reached without; told beside the other faults, not after them."""
    if values.get(STORE, "sqlserver" if values.get("DB_HOST") else "sqlite") != "sqlserver":
        return []
    needed = [name for name in ("DB_HOST", "DB_USER", "DB_PASSWORD") if not values.get(name)]
    return [f"{name}: needed for the database on SQL Server" for name in needed]


def _words(sizes: str) -> list[str]:
    return [] if sizes.strip() == "none" else [word.strip() for word in sizes.split(",")]


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
