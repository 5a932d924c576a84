"""TLS and certificates of clients, with a Kafka in memory and authorities made for the test."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import ClientError, ClientSession, TCPConnector, web
from prometheus_client import CollectorRegistry

from streamproc.cli.health import ask
from streamproc.errors import SettingsError
from streamproc.gateway.access.following import Following
from streamproc.gateway.access.gate import Gate
from streamproc.gateway.access.metrics import Counts
from streamproc.gateway.app import build
from streamproc.gateway.listener import Listener
from streamproc.gateway.tls import Certificates, certificates
from streamproc.records import DeviceEntry, SensorEntry
from streamproc.settings import Settings
from tests.shell.served import PACKETS, MemoryPublisher, problem
from tests.shell.test_access import KEY, device, packet


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Give an authority."""
    return trustme.CA()


def issue(directory: Path, authority: trustme.CA, name: str = "localhost") -> dict[str, Path]:
    """Put a certificate and its key where the settings say."""
    issued = authority.issue_cert(name)
    paths = {"tls_certificate": directory / "cert.pem", "tls_key": directory / "key.pem"}
    issued.private_key_pem.write_to_path(str(paths["tls_key"]))
    paths["tls_certificate"].write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    return paths


@asynccontextmanager
async def secured(settings: Settings) -> AsyncIterator[tuple[str, Certificates, Following]]:
    """Serve a gateway over TLS; give its URL, its certificates and its registry, which has d1 with a key, and s1 of it."""
    following, counts = Following(settings), Counts()
    following.known.read = True
    following.known.put_device("d1", device("d1", KEY))
    following.known.sensors.put("s1", SensorEntry("s1", device="d1"))
    tls = certificates(settings)
    assert tls is not None
    app = build(settings, MemoryPublisher(), Gate(settings, following.known, counts), following, counts)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    listener = Listener(runner, settings, tls, CollectorRegistry())
    await listener.start()
    try:
        yield listener.name.replace("127.0.0.1", "localhost"), tls, following
    finally:
        await runner.cleanup()


def settings(**given: Any) -> Settings:
    """Make settings of a gateway on any free port."""
    return Settings.model_validate({"gateway_port": 0, **given})


def trusting(authority: trustme.CA, issued: trustme.LeafCert | None = None) -> ClientSession:
    """Make a client that trusts the authority, with a certificate or without."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if issued is not None:
        issued.configure_cert(context)
    return ClientSession(connector=TCPConnector(ssl=context, force_close=True))


async def test_packets_over_tls(tmp_path: Path, authority: trustme.CA) -> None:
    """With a certificate the gateway speaks TLS 1.2 or newer, and nothing else."""
    async with (
        secured(settings(**issue(tmp_path, authority))) as (url, _, _),
        trusting(authority) as client,
        ClientSession() as plain,
    ):
        assert url.startswith("https://")
        async with client.post(url + PACKETS, data=packet()) as response:
            assert response.status == 202
        with pytest.raises(ClientError):
            await plain.post(url.replace("https", "http") + PACKETS, data=packet())


async def test_a_new_certificate_without_a_restart(tmp_path: Path, authority: trustme.CA) -> None:
    """New connections get what is in the files now; a wrong file is logged, and the one before stays."""
    async with secured(settings(**issue(tmp_path, authority))) as (url, tls, _):
        following = asyncio.create_task(tls.follow(0.02))
        await answers(url, authority)
        (tmp_path / "key.pem").write_text("nonsense")
        assert not tls.renew()
        await answers(url, authority)
        other = trustme.CA()
        issue(tmp_path, other)
        async with asyncio.timeout(60):
            while not await is_trusted(url, other):
                pass
        assert not await is_trusted(url, authority)
        following.cancel()


async def answers(url: str, authority: trustme.CA) -> None:
    """Check that the gateway answers over TLS."""
    async with trusting(authority) as client, client.get(url + "/health") as response:
        assert response.status == 200


async def is_trusted(url: str, authority: trustme.CA) -> bool:
    """Tell whether the gateway's certificate is one of the authority's."""
    try:
        await answers(url, authority)
    except OSError:
        return False
    return True


async def test_a_certificate_stands_in_for_a_key(tmp_path: Path, authority: trustme.CA) -> None:
    """One that names the device lets it write; one of another name needs a key; a device locked out stays out."""
    given = settings(
        **issue(tmp_path, authority), tls_client_ca=ca(tmp_path, authority), device_keys="required"
    )
    async with secured(given) as (url, _, following):
        async with (
            trusting(authority, authority.issue_cert("d1")) as client,
            client.post(url + PACKETS, data=packet()) as response,
        ):
            assert response.status == 202
        async with trusting(authority, authority.issue_cert(common_name="D1")) as client:
            assert (await client.post(url + PACKETS, data=packet())).status == 202
            await problem(await client.post(url + PACKETS, data=packet("d2")), 403, "foreign-device")
            following.known.put_device("d1", DeviceEntry("d1", enabled=False))
            await problem(await client.post(url + PACKETS, data=packet()), 403, "device-disabled")
            following.known.put_device("d1", device("d1", KEY))
        async with trusting(authority, authority.issue_cert("site-7")) as client:
            await problem(await client.post(url + PACKETS, data=packet()), 401, "key-missing")
            headers = {"X-Device-Key": KEY}
            assert (await client.post(url + PACKETS, data=packet(), headers=headers)).status == 202


def ca(directory: Path, authority: trustme.CA) -> Path:
    """Put the authority's certificate into a file."""
    path = directory / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


