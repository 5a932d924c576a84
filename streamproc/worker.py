"""The worker process: `streamproc worker`, or `faust -A streamproc.worker worker`."""

from __future__ import annotations

from streamproc.engine.app import Engine
from streamproc.settings import load

engine = Engine(load())
app = engine.app
run = app.serve
