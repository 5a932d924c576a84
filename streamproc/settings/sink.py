"""The sink: what it writes, and how much at once."""

from __future__ import annotations

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

from streamproc.records import WINDOW_SIZES_MS


class SinkSettings(BaseSettings):
    """The sink: what it writes, and how much at once."""

    auto_register: bool = Field(
        False,
        alias="STREAMPROC_AUTO_REGISTER",
        description="Register devices and sensors when they are first seen; `dev` turns it on.",
    )
    sensor_map_ttl_seconds: float = Field(
        300.0,
        ge=1,
        le=86_400,
        alias="SENSOR_MAP_TTL_SECONDS",
        description="How often a sink compares the registry in the database with the topic; edits by SQL take effect then.",
    )
    sink_batch_rows: int = Field(
        20_000,
        ge=1,
        le=1_000_000,
        alias="STREAMPROC_SINK_BATCH_ROWS",
        description="Most rows that the sink writes in one transaction.",
    )
    # Twice what 20,000 windows are: rows are what bounds numbers, and this bounds texts. A transaction holds several times as
    # much of them: decoded, in the statement, and in UTF-16 in the driver.
    sink_batch_bytes: int = Field(
        8_388_608,
        ge=1,
        le=268_435_456,
        alias="STREAMPROC_SINK_BATCH_BYTES",
        description="Most bytes of records that the sink writes in one transaction; a larger record goes alone.",
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


def _words(sizes: str) -> list[str]:
    return [] if sizes.strip() == "none" else [word.strip() for word in sizes.split(",")]