async def test_who_writes_needs_a_certificate(tmp_path: Path, authority: trustme.CA) -> None:
    """Without one it is told so, and /health answers; one of another authority does not get as far as that."""
    async with secured(
        settings(**issue(tmp_path, authority), tls_client_ca=ca(tmp_path, authority), ingest_api_key="key")
    ) as (url, _, _):
        async with trusting(authority) as client:
            headers = {"X-API-Key": "key"}
            response = await client.post(url + PACKETS, data=packet(), headers=headers)
            await problem(response, 403, "certificate-missing")
            assert (await client.get(url + "/health")).status == 200
        async with trusting(authority, trustme.CA().issue_cert("d1")) as client:
            with pytest.raises(ClientError):
                await client.post(url + PACKETS, data=packet(), headers=headers)


async def test_other_authorities_of_clients_without_a_restart(tmp_path: Path, authority: trustme.CA) -> None:
    """An authority that was taken out of the file is trusted no more by new connections, one that was put in is."""
    given = settings(
        **issue(tmp_path, authority), tls_client_ca=ca(tmp_path, authority), device_keys="required"
    )
    new = trustme.CA()
    async with secured(given) as (url, tls, _):
        assert tls.context.minimum_version is ssl.TLSVersion.TLSv1_2
        ca(tmp_path, new)
        assert tls.renew()
        async with trusting(authority, new.issue_cert("d1")) as client:
            assert (await client.post(url + PACKETS, data=packet())).status == 202
        async with trusting(authority, authority.issue_cert("d1")) as client:
            with pytest.raises(ClientError):
                await client.post(url + PACKETS, data=packet())


async def test_health_over_tls(tmp_path: Path, authority: trustme.CA) -> None:
    """`streamproc health gateway` asks over TLS where the gateway speaks it, by whatever name its certificate has."""
    given = settings(**issue(tmp_path, authority, "gateway.example"), tls_client_ca=ca(tmp_path, authority))
    async with secured(given) as (url, _, _):
        here = given.model_copy(update={"gateway_port": int(url.rpartition(":")[2])})
        answer = await asyncio.to_thread(ask, here, "gateway", timeout_s=60.0)
        assert answer.ok, answer.text


def test_wrong_files_are_told(tmp_path: Path, authority: trustme.CA) -> None:
    """A path that is not there, a key of another certificate, an encrypted key, no PEM: each says which setting it is."""
    right = issue(tmp_path, authority)
    (tmp_path / "other").mkdir()
    other = issue(tmp_path / "other", authority)
    text = tmp_path / "text.pem"
    text.write_text("no PEM")
    absent = tmp_path / "absent.pem"
    for wrong, told in (
        ({"tls_certificate": absent}, "GATEWAY_TLS_CERTIFICATE: cannot read .*absent.pem: No such file"),
        ({"tls_key": absent}, "GATEWAY_TLS_KEY: cannot read"),
        ({"tls_key": tmp_path}, "GATEWAY_TLS_KEY: cannot read .*directory"),
        ({"tls_key": other["tls_key"]}, "GATEWAY_TLS_KEY: .* is not the key of the certificate"),
        ({"tls_certificate": text}, "GATEWAY_TLS_CERTIFICATE, GATEWAY_TLS_KEY: .* as PEM"),
        ({"tls_client_ca": text}, "GATEWAY_TLS_CLIENT_CA: .* holds no certificate"),
    ):
        with pytest.raises(SettingsError, match=told):
            certificates(settings(**{**right, **wrong}))
