"""Kafka: the brokers, and what topics and groups are called there."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings


class KafkaSettings(BaseSettings):
    """Kafka: the brokers, and what topics and groups are called there."""

    kafka_bootstrap: str | None = Field(
        None,
        alias="KAFKA_BOOTSTRAP",
        description="Brokers as `host:port,…`. Without it, `dev` and the tests start their own.",
    )
    kafka_port: int = Field(
        9092, ge=1, le=65535, alias="KAFKA_PORT", description="Port of the broker that `dev` starts."
    )
    topic_prefix: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._-]{0,60}$",
        alias="STREAMPROC_TOPIC_PREFIX",
        description="Put before every topic's and group's name, so that installations can share a broker.",
    )

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
