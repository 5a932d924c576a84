"""Explanations: whole sentences in both languages, with name, unit and time, and no jargon."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.core.changes import Change, Window
from streamproc.core.explain import explain, number, recommended, title
from streamproc.core.phrases import ENGLISH, PHRASES, SPANISH
from streamproc.core.ranges import Limits
from streamproc.core.rules.silence import LastRead, Silence
from streamproc.core.rules.windowed import Judged
from streamproc.core.spikes import Spike
from streamproc.records import (
    ActionEntry,
    Cause,
    DeltaSpike,
    Expression,
    Language,
    NoData,
    Range,
    RateOfChange,
    SensorEntry,
    Severity,
    StuckValue,
)

NORMAL, WARN, CRITICAL = Severity
AT = 1_714_565_045_000  # 2024-05-01 12:04:05 UTC
BOILER = SensorEntry(
    sensor="b-1", name="Boiler 3", unit="°C", warning=Range(None, 80.0), critical=Range(5.0, 95.0)
)
LIMITS = Limits(BOILER.warning, BOILER.critical, 1)
SCORES = {"anomaly": 0.6, "surprise": 4.2, "expected": 61.237, "deviation": 1.5}

#: What the rules over windows say where they raise.
JUDGED: dict[Cause, Judged] = {
    "rate_of_change": Judged(RateOfChange(0.5), "a", True, {"trend_10s": 0.61}),
    "stuck_value": Judged(StuckValue(60.0), "b", True, {"seconds": 60.0}),
    "expression": Judged(Expression("mean_1s > 60"), "c", True, {"mean_1s": 61.0}),
}


def change(cause: Cause, value: float, previous: Severity = NORMAL, severity: Severity = WARN) -> Change:
    """A change at AT; by a reading where the cause is a range that it went out of, else by a window."""
    jumped = cause == "delta_spike" and severity > previous
    by_reading = jumped or (cause.endswith("_range") and severity > previous)
    window = Window(AT - 1_000, 1_000, 9, value, value, value, 3.21, value, value, 0.0, 10, 19)
    return Change(
        slot=0,
        sequence=1,
        severity=severity,
        previous=previous,
        cause=cause,
        at=AT,
        value=value,
        rule="",
        since_ms=AT - 65_000 if previous else AT if by_reading else AT - 1_000,
        limits=LIMITS,
        window=None if by_reading else window,
        scores={} if by_reading else SCORES,
        spike=Spike(AT, value, 7, 61.0, 1_500, 6, 20.0, severity, DeltaSpike(absolute=20.0))
        if jumped
        else None,
        judged=JUDGED.get(cause) if severity > previous else None,
        silence=Silence(AT, AT - 60_000, LastRead(value, 7), NoData(60.0)) if cause == "silence" else None,
    )


WHEN = "in the 1 s before 12:04:05 UTC on 1 May 2024"
CUANDO = "en el intervalo de 1 s hasta las 12:04:05 UTC del 1 de mayo de 2024"
GOLDEN: list[tuple[Change, str, str]] = [
    (
        change("warning_range", 80.004),
        "Boiler 3 read 80.004 °C at 12:04:05 UTC on 1 May 2024, above its warning limit of 80 °C.",
        (
            "Boiler 3 marcó 80,004 °C a las 12:04:05 UTC del 1 de mayo de 2024, "
            "por encima de su límite de aviso de 80 °C."
        ),
    ),
    (
        change("critical_range", 4.1, WARN, CRITICAL),
        (
            "Boiler 3 read 4.1 °C at 12:04:05 UTC on 1 May 2024, below its critical limit of 5 °C. "
            "It left its normal state at 12:03:00 UTC on 1 May 2024."
        ),
        (
            "Boiler 3 marcó 4,1 °C a las 12:04:05 UTC del 1 de mayo de 2024, "
            "por debajo de su límite crítico de 5 °C. "
            "Dejó su estado normal a las 12:03:00 UTC del 1 de mayo de 2024."
        ),
    ),
    (
        change("delta_spike", 95.25),
        (
            "Boiler 3 went from 61 °C to 95.25 °C in 1.5 s, at 12:04:05 UTC on 1 May 2024: "
            "a change of 34.25 °C, where 20 °C is the most allowed."
        ),
        (
            "Boiler 3 pasó de 61 °C a 95,25 °C en 1,5 s, a las 12:04:05 UTC del 1 de mayo de 2024: "
            "un cambio de 34,25 °C, cuando se admiten 20 °C como máximo."
        ),
    ),
    (
        change("delta_spike", 95.25, CRITICAL, WARN),
        (
            "Boiler 3 is no longer critical, but changed too fast a short while ago: "
            f"it was 95.25 °C {WHEN}. It left its normal state at 12:03:00 UTC on 1 May 2024."
        ),
        (
            "Boiler 3 ya no está en estado crítico, pero hace poco cambió demasiado deprisa: "
            f"marcó 95,25 °C {CUANDO}. Dejó su estado normal a las 12:03:00 UTC del 1 de mayo de 2024."
        ),
    ),
    (
        change("level", 76.2),
        (
            f"Boiler 3 was 76.2 °C {WHEN}, where about 61.24 °C was expected: "
            "about 10 times as far off as it usually is."
        ),
        (
            f"Boiler 3 marcó 76,2 °C {CUANDO}, cuando se esperaban unos 61,24 °C: "
            "unas 10 veces más lejos de lo habitual."
        ),
    ),
    (
        change("difference", 1_234_567.0, severity=CRITICAL),
        (
            f"Boiler 3 jumped to 1,235,000 °C {WHEN}, where about 61.24 °C was expected: "
            "more than 100 times as far off as it usually is."
        ),
        (
            f"Boiler 3 saltó a 1.235.000 °C {CUANDO}, cuando se esperaban unos 61,24 °C: "
            "más de 100 veces más lejos de lo habitual."
        ),
    ),
    (
        change("trend", 70.0),
        f"Boiler 3 is moving away from its usual level, faster than it normally does: it was 70 °C {WHEN}.",
        f"Boiler 3 se aleja de su nivel habitual más deprisa de lo normal: marcó 70 °C {CUANDO}.",
    ),
    (
        change("spread", 61.0),
        f"Boiler 3 varied far more than usual {WHEN}: by about 3.21 °C around 61 °C.",
        f"Boiler 3 varió mucho más de lo habitual {CUANDO}: unos 3,21 °C en torno a 61 °C.",
    ),
    (
        change("stuck", 61.5),
        (
            "Boiler 3 has stayed at exactly 61.5 °C for longer than it ever has, "
            "up to 12:04:05 UTC on 1 May 2024."
        ),
        (
            "Boiler 3 lleva más tiempo que nunca en exactamente 61,5 °C, "
            "hasta las 12:04:05 UTC del 1 de mayo de 2024."
        ),
    ),
    (
        change("recovered", 61.0, WARN, NORMAL),
        (
            f"Boiler 3 is back to normal: it was 61 °C {WHEN}. "
            "It had left its normal state at 12:03:00 UTC on 1 May 2024."
        ),
        (
            f"Boiler 3 ha vuelto a la normalidad: marcó 61 °C {CUANDO}. "
            "Había dejado su estado normal a las 12:03:00 UTC del 1 de mayo de 2024."
        ),
    ),
    (
        change("warning_range", 85.0, CRITICAL, WARN),
        (
            f"Boiler 3 is no longer critical, but still at or beyond its warning limits: it was 85 °C {WHEN}. "
            "It left its normal state at 12:03:00 UTC on 1 May 2024."
        ),
        (
            f"Boiler 3 ya no está en estado crítico, pero sigue en sus límites de aviso o más allá: marcó 85 °C {CUANDO}. "
            "Dejó su estado normal a las 12:03:00 UTC del 1 de mayo de 2024."
        ),
    ),
    (
        change("trend", 70.0, CRITICAL, WARN),
        (
            f"Boiler 3 is no longer critical, but not yet as usual: it was 70 °C {WHEN}. "
            "It left its normal state at 12:03:00 UTC on 1 May 2024."
        ),
        (
            f"Boiler 3 ya no está en estado crítico, pero aún no está como de costumbre: marcó 70 °C {CUANDO}. "
            "Dejó su estado normal a las 12:03:00 UTC del 1 de mayo de 2024."
        ),
    ),
]


@pytest.mark.parametrize(("told", "english", "spanish"), GOLDEN, ids=lambda part: getattr(part, "cause", ""))
def test_the_sentences_are_these(told: Change, english: str, spanish: str) -> None:
    """What people read, word for word, in both languages."""
    assert explain(told, BOILER, "en")[0] == english
    assert explain(told, BOILER, "es")[0] == spanish


def test_a_jump_within_one_time_stamp_is_told_as_that() -> None:
    """Its two readings have one time: there is no length to tell."""
    jump = change("delta_spike", 61.0004)
    at_once = replace(jump, spike=replace(jump.spike, lapse_ms=0, previous=61.0))  # type: ignore[type-var]
    english, spanish = (explain(at_once, BOILER, language)[0] for language in get_args(Language))
    assert "from 61 °C to 61.0004 °C with the same time stamp, at 12:04:05" in english
    assert "con la misma marca de tiempo" in spanish


def test_every_cause_has_an_action_and_a_title() -> None:
    """Each language says what to do, and has a line for lists, for each cause."""
    for words in (ENGLISH, SPANISH):
        assert set(words.happened) == set(words.action) == set(words.headline) == set(get_args(Cause))
    assert explain(change("stuck", 1.0), BOILER, "en")[1].startswith("Check that the sensor is alive")
    assert explain(change("critical_range", 99.0), BOILER, "es")[1].startswith("Actúe ya")
    assert (
        title(change("warning_range", 81.0), BOILER, "en")
        == "WARNING: Boiler 3 is outside its warning limits"
    )
    assert title(change("critical_range", 99.0, severity=CRITICAL), BOILER, "es") == (
        "CRÍTICO: Boiler 3 está fuera de sus límites críticos"
    )


def test_an_unknown_sensor_is_spoken_of_plainly() -> None:
    """Without an entry there is no name and no unit; without a name the sensor's key stands in."""
    assert explain(change("spread", 61.0), None, "en")[0].startswith("The sensor varied far more than usual")
    nameless = SensorEntry(sensor="b-1")
    assert title(change("stuck", 61.0), nameless, "es") == "AVISO: El sensor b-1 no se mueve"
    assert "61 °" not in explain(change("level", 76.2), nameless, "en")[0]


