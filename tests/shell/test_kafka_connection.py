"""How Kafka is reached: what the settings have to say together, and that every client is made of them."""

import ast
import asyncio
import logging
import re
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
from pydantic import SecretStr
from structlog.testing import capture_logs

from streamproc import settings
from streamproc.errors import SettingsError
from streamproc.kafka import clients
from streamproc.settings.connection import Connection, Security, faults, tls
from tests.certificates import encrypted, written

PROGRAM = Path(settings.__file__).parents[1]
BROKER = {"KAFKA_BOOTSTRAP": "kafka.example:9093"}
LOGIN = {
    "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
    "KAFKA_SASL_USERNAME": "worker",
    "KAFKA_SASL_PASSWORD": "hush-hush",
}
OPENS = {"KAFKA_SSL_PASSWORD": "open sesame"}
#: The numbers of Kafka's requests for the versions that a broker knows, and for the brokers that there are.
VERSIONS, METADATA = 18, 3
SOON_S = 60


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment has no setting of Kafka's."""
    for field in settings.Settings.model_fields.values():
        if str(field.alias).startswith("KAFKA_"):
            monkeypatch.delenv(str(field.alias), raising=False)


def loaded(monkeypatch: pytest.MonkeyPatch, **variables: str) -> settings.Settings:
    """The settings with these variables in the environment."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return settings.load()


def test_without_any_the_connection_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was before there were any: the address alone counts."""
    kafka = loaded(monkeypatch, **BROKER).kafka
    assert clients.arguments(kafka) == {
        "bootstrap_servers": "kafka.example:9093",
        "security_protocol": "PLAINTEXT",
    }


def test_all_of_a_login_comes_to_the_client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Protocol, mechanism, user, password, and a context that checks the broker's certificate and name."""
    files = written(trustme.CA(), tmp_path)
    kafka = loaded(
        monkeypatch,
        KAFKA_SECURITY_PROTOCOL="sasl_ssl",
        KAFKA_SSL_CAFILE=str(files.authority),
        **BROKER,
        **LOGIN,
    ).kafka
    given = clients.arguments(kafka)
    context = given.pop("ssl_context")
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert [dict(name[0] for name in one["issuer"])["organizationName"] for one in context.get_ca_certs()]
    assert given == {
        "bootstrap_servers": "kafka.example:9093",
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "worker",
        "sasl_plain_password": "hush-hush",
    }


def test_all_that_does_not_go_together_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A login without its parts, a key without a certificate, a file that is not there: each by its variable."""
    variables = {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_USERNAME": "worker"}
    with pytest.raises(SettingsError) as told:
        loaded(monkeypatch, KAFKA_SSL_KEYFILE="/none/key.pem", KAFKA_PORT="ninety", **variables)
    for line in (
        "KAFKA_PORT: ",
        "KAFKA_SASL_MECHANISM: needed where KAFKA_SECURITY_PROTOCOL is SASL_SSL",
        "KAFKA_SASL_PASSWORD: needed where KAFKA_SECURITY_PROTOCOL is SASL_SSL",
        "KAFKA_SSL_KEYFILE: counts only with KAFKA_SSL_CERTFILE",
        "KAFKA_SSL_KEYFILE: cannot read /none/key.pem: No such file or directory",
        "KAFKA_SECURITY_PROTOCOL: needs KAFKA_BOOTSTRAP",
    ):
        assert line in str(told.value)


@pytest.mark.parametrize("name", [*LOGIN, "KAFKA_SSL_CAFILE", "KAFKA_SSL_CERTFILE"])
def test_what_would_be_passed_over_is_an_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who gives a password or an authority means it to be asked for: a forgotten protocol is no plain connection."""
    with pytest.raises(SettingsError, match=f"{name}: counts only where KAFKA_SECURITY_PROTOCOL is S"):
        loaded(monkeypatch, **BROKER, **{name: LOGIN.get(name, "/etc/hosts")})


