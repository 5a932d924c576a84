"""The worker process: `streamproc worker`, or `faust -A streamproc.worker worker`."""

from __future__ import annotations

import sys

from streamproc.engine.app import Engine
from streamproc.settings import load

engine = Engine(load())
app = engine.app


def run() -> None:
    """Run the worker until SIGTERM or SIGINT; the process ends with it."""
    sys.argv = [sys.argv[0], "worker", "--without-web", "-l", "warn"]
    app.main()