#: What no person should have to read: fields, raw exponents, scores, and what is no number.
RAW = re.compile(
    r"[{}]|\d[eE][+-]?\d|surprise|anomaly|sigma|deviation|desviación|None|\bnan\b|\binf\b|  |\.\.| [.,:]"
)
#: Of a recovery, and of all else.
DOWN = [(WARN, NORMAL), (CRITICAL, NORMAL)]
STEPS = [(NORMAL, WARN), (NORMAL, CRITICAL), (WARN, CRITICAL), (CRITICAL, WARN)]
CHANGES = [(cause, step) for cause in get_args(Cause) for step in (DOWN if cause == "recovered" else STEPS)]
ENTRIES = [
    None,
    SensorEntry("b-1"),
    SensorEntry("b-1", name="Boiler 3"),
    SensorEntry("b-1", unit="°C", kind="temperature"),
    BOILER,
]


@given(
    st.sampled_from(CHANGES),
    st.floats(-1e100, 1e100),
    st.sampled_from(get_args(Language)),
    st.sampled_from(ENTRIES),
)
def test_any_change_makes_sentences(
    made: tuple[Cause, tuple[Severity, Severity]],
    value: float,
    language: Language,
    entry: SensorEntry | None,
) -> None:
    """No value leaves a field unfilled, a raw exponent or a score in the text; all are whole sentences with their unit."""
    cause, step = made
    told = change(cause, value, *step)
    explanation, action = explain(told, entry, language)
    for sentence in (explanation, action):
        assert sentence.endswith(".")
        assert sentence[0].isupper()
        assert not RAW.search(sentence)
    assert not RAW.search(title(told, entry, language))
    if entry is not None:
        assert explanation.startswith(entry.name or {"en": "Sensor b-1", "es": "El sensor b-1"}[language])
        assert ("°C" in explanation) == (entry.unit is not None)


