"""What one `streamproc dev` holds for itself: a data directory and ports."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamproc.errors import SettingsError
from streamproc.process import unheard

LOCK_NAME = "dev.lock"


@contextmanager
def hold(data_dir: Path) -> Iterator[None]:
    """Hold `data_dir`, made where absent, until the block ends or this process does; raises SettingsError."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = (data_dir / LOCK_NAME).open("a+")
    except OSError as error:
        raise SettingsError(
            f"STREAMPROC_DATA_DIR: cannot write to {data_dir}: {error.strerror}; give another with --data-dir"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise SettingsError(
                f"STREAMPROC_DATA_DIR: {data_dir} is in use by another `streamproc dev` "
                f"(process {lock.read().strip()}); stop that one or give another directory with --data-dir"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def claim_port(host: str, port: int, setting: str) -> int:
    """`port`, or a free one for 0; raises SettingsError that names `setting` where it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SettingsError(unheard(setting, host, port, error)) from error
        return int(probe.getsockname()[1])


def reachable(host: str) -> str:
    """A stage's host as a client on this machine calls it, in a URL: who listens everywhere is called by the loopback.

    >>> reachable("::"), reachable("10.0.0.1")
    ('[::1]', '10.0.0.1')
    """
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
