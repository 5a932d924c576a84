"""The engine: time, checkpoints, and the worker around it."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings

from streamproc.records import Language


class EngineSettings(BaseSettings):
    """The engine: time, checkpoints, and the worker around it."""

    language: Language = Field(
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
    horizon: int = Field(
        1,
        ge=1,
        le=60,  # core.steps.MOST_STEPS: a step takes 26 bytes of a sensor, and a row of each window
        alias="ML_BATCH_HORIZON",
        description="How many windows of 10 s ahead each sensor's value is predicted, with an interval of its own for each.",
    )
    tick_interval_seconds: float = Field(
        1.0,
        gt=0,
        le=60,
        alias="STREAMPROC_TICK_INTERVAL_SECONDS",
        description="A partition that is silent for this long gets a tick record, which closes silent sensors' windows.",
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
        description="A worker with a backlog that processes nothing for this long ends with an error, and so does a sink that"
        " waits this long for the topic `registry`.",
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