@pytest.mark.parametrize("language", get_args(Language))
@pytest.mark.parametrize("entry", ENTRIES)
def test_every_cause_speaks_at_every_step(language: Language, entry: SensorEntry | None) -> None:
    """No combination is left to chance: each has its time, and languages do not mix."""
    for cause, step in CHANGES:
        explanation, action = explain(change(cause, 61.25, *step), entry, language)
        assert not RAW.search(explanation + action)
        assert {"en": "UTC on 1 May 2024", "es": "UTC del 1 de mayo de 2024"}[language] in explanation


def test_users_say_what_to_do() -> None:
    """For the sensor's kind, or else for all kinds; in another language nothing of theirs is told."""
    pump = SensorEntry("p", kind="Pump")
    texts = [
        ActionEntry("*", "stuck", en="Look.", es="Mire."),
        ActionEntry("pump", "stuck", en="Look at the pump."),
        ActionEntry("pump", "level", en="Call Ann."),
    ]
    actions = {(entry.kind, entry.cause): entry for entry in texts}
    told = {
        (cause, language, entry): recommended(cause, entry, language, actions)
        for cause in ("stuck", "level")
        for language in ("en", "es")
        for entry in (None, SensorEntry("x"), pump)
    }
    assert told == {
        ("stuck", "en", None): "Look.",
        ("stuck", "en", SensorEntry("x")): "Look.",
        ("stuck", "en", pump): "Look at the pump.",
        ("stuck", "es", None): "Mire.",
        ("stuck", "es", SensorEntry("x")): "Mire.",
        ("stuck", "es", pump): "Mire.",
        ("level", "en", None): None,
        ("level", "en", SensorEntry("x")): None,
        ("level", "en", pump): "Call Ann.",
        ("level", "es", None): None,
        ("level", "es", SensorEntry("x")): None,
        ("level", "es", pump): None,
    }


@pytest.mark.parametrize(
    ("value", "digits", "english", "spanish"),
    [
        (0.0, 4, "0", "0"),
        (-0.00012345, 2, "-0.00012", "-0,00012"),
        (1013.25, 4, "1,013", "1.013"),
        (9999.96, 4, "10,000", "10.000"),
        (1e20, 4, "1.000 × 10^20", "1,000 × 10^20"),  # noqa: RUF001
        (2.5e-7, 2, "2.5 × 10^-7", "2,5 × 10^-7"),  # noqa: RUF001
        (23.5, 4, "23.5", "23,5"),
        (100.0, 2, "100", "100"),
    ],
)
def test_numbers_are_written_as_people_write_them(
    value: float, digits: int, english: str, spanish: str
) -> None:
    """Few digits, the language's marks, powers of ten only where nothing else is readable."""
    assert number(value, digits, PHRASES["en"]) == english
    assert number(value, digits, PHRASES["es"]) == spanish
