"""What `streamproc dev` shows: progress, the ready line, severity changes and what happens to its children.

On a terminal with a spinner and colours, else as plain lines.
"""

from __future__ import annotations

from datetime import datetime

from rich.console import Console
from rich.status import Status
from rich.text import Text

from streamproc.dev.supervisor import Ended, Notice
from streamproc.records import Severity, SeverityEvent

STYLES = {Severity.NORMAL: "green", Severity.WARN: "yellow", Severity.CRITICAL: "bold red"}


class Screen:
    """Writes lines to `console`; the spinner runs between `step` and `settle` or `ready`."""

    def __init__(self, console: Console) -> None:
        self.console = console
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
        """Say that everything answers, and where."""
        self.settle()
        self.is_ready = True
        self.line(f"ready: {addresses}", "bold")

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
        else:
            self.line(f"{notice.name} runs again (process {notice.pid})", "magenta")


def sentence(event: SeverityEvent) -> str:
    """A severity change as one line: local time, severity, what happened and what to do."""
    at = datetime.fromtimestamp(event.at / 1000).astimezone()
    told = f"{event.explanation} {event.recommended_action}".strip()
    return " ".join(f"{at:%H:%M:%S}  {event.severity.name:<8}  {told}".splitlines())
