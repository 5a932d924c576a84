"""How Kafka is reached: the brokers and their security. Only values; `kafka.clients` makes clients of them."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

from pydantic import SecretStr

from streamproc.errors import SettingsError

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]

BOOTSTRAP, PROTOCOL = "KAFKA_BOOTSTRAP", "KAFKA_SECURITY_PROTOCOL"
MECHANISM, USERNAME, PASSWORD = "KAFKA_SASL_MECHANISM", "KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD"
CA_FILE, CERTIFICATE, KEY = "KAFKA_SSL_CAFILE", "KAFKA_SSL_CERTFILE", "KAFKA_SSL_KEYFILE"
KEY_PASSWORD = "KAFKA_SSL_PASSWORD"  # noqa: S105  # its name alone
OF_SASL = (MECHANISM, USERNAME, PASSWORD)
OF_TLS = (CA_FILE, CERTIFICATE, KEY, KEY_PASSWORD)


@dataclass(frozen=True, slots=True)
class Security:
    """Encryption, trusted authorities and login of the connection with Kafka."""

    protocol: Protocol = "PLAINTEXT"
    mechanism: Mechanism | None = None
    username: str | None = None
    password: SecretStr | None = None
    ca_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    key_password: SecretStr | None = None

    @property
    def encrypted(self) -> bool:
        """Whether TLS is spoken."""
        return self.protocol.endswith("SSL")

    @property
    def logs_in(self) -> bool:
        """Whether a user's name and password are sent."""
        return self.protocol.startswith("SASL")

    @property
    def tells_password(self) -> bool:
        """Whether the password goes over the network as it is, for everyone on the way to read."""
        return self.protocol == "SASL_PLAINTEXT" and self.mechanism == "PLAIN"


@dataclass(frozen=True, slots=True)
class Connection:
    """The brokers, as `host:port,…`, and their security; as text, only the brokers."""

    bootstrap: str
    security: Security = Security()

    def __str__(self) -> str:
        return self.bootstrap

    def variables(self) -> dict[str, str]:
        """The environment by which a child process connects in the same way; what does not count is empty."""
        its = self.security
        values = {
            BOOTSTRAP: self.bootstrap,
            PROTOCOL: its.protocol,
            MECHANISM: its.mechanism,
            USERNAME: its.username,
            PASSWORD: its.password.get_secret_value() if its.password else None,
            CA_FILE: its.ca_file,
            CERTIFICATE: its.certificate,
            KEY: its.key,
            KEY_PASSWORD: its.key_password.get_secret_value() if its.key_password else None,
        }
        return {name: str(value or "") for name, value in values.items()}


def faults(values: Mapping[str, object]) -> list[str]:
    """Conflicts between these settings, by variable, a line each; single wrong values are found elsewhere.

    >>> faults({"KAFKA_BOOTSTRAP": "kafka:9093", "KAFKA_SASL_USERNAME": "worker"})
    ['KAFKA_SASL_USERNAME: counts only where KAFKA_SECURITY_PROTOCOL is SASL_SSL or SASL_PLAINTEXT']
    """
    protocol = str(values.get(PROTOCOL) or "PLAINTEXT").upper()
    if protocol not in get_args(Protocol):
        return []
    found = [*_unasked(protocol, values), *_lacking(protocol, values)]
    if protocol != "PLAINTEXT" and not values.get(BOOTSTRAP):
        found.append(
            f"{PROTOCOL}: needs {BOOTSTRAP}; the broker that streamproc starts takes plain connections alone"
        )
    if protocol.endswith("SSL"):
        found += _unusable(values)
    return found


def _unasked(protocol: str, values: Mapping[str, object]) -> list[str]:
    """Settings that would be passed over: whoever gives a password means it to be asked for."""
    needs: list[tuple[str, str]] = []
    if not protocol.startswith("SASL"):
        needs += [(name, "SASL_SSL or SASL_PLAINTEXT") for name in OF_SASL]
    if not protocol.endswith("SSL"):
        needs += [(name, "SSL or SASL_SSL") for name in OF_TLS]
    return [f"{name}: counts only where {PROTOCOL} is {which}" for name, which in needs if values.get(name)]


