"""Who may write to the gateway, how often, and over TLS or not."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Literal, NamedTuple, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings

Network = IPv4Network | IPv6Network

#: More windows than a second, a minute, an hour and a day nobody needs; each costs a request's time.
_WINDOWS = 4
#: A bucket is forgotten when it is full again; longer than a day, and memory fills with those that are not.
_LONGEST_SECONDS = 86_400


class Window(NamedTuple):
    """A token bucket: how many tokens it holds, and after how many seconds an empty one is full again."""

    tokens: int
    seconds: float


class AccessSettings(BaseSettings):
    """Who may write to the gateway, how often, and over TLS or not."""

    device_keys: Literal["off", "required"] = Field(
        "off",
        alias="STREAMPROC_DEVICE_KEYS",
        description="`required`: writers must send a key of the device in `X-Device-Key`"
        " ([who may write](docs/gateway.md#who-may-write)); `INGEST_API_KEY` then counts only for the legacy endpoints.",
    )
    rate_limit_ip: str | None = Field(
        None,
        alias="STREAMPROC_RATE_LIMIT_IP",
        description="Requests that one address may send, as `requests:seconds,…`, such as `20:1,600:60`; beyond, the gateway"
        " answers 429.",
    )
    rate_limit_device: str | None = Field(
        None,
        alias="STREAMPROC_RATE_LIMIT_DEVICE",
        description="Packets that one device may send, as `packets:seconds,…`.",
    )
    key_failure_limit: str = Field(
        "20:60",
        alias="STREAMPROC_KEY_FAILURE_LIMIT",
        description="Wrong keys that one address may send, as `keys:seconds,…`; beyond, the gateway answers 429 to keys"
        " that have not been right from there before. `none` turns it off.",
    )
    trusted_proxies: str | None = Field(
        None,
        alias="STREAMPROC_TRUSTED_PROXIES",
        description="Networks of the proxies in front of the gateway, such as `10.0.0.0/8,::1`: the client's address is"
        " then the one in their `X-Forwarded-For`.",
    )
    connection_limit: int = Field(
        10_000,
        ge=1,
        le=1_000_000,
        alias="STREAMPROC_CONNECTION_LIMIT",
        description="Connections to the gateway at once; beyond, the one that has been idle for longest is closed.",
    )
    connection_limit_ip: int = Field(
        2_500,
        ge=1,
        le=1_000_000,
        alias="STREAMPROC_CONNECTION_LIMIT_IP",
        description="Connections from one address at once, proxies aside; beyond, they are refused.",
    )
    tls_certificate: Path | None = Field(
        None,
        alias="GATEWAY_TLS_CERTIFICATE",
        description="The gateway's certificate with its chain, as PEM; if set, it speaks TLS (1.2 or newer).",
    )
    tls_key: Path | None = Field(
        None,
        alias="GATEWAY_TLS_KEY",
        description="The private key of the certificate, as PEM, not encrypted.",
    )
    tls_client_ca: Path | None = Field(
        None,
        alias="GATEWAY_TLS_CLIENT_CA",
        description="Authorities, as PEM: writers then need a certificate that one of them has signed. One that names a"
        " device replaces its key.",
    )

    @field_validator("rate_limit_ip", "rate_limit_device", "key_failure_limit")
    @classmethod
    def _windows_are_some(cls, text: str | None) -> str | None:
        windows(text)
        return text

    @field_validator("trusted_proxies")
    @classmethod
    def _networks_are_some(cls, text: str | None) -> str | None:
        networks(text)
        return text

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("GATEWAY_TLS_CERTIFICATE and GATEWAY_TLS_KEY need one another")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("GATEWAY_TLS_CLIENT_CA needs GATEWAY_TLS_CERTIFICATE and GATEWAY_TLS_KEY")
        return self

    @property
    def proxies(self) -> tuple[Network, ...]:
        """The networks whose word on a client's address counts."""
        return networks(self.trusted_proxies)


def windows(text: str | None) -> tuple[Window, ...]:
    """Understand windows as the settings have them; raises ValueError.

    >>> windows("20:1, 600:60")
    (Window(tokens=20, seconds=1.0), Window(tokens=600, seconds=60.0))
    """
    found = tuple(_window(word.strip()) for word in _words(text))
    if len(found) > _WINDOWS:
        raise ValueError(f"{len(found)} windows; {_WINDOWS} may be given")
    return found


def _window(word: str) -> Window:
    count, _, seconds = word.partition(":")
    try:
        window = Window(int(count), float(seconds))
    except ValueError:
        raise ValueError(f"{word!r} is no number:seconds, such as 600:60") from None
    if window.tokens < 1 or not 0 < window.seconds <= _LONGEST_SECONDS:
        raise ValueError(f"{word!r}: at least 1, and above 0 to {_LONGEST_SECONDS} seconds")
    return window


def networks(text: str | None) -> tuple[Network, ...]:
    """Understand networks or single addresses, separated by commas; raises ValueError.

    >>> networks("10.0.0.0/8, ::1")
    (IPv4Network('10.0.0.0/8'), IPv6Network('::1/128'))
    """
    return tuple(ip_network(word.strip()) for word in _words(text))


def _words(text: str | None) -> list[str]:
    return [] if text is None or text.strip() in ("", "none") else text.split(",")
