"""A port that is to be listened on in a while: nobody else gets it until then."""

from __future__ import annotations

import socket
import sys

import pytest

from streamproc.kafka.broker import HOST, free_port


@pytest.mark.skipif(sys.platform != "linux", reason="no other system keeps a port and lets it be listened on")
def test_a_free_port_is_given_to_nobody_else() -> None:
    """Neither to a connection nor to another search; who is meant to listens there, again and again."""
    port = free_port()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((HOST, port))
    for _ in range(2):
        with (
            socket.create_server((HOST, port)) as server,
            socket.create_connection((HOST, port), timeout=10) as near,
            server.accept()[0] as far,
        ):
            far.sendall(b"here")
            assert near.recv(4) == b"here"
