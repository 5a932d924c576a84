"""The worker process: `streamproc worker`, or `faust -A streamproc.worker worker`."""

from __future__ import annotations

import sys

import structlog

from streamproc.engine.app import Engine
from streamproc.errors import SettingsError
from streamproc.process import refused
from streamproc.settings import load

if not structlog.is_configured():
    # Faust's own command has started it: its lines go into Faust's log, by Faust's levels.
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )

try:
    engine = Engine(load())
except SettingsError as error:
    sys.exit(refused(str(error)))  # Faust's own command would tell where it was raised, and code 1
app = engine.app
run = app.serve
