"""Stories of sensors and of what users order about them, and a plain model of what people are then told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec

from streamproc.core.policies import policies_of, policy_of
from streamproc.core.registry import RegistryLog
from streamproc.records import NoData, Notification, Range, SensorEntry, Severity, SeverityEvent
from streamproc.records.alerting import Document, HandlingEntry, SilenceEntry
from tests.core.oracle import HERE, NOW, Reading, Record, Told, feed, new_state

PUMP, FAN = HERE[1], HERE[2]
#: Two sensors with ranges, one of which is told of when it is silent; learners say nothing inside of them.
ENTRIES = {
    PUMP: SensorEntry(
        PUMP,
        name="Pump",
        unit="bar",
        kind="pump",
        site="north",
        warning=Range(0, 80),
        critical=Range(-5, 100),
    ),
    FAN: SensorEntry(FAN, kind="Fan", tenant="acme", warning=Range(0, 80), rules=(NoData(20.0),)),
}
#: NEAR is no breach, and not calm: what was CRITICAL becomes WARN by it, and stays so.
CALM, NEAR, HIGH, OUT = 20.0, 79.0, 90.0, 120.0


def at_ms(seconds: float) -> int:
    """A time of the story."""
    return NOW + round(1_000 * seconds)


@dataclass
class Story:
    """Records in their order, and the registry that some of them name."""

    records: list[Record] = field(default_factory=list)
    log: RegistryLog = field(default_factory=RegistryLog)

    def __post_init__(self) -> None:
        for sensor, entry in ENTRIES.items():
            self.log.append(self.log.position, 0, sensor, entry)

    def read(self, begin: float, end: float, value: float, sensor: str = PUMP, step: float = 1.0) -> Story:
        """Readings of a value from one time to before another."""
        at = begin
        while at < end:
            self.records.append(Record(at_ms(at), (Reading(sensor, value, at_ms(at)),)))
            at += step
        return self

    def tick(self, *at: float) -> Story:
        """Ticks."""
        self.records += [Record(at_ms(each), tick=True) for each in at]
        return self

    def order(self, at: float, *documents: Document, without: Iterable[str] = ()) -> Story:
        """Documents that come, and keys that go, with a record that says so."""
        for document in documents:
            self.log.append_document(self.log.position, at_ms(at), document.key, document)
        for key in without:
            self.log.append_document(self.log.position, at_ms(at), key, None)
        self.records.append(Record(at_ms(at), edit=b"%d" % self.log.position))
        return self

    def told(self) -> list[Notification]:
        """What people are told, in one chunk; in many it is the same."""
        one, other = new_state(), new_state()
        whole = feed(one, self.records, (), self.log)
        assert whole == feed(other, self.records, range(0, len(self.records), 17), self.log)
        return notifications(whole)


def notifications(told: Told) -> list[Notification]:
    """All notifications of a run, each sensor's in their order."""
    found = (each for sensor in sorted(told.notifications) for each in told.notifications[sensor])
    return [msgspec.json.decode(each, type=Notification) for each in found]


def events(told: Told) -> list[SeverityEvent]:
    """All events of a run, each sensor's in their order."""
    found = (each for sensor in sorted(told.events) for each in told.events[sensor])
    return [msgspec.convert(msgspec.json.decode(each)[0], SeverityEvent) for each in found]


def shown(told: Iterable[Notification]) -> list[tuple[str, str, float]]:
    """Kind, severity and time of each, in seconds of the story."""
    return [(each.kind, each.severity.name, (each.at - NOW) / 1_000) for each in told]


class Site:
    """Three sensors of a device that say that they are silent after 20 s, and a clock that goes on."""

    def __init__(self, *orders: Document) -> None:
        self.story, self.names = Story(), HERE[10:13]
        log = self.story.log
        for name in self.names:
            entry = SensorEntry(name, device=HERE[9], warning=Range(0, 80), rules=(NoData(20.0),))
            log.append(log.position, 0, name, entry)
        self.story.order(0, *orders)

    def speak(self, begin: int, end: int, names: int = 3, value: float = CALM) -> Site:
        """Readings of so many of the sensors each second."""
        for second in range(begin, end):
            rows = tuple(Reading(name, value, at_ms(second)) for name in self.names[:names])
            self.story.records.append(Record(at_ms(second), rows, HERE[9]))
        return self

    def rest(self, begin: int, end: int) -> Site:
        """Nothing but ticks."""
        self.story.tick(*range(begin, end))
        return self

    def told(self) -> list[tuple[str, str, str, float]]:
        """Which sensor or the device, kind, severity and time, in the order of time."""
        found = []
        for each in sorted(self.story.told(), key=lambda note: (note.at, note.sensor)):
            whom = "device" if "evice" in each.title else f"s{self.names.index(each.sensor)}"
            found.append((whom, *shown([each])[0]))
        return found


# The model ----------------------------------------------------------------------------------------------------------


@dataclass
class Known:
    """One sensor, as the model has it."""

    level: int = 0
    told: int = 0
    told_at: int | None = None
    raised_at: int = 0
    recalled_at: int = 0
    escalated: int = 0
    noted: int = 0
    event: str = ""
    alarm: dict[str, int] = field(default_factory=dict)


#: Sensor, kind, severity, id of the event, and time.
Line = tuple[str, str, int, str, int]


