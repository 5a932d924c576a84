"""The channel that everyone has: a log line for each change."""

from __future__ import annotations

import structlog

from streamproc.notify.channels import Accepted, Answer
from streamproc.notify.wording import moment
from streamproc.records import Severity
from streamproc.store.deliveries import Message, severity_of

_log = structlog.get_logger(__name__)


class ConsoleChannel:
    """Writes to the log of the process: alarms as warnings, their ends as information."""

    name = "console"

    async def send(self, message: Message) -> Answer:
        """A line for each change."""
        for change in message.changes:
            tell = _log.warning if severity_of(change.severity) > Severity.NORMAL else _log.info
            tell(
                "notification",
                title=change.title,
                text=change.text,
                severity=change.severity,
                kind=change.kind,
                at=moment(change.at),
                sensor=change.sensor,
                device=change.device,
                event_id=change.event_id,
                notification_id=change.notification_id,
                message_id=message.message_id,
                group_id=message.thread_id,
            )
        return Accepted()

    async def close(self) -> None:
        """Nothing is open."""
