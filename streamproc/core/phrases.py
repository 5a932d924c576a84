"""The words of explanations: one table a language, `{}` fields filled by `explain`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from streamproc.records import Cause, Language, NotificationKind, Severity


@dataclass(frozen=True, slots=True)
class Phrases:
    """All sentences of one language; `happened` and `eased` are by cause, `action` by what is to be done."""

    decimal_mark: str
    group_mark: str
    months: tuple[str, ...]
    moment: str
    sensor: str
    nameless: str
    above: str
    below: str
    over: str
    at: str
    within: str
    at_once: str
    times: str
    far_times: str
    since: str
    severities: Mapping[Severity, str]
    seconds: str
    days: str
    rose: str
    fell: str
    unit_of_trend: str
    stats: Mapping[str, str]
    happened: Mapping[Cause, str]
    eased: Mapping[Cause, str]
    action: Mapping[Cause, str]
    headline: Mapping[Cause, str]
    #: Of sensors that flap, and of windows in a row.
    flapping_too: str
    settled: str
    settled_headline: str
    settled_too: str
    in_a_row: str
    #: Of sensors whose whole device is silent, and of the device itself.
    hidden_too: str
    still_silent: str
    device_silent: str
    device_silent_action: str
    device_silent_headline: str
    device_back: str
    device_back_action: str
    device_back_headline: str
    #: What is told without a change: titles by kind of notification, sentences, and why something comes late.
    recall: Mapping[NotificationKind, str]
    stands: Mapping[str, str]
    held: Mapping[str, str]


ENGLISH = Phrases(
    decimal_mark=".",
    group_mark=",",
    months=(
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ),
    moment="{time} UTC on {day} {month} {year}",
    sensor="Sensor {sensor}",
    nameless="The sensor",
    above="above",
    below="below",
    over="in the {length} before {moment}",
    at="at {moment}",
    within="in {length}",
    at_once="with the same time stamp",
    times="about {times} times as far off as it usually is",
    far_times="more than 100 times as far off as it usually is",
    since=" It left its normal state at {moment}.",
    severities={Severity.NORMAL: "NORMAL", Severity.WARN: "WARNING", Severity.CRITICAL: "CRITICAL"},
    seconds="{number} s",
    days="days",
    rose="rose by",
    fell="fell by",
    unit_of_trend="{unit} a second",
    stats={
        "mean": "the mean of {size} is {value}",
        "min": "the lowest of {size} is {value}",
        "max": "the highest of {size} is {value}",
        "count": "the readings in {size} are {value}",
        "deviation": "the spread in {size} is {value}",
        "first": "the first of {size} is {value}",
        "last": "the last of {size} is {value}",
        "trend": "the change in {size} is {value}",
    },
    happened={
        "critical_range": "{name} read {value} at {moment}, {side} its critical limit of {limit}.",
        "warning_range": "{name} read {value} at {moment}, {side} its warning limit of {limit}.",
        "delta_spike": "{name} went from {before} to {after} {lapse}, at {moment}: "
        "a change of {change}, where {allowed} is the most allowed.",
        "level": "{name} was {value} {when}, where about {expected} was expected: {unusual}.",
        "difference": "{name} jumped to {value} {when}, where about {expected} was expected: {unusual}.",
        "trend": "{name} is moving away from its usual level, faster than it normally does: "
        "it was {value} {when}.",
        "spread": "{name} varied far more than usual {when}: by about {spread} around {value}.",
        "stuck": "{name} has stayed at exactly {value} for longer than it ever has, up to {moment}.",
        "rate_of_change": "{name} {moved} {slope} {when}, where {allowed_slope} is the most allowed: "
        "it was {value}.",
        "silence": "{name} has sent nothing for {length}, up to {moment}: its last value was {value}.",
        "stuck_value": "{name} has not moved for {length}, up to {moment}: it was {value}.",
        "expression": "{name} meets the rule “{expression}” {when}: {numbers}.",
        "season": "{name} was not as it usually is at this hour: it was {value} {when}, "
        "and the last hour's usual value is about {expected}.",
        "flapping": "{name} goes in and out of its alarm: it was {value} {when}. The alarm is held until it settles.",
        "drift": "{name} drifts slowly away from its usual values: it was {value} {when}, "
        "where about {expected} would be usual.",
        "recovered": "{name} is back to normal: it was {value} {when}. "
        "It had left its normal state at {since}.",
    },
    eased={
        "critical_range": "{name} is still outside its critical limits: it was {value} {when}.",
        "warning_range": "{name} is no longer critical, but still at or beyond its warning limits: "
        "it was {value} {when}.",
        "delta_spike": "{name} is no longer critical, but changed too fast a short while ago: it was {value} {when}.",
        "rate_of_change": "{name} is no longer critical, but still changes faster than is allowed: it was {value} {when}.",
        "silence": "{name} is no longer critical, but has been silent: it was {value} {when}.",
        "stuck_value": "{name} is no longer critical, but has not moved for too long: it was {value} {when}.",
        "expression": "{name} is no longer critical, but still meets one of its rules: it was {value} {when}.",
        "level": "{name} is no longer critical, but not yet as usual: it was {value} {when}.",
    },
    action={
        "critical_range": "Act now: bring it back inside its limits, or make the equipment safe.",
        "warning_range": "Find out what drives it towards its limit, and act before it becomes critical.",
        "delta_spike": "See whether the equipment really changed so fast. If not, check the sensor's wiring and connectors.",
        "level": "Compare it with its neighbours and with what the equipment was doing then.",
        "difference": "Look for a sudden event at that time: a switch, a knock, a loose contact.",
        "trend": "Watch where it is heading, and look for wear, a leak or a blockage that builds up.",
        "spread": "Check for loose wiring, vibration or electrical noise near the sensor.",
        "stuck": "Check that the sensor is alive: its power, its wiring and whether its readings are frozen.",
        "rate_of_change": "See what drives it so fast, and whether it is meant to; act before it reaches its limits.",
        "silence": "Check that the sensor and its device have power and network, and that nobody took them out.",
        "stuck_value": "Check that the sensor is alive: its power, its wiring and whether its readings are frozen.",
        "expression": "See what this rule was made for, and compare the sensor with what the equipment is doing.",
        "season": "See what is different from other days: a holiday, a stop, another way of working, or a setting.",
        "flapping": "Look for a loose contact, or for a limit amid its usual values: give it clear levels, or a policy of "
        "more windows up and down.",
        "drift": "Look for what changes slowly: a leak, wear, dirt, or a sensor that needs calibration.",
        "recovered": "Nothing to do now. If it happens often, review its limits and the equipment.",
    },
    headline={
        "critical_range": "{name} is outside its critical limits",
        "warning_range": "{name} is outside its warning limits",
        "delta_spike": "{name} changed too fast",
        "level": "{name} is not as usual",
        "difference": "{name} jumped",
        "trend": "{name} is moving away from its usual level",
        "spread": "{name} varies more than usual",
        "stuck": "{name} does not move",
        "rate_of_change": "{name} changes too fast",
        "silence": "{name} is silent",
        "stuck_value": "{name} does not move",
        "expression": "{name} meets one of its rules",
        "season": "{name} is not as usual at this hour",
        "flapping": "{name} goes in and out of its alarm",
        "drift": "{name} drifts slowly",
        "recovered": "{name} is back to normal",
    },
    flapping_too=" It goes in and out of its alarm, which is held until it settles.",
    settled="{name} no longer goes in and out of its alarm, but the alarm stays: it was {value} {when}.",
    settled_headline="{name} has settled, still in alarm",
    settled_too=" It had been going in and out of its alarm, and has settled.",
    in_a_row=" That was so in {count} windows in a row.",
    hidden_too=" Its whole device {device} is silent.",
    still_silent="{name} is still silent, though its device {device} is heard again: "
    "nothing has come of it since {heard}, and its last value was {value}.",
    device_silent="Device {device} is silent: none of its {sensors} sensors has sent anything since {since}.",
    device_silent_action="Check the device's power and network. Its sensors' own silences are not told one by one.",
    device_silent_headline="Device {device} is silent",
    device_back="Device {device} is heard again at {moment}, after silence since {since}.",
    device_back_action="Nothing to do now: a sensor of it that stays silent is told by itself.",
    device_back_headline="Device {device} is heard again",
    recall={"held": "{title}", "reminder": "Reminder: {title}", "escalation": "Escalated: {title}"},
    stands={
        "lasts": "{name} is still {severity}: it left its normal state at {since}. "
        "What was last found of it: {value}, at {moment}.",
        "over": "{name} has been back to normal since {moment}: it was {value}.",
        "reminder": " Nobody has acknowledged it.",
        "escalation": " Nobody has acknowledged it so far.",
    },
    held={
        "silence": " You were not told before since it was silenced.",
        "maintenance": " You were not told before since it was under maintenance.",
        "snooze": " You were not told before since it was snoozed.",
        "cooldown": " You were not told before since another change was told shortly before that.",
        "inhibited": " You were not told before since all of its device was silent.",
    },
)

SPANISH = Phrases(
    decimal_mark=",",
    group_mark=".",
    months=(
        "enero",
        "febrero",
        "marzo",
        "abril",
        "mayo",
        "junio",
        "julio",
        "agosto",
        "septiembre",
        "octubre",
        "noviembre",
        "diciembre",
    ),
    moment="las {time} UTC del {day} de {month} de {year}",
    sensor="El sensor {sensor}",
    nameless="El sensor",
    above="por encima",
    below="por debajo",
    over="en el intervalo de {length} hasta {moment}",
    at="a {moment}",
    within="en {length}",
    at_once="con la misma marca de tiempo",
    times="unas {times} veces más lejos de lo habitual",
    far_times="más de 100 veces más lejos de lo habitual",
    since=" Dejó su estado normal a {moment}.",
    severities={Severity.NORMAL: "NORMAL", Severity.WARN: "AVISO", Severity.CRITICAL: "CRÍTICO"},
    seconds="{number} s",
    days="días",
    rose="subió",
    fell="bajó",
    unit_of_trend="{unit} por segundo",
    stats={
        "mean": "la media de {size} es {value}",
        "min": "el mínimo de {size} es {value}",
        "max": "el máximo de {size} es {value}",
        "count": "las lecturas de {size} son {value}",
        "deviation": "la dispersión en {size} es {value}",
        "first": "la primera de {size} es {value}",
        "last": "la última de {size} es {value}",
        "trend": "el cambio en {size} es de {value}",
    },
    happened={
        "critical_range": "{name} marcó {value} a {moment}, {side} de su límite crítico de {limit}.",
        "warning_range": "{name} marcó {value} a {moment}, {side} de su límite de aviso de {limit}.",
        "delta_spike": "{name} pasó de {before} a {after} {lapse}, a {moment}: "
        "un cambio de {change}, cuando se admiten {allowed} como máximo.",
        "level": "{name} marcó {value} {when}, cuando se esperaban unos {expected}: {unusual}.",
        "difference": "{name} saltó a {value} {when}, cuando se esperaban unos {expected}: {unusual}.",
        "trend": "{name} se aleja de su nivel habitual más deprisa de lo normal: marcó {value} {when}.",
        "spread": "{name} varió mucho más de lo habitual {when}: unos {spread} en torno a {value}.",
        "stuck": "{name} lleva más tiempo que nunca en exactamente {value}, hasta {moment}.",
        "rate_of_change": "{name} {moved} {slope} {when}, cuando se admiten {allowed_slope} como máximo: "
        "marcó {value}.",
        "silence": "{name} no ha enviado nada en {length}, hasta {moment}: su último valor fue {value}.",
        "stuck_value": "{name} no se ha movido en {length}, hasta {moment}: marcó {value}.",
        "expression": "{name} cumple la regla «{expression}» {when}: {numbers}.",
        "season": "{name} no está como suele a esta hora: marcó {value} {when}, "
        "y lo habitual en la última hora son unos {expected}.",
        "flapping": "{name} entra y sale de su alarma: marcó {value} {when}. La alarma se mantiene hasta que se estabilice.",
        "drift": "{name} se desvía poco a poco de sus valores habituales: marcó {value} {when}, "
        "cuando lo habitual serían unos {expected}.",
        "recovered": "{name} ha vuelto a la normalidad: marcó {value} {when}. "
        "Había dejado su estado normal a {since}.",
    },
    eased={
        "critical_range": "{name} sigue fuera de sus límites críticos: marcó {value} {when}.",
        "warning_range": "{name} ya no está en estado crítico, pero sigue en sus límites de aviso o más allá: "
        "marcó {value} {when}.",
        "delta_spike": "{name} ya no está en estado crítico, pero hace poco cambió demasiado deprisa: marcó {value} {when}.",
        "rate_of_change": "{name} ya no está en estado crítico, pero aún cambia demasiado deprisa: marcó {value} {when}.",
        "silence": "{name} ya no está en estado crítico, pero ha estado sin enviar datos: marcó {value} {when}.",
        "stuck_value": "{name} ya no está en estado crítico, pero lleva demasiado tiempo sin moverse: marcó {value} {when}.",
        "expression": "{name} ya no está en estado crítico, pero aún cumple una de sus reglas: marcó {value} {when}.",
        "level": "{name} ya no está en estado crítico, pero aún no está como de costumbre: marcó {value} {when}.",
    },
    action={
        "critical_range": "Actúe ya: devuélvalo a sus límites o ponga el equipo en estado seguro.",
        "warning_range": "Averigüe qué lo empuja hacia su límite y actúe antes de que sea crítico.",
        "delta_spike": "Compruebe si el equipo cambió de verdad tan deprisa; si no, revise el cableado y los conectores "
        "del sensor.",
        "level": "Compárelo con los sensores vecinos y con lo que hacía el equipo en ese momento.",
        "difference": "Busque un suceso repentino a esa hora: un interruptor, un golpe, un contacto flojo.",
        "trend": "Vigile hacia dónde va y busque un desgaste, una fuga o una obstrucción que vaya a más.",
        "spread": "Revise si hay cables flojos, vibración o ruido eléctrico cerca del sensor.",
        "stuck": "Compruebe que el sensor funciona: alimentación, cableado y si repite la misma lectura.",
        "rate_of_change": "Averigüe qué lo mueve tan deprisa y si es lo previsto; actúe antes de que llegue a sus límites.",
        "silence": "Compruebe que el sensor y su equipo tienen alimentación y red, y que nadie los ha retirado.",
        "stuck_value": "Compruebe que el sensor funciona: alimentación, cableado y si repite la misma lectura.",
        "expression": "Vea para qué se hizo esta regla y compare el sensor con lo que hace el equipo.",
        "season": "Vea qué hay de distinto a otros días: un festivo, una parada, otra forma de trabajo o un ajuste.",
        "flapping": "Busque un contacto flojo o un límite en medio de sus valores habituales: dele niveles de retorno o una "
        "política con más intervalos para subir y bajar.",
        "drift": "Busque lo que cambia despacio: una fuga, desgaste, suciedad o un sensor que hay que calibrar.",
        "recovered": "Nada que hacer por ahora. Si ocurre a menudo, revise sus límites y el equipo.",
    },
    headline={
        "critical_range": "{name} está fuera de sus límites críticos",
        "warning_range": "{name} está fuera de sus límites de aviso",
        "delta_spike": "{name} cambió demasiado deprisa",
        "level": "{name} no está como de costumbre",
        "difference": "{name} ha dado un salto",
        "trend": "{name} se aleja de su nivel habitual",
        "spread": "{name} varía más de lo habitual",
        "stuck": "{name} no se mueve",
        "rate_of_change": "{name} cambia demasiado deprisa",
        "silence": "{name} no envía datos",
        "stuck_value": "{name} no se mueve",
        "expression": "{name} cumple una de sus reglas",
        "season": "{name} no está como suele a esta hora",
        "flapping": "{name} entra y sale de su alarma",
        "drift": "{name} se desvía poco a poco",
        "recovered": "{name} ha vuelto a la normalidad",
    },
    flapping_too=" Entra y sale de su alarma, que se mantiene hasta que se estabilice.",
    settled="{name} ya no entra y sale de su alarma, pero la alarma sigue: marcó {value} {when}.",
    settled_headline="{name} se ha estabilizado, aún en alarma",
    settled_too=" Había estado entrando y saliendo de su alarma, y se ha estabilizado.",
    in_a_row=" Fue así en {count} intervalos seguidos.",
    hidden_too=" Todo su equipo {device} está callado.",
    still_silent="{name} sigue sin enviar datos, aunque su equipo {device} vuelve a enviarlos: "
    "no ha llegado nada de él desde {heard}, y su último valor fue {value}.",
    device_silent="El equipo {device} no envía datos: ninguno de sus {sensors} sensores ha enviado nada desde {since}.",
    device_silent_action="Compruebe la alimentación y la red del equipo. El silencio de cada sensor no se avisa.",
    device_silent_headline="El equipo {device} no envía datos",
    device_back="El equipo {device} vuelve a enviar datos a {moment}, tras callar desde {since}.",
    device_back_action="Nada que hacer por ahora: si un sensor suyo sigue callado, se avisará de él.",
    device_back_headline="El equipo {device} vuelve a enviar datos",
    recall={"held": "{title}", "reminder": "Recordatorio: {title}", "escalation": "Sin atender: {title}"},
    stands={
        "lasts": "{name} sigue en {severity}: dejó su estado normal a {since}. "
        "Lo último que se supo: {value}, a {moment}.",
        "over": "{name} volvió a la normalidad a {moment}: marcó {value}.",
        "reminder": " Nadie lo ha reconocido.",
        "escalation": " Nadie lo ha reconocido hasta ahora.",
    },
    held={
        "silence": " No se avisó antes porque estaba silenciado.",
        "maintenance": " No se avisó antes porque estaba en mantenimiento.",
        "snooze": " No se avisó antes porque estaba pospuesto.",
        "cooldown": " No se avisó antes porque poco antes ya se había avisado de otro cambio.",
        "inhibited": " No se avisó antes porque todo su equipo estaba callado.",
    },
)

PHRASES: Mapping[Language, Phrases] = {"en": ENGLISH, "es": SPANISH}