class Model:
    """Looks at each sensor with each record, and asks of everything anew."""

    def __init__(self, log: RegistryLog) -> None:
        self.log, self.state = log, new_state()
        self.known = {sensor: Known() for sensor in ENTRIES}
        self.lines: list[Line] = []
        self.withheld: Counter[str] = Counter()

    def run(self, records: Iterable[Record]) -> None:
        """Take in the records one by one: what has come due with each, then what has changed with it."""
        done: list[Record] = []
        for each in records:
            done.append(each)
            told = feed(self.state, done, (), self.log)
            now = self.state.watermarks.clock
            documents = self.log.documents_as_of(self.state.registry_position)
            for sensor in self.known:
                self._due(sensor, documents, now)
            for event in events(told):
                self._changed(event, documents, now)

    def _changed(self, event: SeverityEvent, documents: dict[str, Document], now: int) -> None:
        known = self.known[event.sensor]
        if event.previous == Severity.NORMAL:
            known.alarm, known.escalated, known.raised_at = {}, 0, now
        known.level, known.event = int(event.severity), event.event_id
        known.alarm[event.event_id] = known.level
        why = "known" if known.level == known.told else self._hold(event.sensor, documents, now)
        if why:
            self.withheld[why] += 1
        else:
            self._tell(event.sensor, "change", event.at)
            self._know(known, now)

    def _due(self, sensor: str, documents: dict[str, Document], now: int) -> None:
        known = self.known[sensor]
        if known.level != known.told:
            if self._hold(sensor, documents, now):
                return
            self._tell(sensor, "held", now)
            self._know(known, now)
        handling = self._handling(sensor, documents)
        if not known.level or self._quiet(sensor, documents, now) or (handling and handling.acknowledged):
            return
        policy = policy_of(ENTRIES[sensor], policies_of(documents))
        wait = policy.escalate_seconds
        if wait and known.escalated < known.level and now >= known.raised_at + 1_000 * wait:
            self._tell(sensor, "escalation", now)
            known.escalated, known.recalled_at = known.level, now
        wait = policy.remind_seconds
        cool = (known.told_at or 0) + 1_000 * policy.cooldown_seconds
        recall = wait and now >= known.recalled_at + 1_000 * wait and now >= cool
        snoozed = handling.snoozed_until if handling else None
        if recall or (snoozed is not None and known.recalled_at < snoozed <= now):
            self._tell(sensor, "reminder", now)
            known.recalled_at = now

    def _tell(self, sensor: str, kind: str, at: int) -> None:
        known = self.known[sensor]
        known.noted = max(at, known.noted + 1)
        self.lines.append((sensor, kind, known.level, known.event, known.noted))

    @staticmethod
    def _know(known: Known, now: int) -> None:
        if known.level > known.told:
            known.raised_at = now
        known.told, known.told_at, known.recalled_at = known.level, now, now
        if not known.level:  # nothing is remembered of who is normal, and known to be
            known.noted, known.told_at = 0, None

    def _hold(self, sensor: str, documents: dict[str, Document], now: int) -> str | None:
        known = self.known[sensor]
        quiet = self._quiet(sensor, documents, now)
        if quiet:
            return quiet
        cooldown = policy_of(ENTRIES[sensor], policies_of(documents)).cooldown_seconds
        cools = known.told_at is not None and now < known.told_at + 1_000 * cooldown
        return "cooldown" if known.level < known.told and cools else None

    def _quiet(self, sensor: str, documents: dict[str, Document], now: int) -> str | None:
        known = self.known[sensor]
        graver = max(known.level, known.told)
        silences = [each for each in documents.values() if isinstance(each, SilenceEntry)]
        ours = [each for each in silences if is_for(each, sensor) and graver <= each.up_to]
        ours.sort(key=lambda each: each.silence, reverse=True)
        ends = {end: each for each in ours if (end := ends_at(each, now)) is not None}
        if ends:
            return "maintenance" if ends[max(ends)].maintenance else "silence"
        handling = self._handling(sensor, documents)
        until = handling.snoozed_until if handling else None
        return "snooze" if known.level and until is not None and now < until else None

    def _handling(self, sensor: str, documents: dict[str, Document]) -> HandlingEntry | None:
        handling = documents.get(f"handling/{sensor}")
        if not isinstance(handling, HandlingEntry):
            return None
        known = self.known[sensor]
        return handling if known.level <= known.alarm.get(handling.event_id, -1) else None


def is_for(silence: SilenceEntry, sensor: str) -> bool:
    """Whether a silence is for a sensor."""
    entry = ENTRIES[sensor]
    for name in ("sensor", "device", "kind", "site", "tenant"):
        wanted, has = getattr(silence, name), getattr(entry, name)
        if wanted is not None and wanted.lower() != (has or "").lower():
            return False
    return True


def ends_at(silence: SilenceEntry, now: int) -> float | None:
    """When a silence ends that is in force; None where it is not. Weekly times by walking over all of them."""
    end = float("inf") if silence.end is None else silence.end
    if now < (silence.begin or 0) or now >= end:
        return None
    weekly = silence.weekly
    if weekly is None:
        return end
    found: float | None = None
    begin = datetime.fromtimestamp(now / 1000, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for day in range(-9, 2):
        local = (begin + timedelta(days=day)).replace(tzinfo=None)
        if local.weekday() in weekly.days:
            first = local + timedelta(hours=int(weekly.at[:2]), minutes=int(weekly.at[3:]))
            last = first + timedelta(minutes=weekly.minutes)
            low, high = (round(1_000 * _utc(each, weekly.zone).timestamp()) for each in (first, last))
            if low <= now < high:
                found = max(found or 0, min(high, end))
    return found


def _utc(wall: datetime, zone: str) -> datetime:
    return wall.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def lines(told: Iterable[Notification]) -> list[Line]:
    """Notifications as the model has them."""
    return [(each.sensor, each.kind, int(each.severity), each.event_id, each.at) for each in told]


def by_sensor(found: Iterable[Line]) -> list[Line]:
    """Each sensor's, in their order."""
    return sorted(found, key=lambda line: line[0])
