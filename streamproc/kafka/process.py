"""A Faust app as a process that ends within a bounded time, whatever Kafka does.

Faust and aiokafka wait as long as a broker is away: for the coordinator, to leave the group, and for the producer's last
messages. Whoever asked the process to end would kill it meanwhile.
"""

from __future__ import annotations

import os
import sys
from threading import Timer
from typing import Any, NoReturn

import faust
import structlog

from streamproc.process import CUT_SHORT, FAILED, refused

#: From the request to end until the process ends by force, below the 5 s that it may take in all.
STOP_S = 4.5

_log = structlog.get_logger(__name__)


class Worker(faust.Worker):
    """Faust's worker; once it is asked to stop, the process is gone within STOP_S."""

    def __init__(self, *services: Any, **options: Any) -> None:
        super().__init__(*services, **options)
        self._deadline: Timer | None = None

    async def stop(self) -> None:
        """Stop the services; a thread of its own ends the process if that takes too long, even if this loop is stuck."""
        if self._deadline is None:
            self._deadline = Timer(STOP_S, self._leave)
            self._deadline.daemon = True
            self._deadline.start()
        await super().stop()

    def _leave(self) -> None:
        # What was acknowledged is kept elsewhere: this is as safe as SIGKILL, which each process has to survive anyway.
        code = FAILED if self.crashed else CUT_SHORT
        _log.warning(
            "ended before everything was told to Kafka or the database: they did not answer",
            after_seconds=STOP_S,
            exit_code=code,
        )
        sys.stdout.flush()
        os._exit(code)

    def execute_from_commandline(self) -> NoReturn:
        """Run until asked to end, and exit with CUT_SHORT where the app says that it left something undone.

        Where it could not start with a setting it says so, as the command line does.
        """
        try:
            super().execute_from_commandline()
        except SystemExit as ended:
            if self.app.refusal is not None:
                sys.exit(refused(str(self.app.refusal)))
            if not ended.code and self.app.cut_short:
                sys.exit(CUT_SHORT)
            raise
        sys.exit(0)

    async def _sentinel_task(self) -> None:
        """Nothing: mode sleeps for a second here before it closes the loop, of the five that a stop may take."""


class PlainWorker(Worker):
    """With the process's own logs, and without a spinner, whose sequences for terminals go into files too."""

    def __init__(self, *services: Any, **options: Any) -> None:
        super().__init__(*services, **options | {"override_logging": False})
        self.spinner = None
