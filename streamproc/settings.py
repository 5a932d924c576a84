"""The only reader of the environment. `load()` reports every fault at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from streamproc.errors import SettingsError
from streamproc.records import WINDOW_SIZES_MS

PREFIX = "STREAMPROC_"


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

    @property
    def sink_window_sizes_ms(self) -> frozenset[int]:
        """The sizes of the windows that the sink stores."""
        return frozenset(int(word) * 1000 for word in _words(self.sink_windows))

    @property
    def database_path(self) -> Path:
        """The SQLite file in use."""
        return self.database or self.data_dir / "streamproc.db"

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
    """Read the settings from the environment; `overrides`, by field name, go before it.

    Raises SettingsError that names every wrong value and every unknown `STREAMPROC_*` variable.
    """
    known = {str(field.alias) for field in Settings.model_fields.values()}
    faults = [
        f"{name}: no such setting"
        for name in sorted(os.environ)
        if name.startswith(PREFIX) and name not in known
    ]
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        settings = Settings.model_validate({**_from_environment(), **_by_alias(given)})
    except ValidationError as error:
        faults += [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
    if faults:
        raise SettingsError("\n".join(faults))
    return settings


def _words(sizes: str) -> list[str]:
    return [] if sizes.strip() == "none" else [word.strip() for word in sizes.split(",")]


def _from_environment() -> dict[str, object]:
    aliases = (str(field.alias) for field in Settings.model_fields.values())
    return {alias: os.environ[alias] for alias in aliases if os.environ.get(alias)}


def _by_alias(given: dict[str, object]) -> dict[str, object]:
    return {
        str(Settings.model_fields[name].alias) if name in Settings.model_fields else name: value
        for name, value in given.items()
    }
