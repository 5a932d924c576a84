"""Which devices a client's certificate names. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_URN = "urn:uuid:"


def names(certificate: Mapping[str, Any] | None) -> list[str]:
    """The names in a certificate as Python's `ssl` tells it, in lower case: DNS names, `urn:uuid:` URIs, common names.

    >>> names({"subject": ((("commonName", "D1"),),), "subjectAltName": (("URI", "urn:uuid:0A"), ("DNS", "d1"))})
    ['0a', 'd1']
    """
    if not certificate:
        return []
    found = []
    for kind, name in certificate.get("subjectAltName", ()):
        if kind == "DNS":
            found.append(name.lower())
        elif kind == "URI" and name.lower().startswith(_URN):
            found.append(name[len(_URN) :].lower())
    for part in certificate.get("subject", ()):
        found += [value.lower() for field, value in part if field == "commonName"]
    return list(dict.fromkeys(found))
