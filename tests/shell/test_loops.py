"""The loop that tests run in."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import trustme

from tests.loops import run


def test_a_farewell_that_is_still_awaited_leaves_no_socket_open() -> None:
    """A client that closes TLS and ends at once, as Kafka's do, before the server has answered."""
    authority = trustme.CA()
    ours, theirs = ssl.create_default_context(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.configure_trust(ours)
    authority.issue_cert("127.0.0.1").configure_cert(theirs)
    closed = Event()

    def serve() -> None:
        connection, _ = listening.accept()
        connection.settimeout(5)
        with theirs.wrap_socket(connection, server_side=True) as secured:
            closed.wait()
            assert not secured.recv(1)

    async def come_and_go() -> None:
        _, writer = await asyncio.open_connection(*listening.getsockname(), ssl=ours)
        writer.close()
        asyncio.get_running_loop().call_soon(closed.set)

    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as server:
        served = server.submit(serve)
        run(come_and_go())
        gc.collect()  # it would warn of the socket
        served.result()
