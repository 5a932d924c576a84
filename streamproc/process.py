"""What all processes share: exit codes, the time, the address they listen on, and the garbage collector's pace."""

from __future__ import annotations

import errno
import gc
import os
import sys
import time
from contextlib import suppress
from ipaddress import ip_address

#: Exit codes beside 0: the process failed, was refused what it is to do (starting it again would not help), or was asked to
#: end and could not do so tidily in time.
FAILED, REFUSED, CUT_SHORT = 1, 2, 3
#: The collector's thresholds: what a chunk, a request or an import makes dies by reference count, and a look finds nothing.
_COLLECTOR = (50_000, 20, 100)


def epoch_ms() -> int:
    """The time now, in ms since 1970."""
    return time.time_ns() // 1_000_000


def refused(why: str) -> int:
    """Print in a line why the process refuses to work; returns the exit code."""
    sys.stderr.write(f"streamproc: {why}".replace("\n", "\n  ") + "\n")
    return REFUSED


def unheard(setting: str, host: str, port: int, error: OSError) -> str:
    """Why a process cannot listen; `setting` is the variable that sets the port.

    >>> unheard("GATEWAY_PORT", "127.0.0.1", 8001, OSError(errno.EADDRINUSE, "while attempting to bind"))
    'GATEWAY_PORT: cannot listen on 127.0.0.1:8001: the port is taken; set GATEWAY_PORT to another'
    """
    place = f"{setting}: cannot listen on {host}:{port}"
    if error.errno == errno.EADDRINUSE:
        return f"{place}: the port is taken; set {setting} to another"
    # asyncio puts words of its own around the system's; names that are not found have numbers below 0.
    return (
        f"{place}: {os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or error}"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


def collect_seldom() -> None:
    """Run the garbage collector less often than CPython does by default."""
    gc.set_threshold(*_COLLECTOR)


def tune_collector() -> None:
    """Collect garbage less often, and never look at present objects: those of chunks and requests die by reference count.

    With CPython's own thresholds a quarter of the worker's time goes into collections that find nothing (measured:
    218,000 readings per CPU-second, 284,000 without a collector), and a fifth of a request's.
    """
    gc.freeze()
    collect_seldom()
