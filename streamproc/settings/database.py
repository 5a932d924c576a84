"""The database: SQLite in the data directory, or SQL Server."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings

STORE = "STREAMPROC_STORE"


class DatabaseSettings(BaseSettings):
    """The database: SQLite in the data directory, or SQL Server."""

    data_dir: Path = Field(
        Path("data"),
        alias="STREAMPROC_DATA_DIR",
        description="Where `dev` keeps its database and Kafka's log.",
    )
    database: Path | None = Field(
        None,
        alias="STREAMPROC_DATABASE",
        description="SQLite file; by default `streamproc.db` in the data directory.",
    )
    store: Literal["sqlite", "sqlserver"] = Field(
        "sqlite",
        alias=STORE,
        description="`sqlite` or `sqlserver`; if `DB_HOST` is set, `sqlserver` is the default.",
    )
    db_host: str | None = Field(
        None, alias="DB_HOST", description="Host of the SQL Server; if set, the database is there."
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
        description="Encrypt the connection to the SQL Server; `no` sends everything unencrypted.",
    )
    db_trust_server_certificate: bool = Field(
        False,
        alias="DB_TRUST_SERVER_CERTIFICATE",
        description="Accept any certificate of the SQL Server unchecked, such as a self-signed one.",
    )
    odbc_driver: str | None = Field(
        None,
        alias="ODBC_DRIVER",
        description="Name of an installed ODBC driver, or path of a `.so`; by default Microsoft's 18 or 17 is found.",
    )

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
    def database_path(self) -> Path:
        """The SQLite file in use."""
        return self.database or self.data_dir / "streamproc.db"

    @property
    def database_place(self) -> str:
        """Where the database is, as people are told: a file, or host:port/database."""
        if self.store == "sqlite":
            return str(self.database_path)
        return f"{self.db_host}:{self.db_port}/{self.db_name}"
