"""What `streamproc dev` shows: progress, the ready line, severity changes and what happens to its children.

On a terminal with a spinner and colours, else as plain lines.
"""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.status import Status
from rich.text import Text

from streamproc.dev.supervisor import Ended, Notice
from streamproc.records import Severity, SeverityEvent

#: Less than the first writes of a broker and a database take: with so little left, a child has ended for want of it.
FULL_BYTES = 10 << 20
STYLES = {Severity.NORMAL: "green", Severity.WARN: "yellow", Severity.CRITICAL: "bold red"}


class Screen:
    """Writes lines to `console`; the spinner runs between `step` and `settle` or `ready`.

    Where a child ends while the disk of `data_dir` is full, it says so: the log, where that would stand, has no room for it.
    """

    def __init__(self, console: Console, data_dir: Path) -> None:
        self.console, self._data_dir = console, data_dir
        self.is_ready = False
        self._status: Status | None = None

    def step(self, text: str) -> None:
        """Show what is being set up now."""
        if not self.console.is_terminal:
            self.line(f"setting up: {text}")
        elif self._status is None:
            self._status = self.console.status(text)
            self._status.start()
        else:
            self._status.update(text)

    def settle(self) -> None:
        """End the spinner."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def ready(self, addresses: str) -> None:
        """Say that everything answers, and where; and what comes next, for the first change takes a while."""
        self.settle()
        self.is_ready = True
        self.line(f"ready: {addresses}", "bold")
        zone = datetime.now().astimezone().tzname()
        told = f"changes of severity follow as readings come in, at this machine's time ({zone})"
        self.line(f"{told}; logs are in {self._data_dir / 'logs'}; Ctrl-C ends all", "dim")

    def line(self, text: str, style: str = "") -> None:
        """Write one line, however long, at once."""
        self.console.print(Text(text, style=style), soft_wrap=True)
        self.console.file.flush()

    def event(self, event: SeverityEvent) -> None:
        """Write one severity change."""
        self.line(sentence(event), STYLES[event.severity])

    def notice(self, notice: Notice) -> None:
        """Write what happened to a child."""
        if isinstance(notice, Ended):
            self.line(f"{notice.name} {notice.reason}; it starts again in {notice.pause_s:g} s", "magenta")
            for text in notice.last_lines:
                self.line(f"    {text}", "dim")
            if shutil.disk_usage(self._data_dir).free < FULL_BYTES:
                told = f"the disk of {self._data_dir} is full: make room, or give another directory with --data-dir"
                self.line(f"    {told}", "magenta")
        else:
            self.line(f"{notice.name} runs again (process {notice.pid})", "magenta")


def sentence(event: SeverityEvent) -> str:
    """A severity change as one line: local time, severity, what happened and what to do."""
    at = datetime.fromtimestamp(event.at / 1000).astimezone()
    told = f"{event.explanation} {event.recommended_action}".strip()
    return " ".join(f"{at:%H:%M:%S}  {event.severity.name:<8}  {told}".splitlines())
