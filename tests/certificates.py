"""Certificates for tests, as files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)


@dataclass(frozen=True, slots=True)
class Files:
    """An authority's certificate, one that it has signed, and that one's private key, in PEM form."""

    authority: Path
    certificate: Path
    key: Path
    #: Key and certificate in one, as Kafka has it.
    both: Path


def written(authority: trustme.CA, folder: Path, *names: str) -> Files:
    """A certificate for these names (127.0.0.1 without) by this authority, in files of this folder."""
    folder.mkdir(parents=True, exist_ok=True)
    issued = authority.issue_cert(*(names or ("127.0.0.1",)), common_name=(names or ("127.0.0.1",))[0])
    files = Files(folder / "ca.pem", folder / "certificate.pem", folder / "key.pem", folder / "both.pem")
    authority.cert_pem.write_to_path(files.authority)
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    key = _pkcs8(issued.private_key_pem.bytes(), NoEncryption())
    files.certificate.write_bytes(chain)
    files.key.write_bytes(key)
    files.both.write_bytes(key + chain)
    return files


def encrypted(key: Path, password: str) -> Path:
    """The key in a file beside it, encrypted."""
    locked = key.with_name(f"locked-{key.name}")
    locked.write_bytes(_pkcs8(key.read_bytes(), BestAvailableEncryption(password.encode())))
    return locked


def _pkcs8(key: bytes, encryption: KeySerializationEncryption) -> bytes:
    """The only form of a key that Java reads."""
    return load_pem_private_key(key, None).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
