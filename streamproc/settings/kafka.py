"""Kafka: the brokers, security, and the names of topics and groups."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings

from streamproc.settings.connection import Connection, Mechanism, Protocol, Security


class KafkaSettings(BaseSettings):
    """Kafka: the brokers, security, and the names of topics and groups."""

    kafka_bootstrap: str | None = Field(
        None,
        alias="KAFKA_BOOTSTRAP",
        description="Brokers as `host:port,…`. Without it, `dev` and the tests start their own.",
    )
    kafka_port: int = Field(
        9092, ge=1, le=65535, alias="KAFKA_PORT", description="Port of the broker that `dev` starts."
    )
    kafka_security_protocol: Protocol = Field(
        "PLAINTEXT",
        alias="KAFKA_SECURITY_PROTOCOL",
        description="`PLAINTEXT`, `SSL` (TLS), `SASL_PLAINTEXT` or `SASL_SSL` (TLS and a login), as the brokers' "
        "listener ([Kafka's security](docs/kafka-security.md)).",
    )
    kafka_sasl_mechanism: Mechanism | None = Field(
        None,
        alias="KAFKA_SASL_MECHANISM",
        description="How the login is done: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.",
    )
    kafka_sasl_username: str | None = Field(
        None, alias="KAFKA_SASL_USERNAME", description="User name for the login to Kafka."
    )
    kafka_sasl_password: SecretStr | None = Field(
        None,
        alias="KAFKA_SASL_PASSWORD",
        repr=False,
        description="The Kafka user's password; never shown or logged.",
    )
    kafka_ssl_cafile: Path | None = Field(
        None,
        alias="KAFKA_SSL_CAFILE",
        description="PEM file of the authorities that sign the brokers' certificates; by default the system's.",
    )
    kafka_ssl_certfile: Path | None = Field(
        None,
        alias="KAFKA_SSL_CERTFILE",
        description="PEM file of this client's certificate, for brokers that want one (mTLS).",
    )
    kafka_ssl_keyfile: Path | None = Field(
        None,
        alias="KAFKA_SSL_KEYFILE",
        description="PEM file of that certificate's private key, if the certificate's file does not contain it.",
    )
    kafka_ssl_password: SecretStr | None = Field(
        None,
        alias="KAFKA_SSL_PASSWORD",
        repr=False,
        description="Passphrase of that private key, if it is encrypted; never shown or logged.",
    )
    topic_prefix: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._-]{0,60}$",
        alias="STREAMPROC_TOPIC_PREFIX",
        description="Prefix of all topic and group names, so that installations can share a broker.",
    )

    @field_validator("kafka_security_protocol", "kafka_sasl_mechanism", mode="before")
    @classmethod
    def _kafka_upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @property
    def kafka(self) -> Connection:
        """How every client of this process reaches Kafka."""
        return Connection(
            self.bootstrap,
            Security(
                self.kafka_security_protocol,
                self.kafka_sasl_mechanism,
                self.kafka_sasl_username,
                self.kafka_sasl_password,
                self.kafka_ssl_cafile,
                self.kafka_ssl_certfile,
                self.kafka_ssl_keyfile,
                self.kafka_ssl_password,
            ),
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
