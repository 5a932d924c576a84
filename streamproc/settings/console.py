"""The console: where it listens, and who may read."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings


class ConsoleSettings(BaseSettings):
    """The console: where it listens, and who may read."""

    console_host: str = Field(
        "127.0.0.1", alias="CONSOLE_HOST", description="Address that the console listens on."
    )
    console_port: int = Field(
        8002, ge=0, le=65535, alias="CONSOLE_PORT", description="Port of the console (read side)."
    )
    console_token: SecretStr | None = Field(
        None,
        min_length=16,
        alias="STREAMPROC_CONSOLE_TOKEN",
        repr=False,
        description="If set, readers must send it as `Authorization: Bearer …`; the page asks for it"
        " ([who may read](docs/console.md#who-may-read)).",
    )
    console_clients: int = Field(
        100,
        ge=1,
        le=10_000,
        alias="STREAMPROC_CONSOLE_CLIENTS",
        description="Pages and programs that may follow the console live at once; beyond, it answers 503.",
    )
