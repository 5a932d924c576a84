"""The gateway: where it listens, who may write, and what it takes."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings


class GatewaySettings(BaseSettings):
    """The gateway: where it listens, who may write, and what it takes."""

    gateway_host: str = Field(
        "127.0.0.1", alias="GATEWAY_HOST", description="Address that the gateway listens on."
    )
    gateway_port: int = Field(8001, ge=0, le=65535, alias="GATEWAY_PORT", description="Port of the gateway.")
    gateway_workers: int = Field(
        1,
        ge=1,
        le=256,
        alias="STREAMPROC_GATEWAY_WORKERS",
        description="Processes of the gateway, all on its port; more than there are cores bring nothing.",
    )
    ingest_api_key: str | None = Field(
        None,
        alias="INGEST_API_KEY",
        repr=False,
        description="If set, requests to `/ingest/*` must send it in `X-API-Key`.",
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
    inflated_limit_bytes: int = Field(
        4_194_304,
        ge=1_024,
        le=67_108_864,
        alias="STREAMPROC_INFLATED_LIMIT_BYTES",
        description="Largest size of a compressed body once it is inflated.",
    )
    packets_limit: int = Field(
        1_000,
        ge=1,
        le=100_000,
        alias="STREAMPROC_PACKETS_LIMIT",
        description="Most packets in one body.",
    )
    admin_api_key: SecretStr | None = Field(
        None,
        min_length=16,
        alias="STREAMPROC_ADMIN_API_KEY",
        repr=False,
        description="If set, the gateway serves the registry's admin API to requests with this key in `X-Admin-Key`.",
    )