@pytest.mark.parametrize(
    ("name", "value"),
    [("KAFKA_SECURITY_PROTOCOL", "TLS"), ("KAFKA_SASL_MECHANISM", "OAUTHBEARER")],
)
def test_what_there_is_not_is_told(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what there is."""
    with pytest.raises(SettingsError, match=f"{name}: .*'(PLAINTEXT|PLAIN)'"):
        loaded(monkeypatch, **BROKER, **{name: value})


def told(**variables: object) -> str:
    """What is wrong with these settings of a connection over TLS."""
    return "\n".join(faults(BROKER | {"KAFKA_SECURITY_PROTOCOL": "SSL"} | variables))


def test_files_that_cannot_be_used_are_told_by_their_setting(tmp_path: Path) -> None:
    """What is no certificate, a key of another one, an encrypted key without its password or with a wrong one."""
    mine, other = written(trustme.CA(), tmp_path / "mine"), written(trustme.CA(), tmp_path / "other")
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    locked = encrypted(mine.key, "open sesame")
    whole: dict[str, object] = {"KAFKA_SSL_CERTFILE": mine.certificate, "KAFKA_SSL_KEYFILE": mine.key}
    assert told(KAFKA_SSL_CAFILE=mine.authority, **whole) == ""
    assert told(**whole | {"KAFKA_SSL_KEYFILE": locked} | OPENS) == ""
    assert told(KAFKA_SSL_CAFILE=nonsense) == f"KAFKA_SSL_CAFILE: no certificates in PEM form in {nonsense}"
    assert "KAFKA_SSL_CERTFILE: no certificate in PEM" in told(**whole | {"KAFKA_SSL_CERTFILE": nonsense})
    assert "KAFKA_SSL_KEYFILE: no private key in PEM" in told(**whole | {"KAFKA_SSL_KEYFILE": nonsense})
    assert "for a file of its own: no private key" in told(KAFKA_SSL_CERTFILE=mine.certificate)
    assert "is not the key of the certificate" in told(**whole | {"KAFKA_SSL_KEYFILE": other.key})
    for password in ({}, {"KAFKA_SSL_PASSWORD": "open barley"}):
        fault = told(**whole | {"KAFKA_SSL_KEYFILE": locked} | password)
        assert fault == f"KAFKA_SSL_PASSWORD: does not open the key in {locked}"
    two = told(KAFKA_SSL_CAFILE=nonsense, **whole | {"KAFKA_SSL_KEYFILE": other.key})
    assert "KAFKA_SSL_CAFILE" in two
    assert "KAFKA_SSL_KEYFILE" in two


def test_no_password_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither in a repr, nor in text, nor by `streamproc settings`, nor in the error for other settings."""
    key = written(trustme.CA(), tmp_path)
    found = loaded(
        monkeypatch,
        KAFKA_SECURITY_PROTOCOL="SASL_SSL",
        KAFKA_SSL_CERTFILE=str(key.certificate),
        KAFKA_SSL_KEYFILE=str(encrypted(key.key, "open sesame")),
        **OPENS,
        **BROKER,
        **LOGIN,
    )
    monkeypatch.setenv("KAFKA_SASL_MECHANISM", "hush")
    with pytest.raises(SettingsError) as wrong:
        settings.load()
    shown = f"{found!r} {found} {found.kafka!r} {found.kafka} {wrong.value}"
    assert "hush-hush" not in shown
    assert "open sesame" not in shown
    assert tls(found.kafka.security) is tls(found.kafka.security)


def test_a_child_process_connects_in_the_same_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All of it goes into its environment; and what does not count is empty, so that nothing else is inherited."""
    files = written(trustme.CA(), tmp_path)
    secured = Connection(
        "kafka:1",
        Security("SASL_SSL", "PLAIN", "u", SecretStr("p"), files.authority, files.certificate, files.key),
    )
    for kafka in (secured, Connection("127.0.0.1:9092")):
        assert loaded(monkeypatch, **kafka.variables()).kafka == kafka


def test_a_password_in_the_clear_is_warned_of() -> None:
    """Once, with what to do; and nothing is said of one that cannot be read on the way."""
    login = ("worker", SecretStr("hush-hush"))
    with capture_logs() as lines:
        for kafka in (
            Connection("a:1", Security("SASL_PLAINTEXT", "PLAIN", *login)),
            Connection("a:1", Security("SASL_PLAINTEXT", "PLAIN", *login)),
            Connection("b:1", Security("SASL_SSL", "PLAIN", *login)),
            Connection("c:1", Security("SASL_PLAINTEXT", "SCRAM-SHA-256", *login)),
        ):
            clients.security(kafka)
    (line,) = [line for line in lines if "unencrypted" in line["event"]]
    assert "SASL_SSL" in line["event"]
    assert "hush-hush" not in str(line)


def test_the_client_does_not_log_what_it_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    """At debug aiokafka logs each request, a login with its password too: whoever sets up its logs must not get that."""
    library = logging.getLogger("aiokafka.conn")
    monkeypatch.setattr(library, "level", logging.NOTSET)
    monkeypatch.setattr(logging.getLogger("aiokafka"), "level", logging.DEBUG)
    library._cache.clear()  # type: ignore[attr-defined]  # what is enabled is remembered
    assert library.isEnabledFor(logging.DEBUG)
    clients.security(Connection("b:1", Security("SASL_PLAINTEXT", "SCRAM-SHA-256", "u", SecretStr("p"))))
    assert not library.isEnabledFor(logging.DEBUG)


def calls(names: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """The calls in the program and the tests of what is called so: the file, and the last name of what is called."""
    for file in (*PROGRAM.rglob("*.py"), *(PROGRAM.parent / "tests").rglob("*.py")):
        text = file.read_text()
        for node in ast.walk(ast.parse(text)) if names.search(text) else ():
            if isinstance(node, ast.Call):
                name = (
                    node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                )
                if names.fullmatch(name):
                    yield file.relative_to(PROGRAM.parent).as_posix(), name


@pytest.mark.live
@pytest.mark.parametrize("made", [clients.producer, clients.consumer, clients.admin])
async def test_a_start_that_is_given_up_leaves_no_connection(made: Callable[[Connection], Any]) -> None:
    """While the broker, which has told its versions, is asked which others there are."""
    asked, gone = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            while True:
                size = int.from_bytes(await reader.readexactly(4))
                key, _, number = struct.unpack(">hhi", (await reader.readexactly(size))[:8])
                if key == VERSIONS:
                    told = struct.pack(">ihihhh", number, 0, 1, METADATA, 0, 1)
                    writer.write(struct.pack(">i", len(told)) + told)
                else:
                    asked.set()
        gone.set()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        client = made(Connection(f"127.0.0.1:{server.sockets[0].getsockname()[1]}"))
        starting = asyncio.create_task(client.start())
        await asyncio.wait_for(asked.wait(), SOON_S)
        starting.cancel()
        await asyncio.wait([starting])
        assert starting.cancelled()
        await asyncio.wait_for(gone.wait(), SOON_S)
        await (client.close() if made is clients.admin else client.stop())


def test_clients_are_made_in_one_place() -> None:
    """One that is made elsewhere would connect without TLS or a login."""
    made = set(calls(re.compile(r"AIOKafka\w*|Consumer|create_conn")))
    assert {file for file, _ in made} == {"streamproc/kafka/clients.py", "streamproc/kafka/diagnosis.py"}
    assert {name for file, name in made if file.endswith("clients.py")} == {
        "AIOKafkaProducer",
        "Consumer",
        "AIOKafkaAdminClient",
    }
