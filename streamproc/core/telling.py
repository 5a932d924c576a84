"""Events and notifications of a change of severity, with their lineage."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamproc.core.attention.state import Recall
from streamproc.core.changes import Change, DeviceNotice
from streamproc.core.explain import explain, explain_device, recall_title, recalled, recommended, title
from streamproc.core.identity import content_id
from streamproc.core.learners import LearnerBank
from streamproc.core.registry import Actions, RegistryLog
from streamproc.records import (
    DEVICE_SILENT,
    FLAPPING,
    Language,
    Lineage,
    Notification,
    SensorEntry,
    Severity,
    SeverityEvent,
)

#: What a lineage has of a window.
WINDOW_NUMBERS = ("start", "size_ms", "count", "mean", "min", "max", "deviation", "first", "last", "trend")


@dataclass(frozen=True, slots=True)
class Teller:
    """Tells of one partition's changes in one language; `names` are what people call devices, as of its place."""

    topic: str
    partition: int
    language: Language
    names: dict[str, str | None] = field(default_factory=dict)

    def follow(self, registry: RegistryLog, begin: int, end: int) -> None:
        """Take in the names that devices get from one position of the registry to another."""
        self.names.update(registry.names_between(begin, end))

    def tell(
        self, change: Change, sensor: str, entry: SensorEntry | None, actions: Actions
    ) -> tuple[SeverityEvent, Notification]:
        """The event of a change and its notification; `entry` gives the sensor's name, unit and kind.

        What is to be done is what the user's `actions` say, or else streamproc's own words.
        """
        explanation, action = explain(change, entry, self.language, self.names)
        action = recommended(change.cause, entry, self.language, actions) or action
        event = SeverityEvent(
            event_id=content_id("severity", sensor, change.sequence, change.at, int(change.severity)),
            sensor=sensor,
            severity=change.severity,
            previous=change.previous,
            cause=change.cause,
            at=change.at,
            value=change.value,
            explanation=explanation,
            recommended_action=action,
            lineage=self._lineage(change),
        )
        notification = Notification(
            notification_id=content_id("notification", event.event_id),
            event_id=event.event_id,
            sensor=sensor,
            severity=change.severity,
            at=change.at,
            title=title(change, entry, self.language),
            message=f"{explanation} {action}".strip(),
        )
        return event, notification

    def tell_device(self, notice: DeviceNotice) -> Notification:
        """The notification that a whole device is silent, or is back.

        Where it is graver than another sensor's event had it, it goes on with that.
        """
        headline, message = explain_device(notice, self.language, self.names)
        own_id = content_id("device", notice.event_id, notice.device, notice.at, int(notice.severity))
        told = notice.before if notice.severity else None
        return Notification(
            notification_id=own_id + (told[1] if told else ""),
            event_id=notice.event_id,
            sensor=notice.sensor,
            severity=notice.severity,
            at=notice.at,
            title=headline,
            message=message,
        )

    def recall(
        self, recall: Recall, sensor: str, entry: SensorEntry | None, *, actions: Actions
    ) -> Notification:
        """The notification of a state that is told without a change."""
        state, kind = recall.state, recall.kind
        text, action = recalled(recall, entry, self.language)
        action = recommended(state.cause, entry, self.language, actions) or action
        return Notification(
            notification_id=f"{kind}-{content_id('notification', state.event_id, kind, recall.now)}",
            event_id=state.event_id,
            sensor=sensor,
            severity=Severity(state.level),
            at=recall.now,
            title=recall_title(recall, entry, self.language),
            message=f"{text} {action}".strip(),
            kind=kind,
        )

    def _lineage(self, change: Change) -> Lineage:
        window, spike = change.window, change.spike
        last = change.offset if change.offset is not None else -1
        first = spike.first_offset if spike else last
        told = spike or change.silence
        scores = (told.numbers() if told else change.scores) | _marks(change)
        return Lineage(
            topic=self.topic,
            partition=self.partition,
            first_offset=window.first_offset if window else first,
            last_offset=window.last_offset if window else last,
            window={name: float(getattr(window, name)) for name in WINDOW_NUMBERS} if window else {},
            scores=scores,
            rule=change.rule,
            versions={"learners": LearnerBank.VERSION, "registry": str(change.limits.version)},
        )


def _marks(change: Change) -> dict[str, float]:
    """What a sensor's standing tells besides its severity."""
    hidden = change.inhibited and change.device is not None
    return dict.fromkeys([FLAPPING] * change.flapping + [DEVICE_SILENT] * hidden, 1.0)
