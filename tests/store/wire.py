"""A way to the T-SQL server that can be cut, go silent, or fail just at a commit."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from threading import Event, Lock, Thread

from streamproc.kafka.broker import free_port
from tests.store.tsql import address, dsn

#: Whoever accepts looks so often whether it is to end: closing a socket does not wake all systems' threads.
_LOOK_S = 0.1
#: A request to the server's transaction manager in TDS, and its number for a commit.
_TRANSACTION_MANAGER, _COMMIT = 0x0E, 7
#: What a driver sends in its place, and what tells that rows came before it; requests are texts of two bytes a character.
_COMMIT_TEXT = "COMMIT TRAN".encode("utf-16-le")
_ROWS_TEXT = "INSERT INTO dbo.sensor_readings (".encode("utf-16-le")


class Fault(Enum):
    """What becomes of the next commit that has readings before it."""

    UNSENT = "it stays on the wire: the server has the rows, and hears nothing more"
    UNANSWERED = "the server does it, and the connection is gone before the answer is through"


class _Line:
    """One connection: who has called, and the server."""

    def __init__(self, caller: socket.socket, server: socket.socket) -> None:
        self.caller, self.server = caller, server
        self.has_rows = False
        self.ends_at_answer = False
        self.directions = 2

    def end(self) -> None:
        """Wake both threads that read here."""
        for side in (self.caller, self.server):
            with suppress(OSError):  # the other side may have ended it already
                side.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of both sockets."""
        self.caller.close()
        self.server.close()


class Wire:
    """A port on this machine that passes everything on to the server, in threads of its own, until it is told otherwise."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._lines: set[_Line] = set()
        self._threads: list[Thread] = []
        self._lock = Lock()
        self._listens, self._passes = Event(), Event()
        self._fault: Fault | None = None
        #: Set when the fault that was asked for has happened.
        self.failed = Event()
        #: None of those that outgoing connections get: it is listened on again after a cut.
        self.port = free_port()
        self.logins = 0

    def mend(self) -> None:
        """Listen."""
        listener = socket.create_server(("127.0.0.1", self.port))
        listener.settimeout(_LOOK_S)
        self._passes.set()
        self._listens.set()
        self._start(self._accept, listener)

    def cut(self) -> None:
        """Close all connections, and take no more: the server has gone down."""
        with self._lock:
            self._listens.clear()
            for line in self._lines:
                line.end()
        self._passes.set()
        while self._threads:  # the one that accepts may have started others
            self._threads.pop().join()

    def hold(self) -> None:
        """Pass nothing on, and say nothing: the network has gone."""
        self._passes.clear()

    def fail_commit(self, how: Fault) -> None:
        """Have the next commit fail that has readings before it; `failed` tells when it has."""
        self.failed.clear()
        self._fault = how

    def _start(self, call: Callable[..., None], *arguments: object) -> None:
        thread = Thread(target=call, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with listener:
            while self._listens.is_set():
                try:
                    caller, _ = listener.accept()
                except TimeoutError:
                    continue
                self.logins += 1
                caller.settimeout(None)
                line = _Line(caller, socket.create_connection(self._target))
                with self._lock:
                    self._lines.add(line)
                    if not self._listens.is_set():
                        line.end()
                self._start(self._forth, line)
                self._start(self._back, line)

    def _forth(self, line: _Line) -> None:
        """What the caller says, to the server."""
        with suppress(OSError):
            while data := line.caller.recv(65_536):
                self._passes.wait()
                line.has_rows |= _ROWS_TEXT in data
                if line.has_rows and _commits(data):
                    line.has_rows = False
                    if self._is_to_fail(line):
                        continue
                line.server.sendall(data)
        self._ended(line)

    def _is_to_fail(self, line: _Line) -> bool:
        """Whether this commit goes no further."""
        fault, self._fault = self._fault, None
        if fault is Fault.UNANSWERED:
            line.ends_at_answer = True
        elif fault is Fault.UNSENT:
            self.failed.set()
            return True
        return False

    def _back(self, line: _Line) -> None:
        """What the server says, to the caller."""
        with suppress(OSError):
            while data := line.server.recv(65_536):
                self._passes.wait()
                if line.ends_at_answer:
                    self.failed.set()
                    break
                line.caller.sendall(data)
        self._ended(line)

    def _ended(self, line: _Line) -> None:
        with self._lock:
            line.end()
            line.directions -= 1
            if not line.directions:
                self._lines.discard(line)
                line.close()


def _commits(data: bytes) -> bool:
    """Whether a request is a commit: to the transaction manager, or as a text."""
    if data[0] != _TRANSACTION_MANAGER:
        return _COMMIT_TEXT in data
    (headers,) = struct.unpack_from("<I", data, 8)
    (request,) = struct.unpack_from("<H", data, 8 + headers)
    return bool(request == _COMMIT)


@contextmanager
def wired() -> Iterator[tuple[Wire, str]]:
    """A wire to the server, and the connection string that goes over it."""
    wire = Wire(*address())
    wire.mend()
    try:
        yield wire, dsn(Server=f"127.0.0.1,{wire.port}")
    finally:
        wire.cut()
