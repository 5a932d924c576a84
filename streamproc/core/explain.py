"""A change of severity in words for people: what happened, since when, how unusual, and what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite

from streamproc.core.attention.state import Recall
from streamproc.core.changes import Change, DeviceNotice
from streamproc.core.phrases import PHRASES, Phrases
from streamproc.core.ranges import bounds_of
from streamproc.core.registry import Actions
from streamproc.core.spikes import Spike
from streamproc.records import ANY_KIND, Cause, Language, SensorEntry, Severity

#: What people call devices, by their keys; None or absent: nothing else than that.
Names = Mapping[str, str | None]
#: As many digits as people read at a glance, and as many as a double keeps.
_DIGITS, _ALL_DIGITS = 4, 15
_NAMELESS: Names = {}
#: Shorter times are told in seconds alone; longer ones than the last in days, of which there are always several.
_FEW_SECONDS, _HOUR_S, _FEW_DAYS_S = 120, 3_600, 172_800
#: Beyond these sizes a number is written with a power of ten.
_LEAST, _GREATEST = 1e-4, 1e15


def explain(
    change: Change, entry: SensorEntry | None, language: Language, names: Names = _NAMELESS
) -> tuple[str, str]:
    """Return the explanation and the recommended action, in whole sentences; `entry` gives name and unit."""
    words = PHRASES[language]
    voice = _Voice(words, entry)
    device = _called(change.device or "", names)
    eased = Severity.NORMAL < change.severity < change.previous
    happened = words.happened[change.cause]
    template = words.eased.get(change.cause, words.eased["level"]) if eased else happened
    if change.cause == "flapping" and change.settled:
        template = words.settled
    elif change.silence and change.silence.is_device_back:
        template = words.still_silent
    text = template.format_map(voice.facts(change) | {"device": device}) + _besides(change, words, device)
    if change.previous and change.severity and change.since_ms < change.at:
        text += words.since.format(moment=voice.moment(change.since_ms))
    return text, words.action[change.cause]


def _called(device: str, names: Names) -> str:
    """What people call a device."""
    return names.get(device) or device


def _besides(change: Change, words: Phrases, device: str) -> str:
    """What else there is to say of a change, each a sentence with its blank."""
    text = words.in_a_row.format(count=change.in_a_row) if change.in_a_row > 1 else ""
    if change.silence and change.inhibited and device:
        text += words.hidden_too.format(device=device)
    if change.cause != "flapping" and change.flapping:
        text += words.flapping_too
    if change.cause != "flapping" and change.settled:
        text += words.settled_too
    return text


def explain_device(notice: DeviceNotice, language: Language, names: Names = _NAMELESS) -> tuple[str, str]:
    """Return a title and a message: that a whole device is silent, or is back."""
    words = PHRASES[language]
    voice = _Voice(words, None)
    facts = {
        "device": _called(notice.device, names),
        "since": voice.moment(notice.since),
        "moment": voice.moment(notice.at if notice.heard is None else notice.heard),
    }
    if notice.severity:
        headline, text, action = (
            words.device_silent_headline,
            words.device_silent.format(**facts, sensors=notice.sensors),
            words.device_silent_action,
        )
    else:
        headline, text, action = (
            words.device_back_headline,
            words.device_back.format(**facts),
            words.device_back_action,
        )
    return f"{words.severities[notice.severity]}: {headline.format(**facts)}", f"{text} {action}"


def recommended(cause: Cause, entry: SensorEntry | None, language: Language, actions: Actions) -> str | None:
    """Return what the user recommends for a cause: for the sensor's kind, or else for all; None: nothing in this language."""
    if not actions:
        return None
    kind = entry.kind.lower() if entry and entry.kind else ANY_KIND
    for wanted in (kind, ANY_KIND):
        action = actions.get((wanted, cause))
        text: str | None = getattr(action, language, None)
        if text:
            return text
    return None


def title(change: Change, entry: SensorEntry | None, language: Language) -> str:
    """Return one line for a list or a subject: severity, sensor and what is the matter."""
    words = PHRASES[language]
    settled = change.cause == "flapping" and change.settled
    headline = words.settled_headline if settled else words.headline[change.cause]
    headline = headline.format(name=_Voice(words, entry).name)
    return f"{words.severities[change.severity]}: {headline}"