def _lacking(protocol: str, values: Mapping[str, object]) -> list[str]:
    """Settings that others need."""
    found = []
    if protocol.startswith("SASL"):
        found += [
            f"{name}: needed where {PROTOCOL} is {protocol}" for name in OF_SASL if not values.get(name)
        ]
    if protocol.endswith("SSL"):
        found += [
            f"{name}: counts only with {CERTIFICATE}, the client's certificate"
            for name in (KEY, KEY_PASSWORD)
            if values.get(name) and not values.get(CERTIFICATE)
        ]
    return found


def _unusable(values: Mapping[str, object]) -> list[str]:
    """Why the files cannot be used, if they cannot."""
    paths = {name: Path(str(values[name])) for name in (CA_FILE, CERTIFICATE, KEY) if values.get(name)}
    found = [f"{name}: {reason}" for name, path in paths.items() if (reason := _unreadable(path))]
    if found:
        return found
    given = values.get(KEY_PASSWORD)
    password = given.get_secret_value() if isinstance(given, SecretStr) else str(given or "")
    security = Security(
        "SSL",
        ca_file=paths.get(CA_FILE),
        certificate=paths.get(CERTIFICATE),
        key=paths.get(KEY),
        key_password=SecretStr(password),
    )
    for load in (_trust, _identify):
        try:
            load(_context(), security)
        except SettingsError as error:
            found.append(str(error))
    return found


def _unreadable(path: Path) -> str | None:
    try:
        path.read_bytes()
    except OSError as error:
        return f"cannot read {path}: {error.strerror}"
    return None


@lru_cache(maxsize=8)  # of one process there is one; tests have some
def tls(security: Security) -> ssl.SSLContext:
    """TLS 1.2 or newer as these settings say; the broker's certificate and name are always checked. Raises SettingsError.

    Made once a process: reading the system's authorities takes 10 ms.
    """
    context = _context()
    _trust(context, security)
    _identify(context, security)
    return context


def _context() -> ssl.SSLContext:
    """One that checks certificates and names, as a client's does by default."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _trust(context: ssl.SSLContext, security: Security) -> None:
    """Trust the authorities of the file, or else the system's."""
    if security.ca_file is None:
        context.load_default_certs()
        return
    try:
        context.load_verify_locations(security.ca_file)
    except (OSError, ValueError) as error:  # an ssl.SSLError is an OSError
        raise SettingsError(f"{CA_FILE}: no certificates in PEM form in {security.ca_file}") from error


def _identify(context: ssl.SSLContext, security: Security) -> None:
    """Show the client's certificate to a broker that asks for one."""
    if security.certificate is None:
        return
    secret = security.key_password.get_secret_value() if security.key_password else ""
    try:
        # Without a password of ours, OpenSSL would ask for one at the terminal.
        context.load_cert_chain(security.certificate, security.key, password=lambda: secret)
    except (OSError, ValueError) as error:
        raise SettingsError(_not_identified(security, error)) from error


def _not_identified(security: Security, error: Exception) -> str:
    """What is wrong with certificate or key, as far as OpenSSL tells."""
    reason = getattr(error, "reason", None) or ""
    key = security.key or security.certificate
    if "MISMATCH" in reason:
        return f"{KEY}: {key} is not the key of the certificate in {security.certificate}"
    if not _is_pem(security.certificate, "CERTIFICATE"):
        return f"{CERTIFICATE}: no certificate in PEM form in {security.certificate}"
    if not _is_pem(key, "PRIVATE KEY"):
        where = KEY if security.key else f"{CERTIFICATE}, or {KEY} for a file of its own"
        return f"{where}: no private key in PEM form in {key}"
    return f"{KEY_PASSWORD}: does not open the key in {key}"


def _is_pem(path: Path | None, what: str) -> bool:
    return path is not None and f"{what}-----".encode() in path.read_bytes()
