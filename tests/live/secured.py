"""A real broker that wants TLS and a login, beside the plain listener by which tests look at what is on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import trustme
from pydantic import SecretStr

from streamproc.kafka.broker import HOST, Broker, Guard, Installation, free_port
from streamproc.settings.connection import Connection, Security
from tests.certificates import Files, written

#: Who may log in, and with what; over SCRAM and PLAIN alike.
PASSWORDS = {
    name: f"{name}-hush-hush"
    for name in ("site", "gateway", "worker", "sink", "console", "registry", "dlq", "replay", "topics")
}


@dataclass(frozen=True, slots=True)
class Secured:
    """The broker, and how to come to each of its listeners."""

    broker: Broker
    ports: Mapping[str, int]
    files: Files
    #: A client's certificate by the authority that the broker trusts, and one by another.
    client: Files
    stranger: Files

    def as_user(self, name: str = "site") -> Connection:
        """With TLS and this user's login, by SCRAM."""
        password = SecretStr(PASSWORDS[name])
        security = Security("SASL_SSL", "SCRAM-SHA-512", name, password, self.files.authority)
        return Connection(f"{HOST}:{self.ports['SASL_SSL']}", security)

    def by_certificate(self, client: Files | None) -> Connection:
        """With TLS and, where there is one, a client's certificate."""
        security = Security("SSL", ca_file=self.files.authority)
        if client is not None:
            security = replace(security, certificate=client.certificate, key=client.key)
        return Connection(f"{HOST}:{self.ports['SSL']}", security)

    def at(self, protocol: str, kafka: Connection) -> Connection:
        """The same way to come, at another listener."""
        return replace(kafka, bootstrap=f"{HOST}:{self.ports[protocol]}")


async def start(
    installation: Installation, folder: Path, properties: Mapping[str, str] | None = None
) -> Secured:
    """Start such a broker, with these properties more; whoever starts it stops it."""
    authority = trustme.CA()
    server = written(authority, folder / "server", HOST)
    client = written(authority, folder / "client", "a-client")
    stranger = written(trustme.CA(), folder / "stranger", "a-stranger")
    ports = {protocol: free_port() for protocol in ("SSL", "SASL_PLAINTEXT", "SASL_SSL")}
    guard = Guard(ports, {**_properties(server), **(properties or {})}, PASSWORDS)
    broker = await Broker.start(installation, folder / "kafka", guard=guard)
    plain = int(broker.bootstrap.rpartition(":")[2])
    return Secured(broker, {"PLAINTEXT": plain, **ports}, server, client, stranger)


def _properties(server: Files) -> dict[str, str]:
    """Certificates, and what a login is checked against."""
    module = "org.apache.kafka.common.security"
    users = " ".join(f'user_{name}="{password}"' for name, password in PASSWORDS.items())
    given = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(server.both),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(server.authority),
        "listener.name.ssl.ssl.client.auth": "required",
    }
    for listener in ("sasl_ssl", "sasl_plaintext"):
        own = f"listener.name.{listener}"
        given |= {
            f"{own}.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
            f"{own}.plain.sasl.jaas.config": f"{module}.plain.PlainLoginModule required {users};",
            f"{own}.scram-sha-512.sasl.jaas.config": f"{module}.scram.ScramLoginModule required;",
        }
    return given