def recalled(recall: Recall, entry: SensorEntry | None, language: Language) -> tuple[str, str]:
    """Return what is told of a state without a change, in whole sentences, and the recommended action."""
    words, state = PHRASES[language], recall.state
    voice = _Voice(words, entry)
    facts = {
        "name": voice.name,
        "severity": words.severities[Severity(state.level)],
        "since": voice.moment(state.since),
        "moment": voice.moment(state.at),
        "value": voice.quantity(state.value),
    }
    text = words.stands["lasts" if state.level else "over"].format_map(facts)
    if recall.kind == "held":
        return text + words.held.get(recall.why, ""), words.action[state.cause]
    return text + words.stands[recall.kind], words.action[state.cause]


def recall_title(recall: Recall, entry: SensorEntry | None, language: Language) -> str:
    """Return one line for what is told without a change."""
    words, state = PHRASES[language], recall.state
    headline = words.headline[state.cause].format(name=_Voice(words, entry).name)
    line = f"{words.severities[Severity(state.level)]}: {headline}"
    return words.recall[recall.kind].format(title=line)


@dataclass(frozen=True, slots=True)
class _Voice:
    """How one language speaks of one sensor."""

    words: Phrases
    entry: SensorEntry | None

    @property
    def name(self) -> str:
        if self.entry is None:
            return self.words.nameless
        return self.entry.name or self.words.sensor.format(sensor=self.entry.sensor)

    def facts(self, change: Change) -> dict[str, str]:
        """Return all that sentences may mention of a change."""
        window, scores = change.window, change.scores
        expected, deviation = scores.get("expected", change.value), scores.get("deviation", 0.0)
        side, limit = _limit(change)
        apart = _DIGITS if change.value == limit else digits_apart(change.value, limit)
        return {
            "name": self.name,
            "value": self.quantity(change.value, apart),
            "limit": self.quantity(limit, apart),
            "side": self.words.above if side > 0 else self.words.below,
            "expected": self.quantity(expected),
            "unusual": self.unusual(abs(change.value - expected), deviation),
            "spread": self.quantity(window.deviation if window else 0.0),
            "moment": self.moment(change.at),
            "since": self.moment(change.since_ms),
            "when": self.when(change),
            **self.jump(change.spike),
            **self.ruled(change),
        }

    def ruled(self, change: Change) -> dict[str, str]:
        """Return what sentences may mention of a rule over windows, or of one of silence."""
        judged, silence = change.judged, change.silence
        numbers, rule = (judged.numbers, judged.rule) if judged else ({}, None)
        seconds = silence.rule.seconds if silence else numbers.get("seconds", 0.0)
        trend, allowed = next(iter(numbers.values()), 0.0), getattr(rule, "per_second", 0.0)
        slope, expression = abs(trend), getattr(rule, "expression", "")
        apart, digits = digits_apart(slope, allowed), digits_beside(expression)
        return {
            "heard": self.moment(silence.since) if silence else "",
            "length": length(seconds, self.words),
            "moved": self.words.rose if trend > 0 else self.words.fell,
            "slope": self.slope(slope, apart),
            "allowed_slope": self.slope(allowed, apart),
            "expression": expression,
            "numbers": ", ".join(self.stat(name, value, digits) for name, value in numbers.items()),
        }

    def stat(self, name: str, value: float, digits: int) -> str:
        """Return one number of a window in words, by the name that expressions have for it."""
        stat, _, size = name.rpartition("_")
        words = self.words.stats.get(stat)
        if words is None:
            return ""
        if stat == "count":
            text = number(value, _ALL_DIGITS, self.words)
        else:
            text = self.slope(value, digits) if stat == "trend" else self.quantity(value, digits)
        return words.format(size=length(float(size.removesuffix("s")), self.words), value=text)

    def slope(self, value: float, digits: int = _DIGITS) -> str:
        """Return a change a second, with the sensor's unit."""
        return self.words.unit_of_trend.format(unit=self.quantity(value, digits))

    def jump(self, spike: Spike | None) -> dict[str, str]:
        """Return what sentences may mention of a jump; empty where there was none."""
        if spike is None:
            return dict.fromkeys(("before", "after", "lapse", "change", "allowed"), "")
        apart = digits_apart(spike.previous, spike.value)
        more = digits_apart(spike.change, spike.allowed)
        lapse = length(spike.lapse_ms / 1000, self.words)
        return {
            "before": self.quantity(spike.previous, apart),
            "after": self.quantity(spike.value, apart),
            "lapse": self.words.within.format(length=lapse) if spike.lapse_ms else self.words.at_once,
            "change": self.quantity(spike.change, more),
            "allowed": self.quantity(spike.allowed, more),
        }

    def quantity(self, value: float, digits: int = _DIGITS) -> str:
        """Return a number with the sensor's unit."""
        unit = self.entry.unit if self.entry else None
        text = number(value, digits, self.words)
        return f"{text} {unit}" if unit else text

    def moment(self, at_ms: int) -> str:
        """Return a time of day and date."""
        at = datetime.fromtimestamp(at_ms // 1000, UTC)
        month = self.words.months[at.month - 1]
        return self.words.moment.format(time=f"{at:%H:%M:%S}", day=at.day, month=month, year=at.year)

    def when(self, change: Change) -> str:
        """Return the stretch of time that the value stands for."""
        if change.window is None or change.window.size_ms == 0:
            return self.words.at.format(moment=self.moment(change.at))
        size = length(change.window.size_ms / 1000, self.words)
        return self.words.over.format(length=size, moment=self.moment(change.at))

    def unusual(self, distance: float, deviation: float) -> str:
        """Return how many usual deviations a distance is."""
        if distance >= 100 * deviation:  # where nothing ever varied, anything is far
            return self.words.far_times
        return self.words.times.format(times=number(distance / deviation, 2, self.words))


def _limit(change: Change) -> tuple[int, float]:
    """Return the side (1 above, -1 below) and the limit that a range's change is about, or (1, the value)."""
    acceptable = change.limits.critical if change.cause == "critical_range" else change.limits.warning
    low, high = bounds_of(acceptable)
    if isfinite(low) and change.value < low:
        return -1, low
    return 1, high if isfinite(high) else change.value


def digits_apart(a: float, b: float) -> int:
    """Return how many significant digits show that two numbers differ.

    >>> digits_apart(80.004, 80.0)
    5
    """
    for digits in range(_DIGITS, _ALL_DIGITS + 1):
        if f"{a:.{digits}g}" != f"{b:.{digits}g}":
            return digits
    return _ALL_DIGITS


def digits_beside(expression: str) -> int:
    """Return how many significant digits a number wants beside those of an expression: one more than these have.

    >>> digits_beside("mean_10s > 80 and max_1s < 1013.25")
    7
    """
    numbers = re.findall(r"(?<![\w.])\d+\.?\d*", expression)
    most = max((len(text.replace(".", "").lstrip("0")) for text in numbers), default=0)
    return min(max(most + 1, _DIGITS), _ALL_DIGITS)


def length(seconds: float, words: Phrases) -> str:
    """Return a length of time as people say it, in its two largest units.

    >>> [length(seconds, PHRASES["en"]) for seconds in (1.5, 90.0, 330.0, 3601.0, 9000.0, 183600.0)]
    ['1.5 s', '90 s', '5 min 30 s', '1 h', '2 h 30 min', '2 days 3 h']
    """
    if seconds < _FEW_SECONDS:
        return words.seconds.format(number=number(seconds, _DIGITS, words))
    if seconds < _HOUR_S:
        unit_s, in_one, large, small = 1, 60, "min", "s"
    elif seconds < _FEW_DAYS_S:
        unit_s, in_one, large, small = 60, 60, "h", "min"
    else:
        unit_s, in_one, large, small = _HOUR_S, 24, words.days, "h"
    whole, rest = divmod(round(seconds / unit_s), in_one)
    return f"{number(whole, _ALL_DIGITS, words)} {large}{f' {rest} {small}' if rest else ''}"


def number(value: float, digits: int, words: Phrases) -> str:
    """Return a number as people write it, to so many significant digits.

    >>> number(123456.0, 4, PHRASES["en"]), number(0.12345, 2, PHRASES["es"])
    ('123,500', '0,12')
    """
    if value == 0:
        return "0"
    if not _LEAST <= abs(value) < _GREATEST:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa.replace('.', words.decimal_mark)} × 10^{int(exponent)}"  # noqa: RUF001  # it is the sign for times
    places = digits - 1 - int(f"{value:.{digits - 1}e}".split("e")[1])
    text = f"{round(value, places):,.{max(places, 0)}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return text.replace(",", "\0").replace(".", words.decimal_mark).replace("\0", words.group_mark)
