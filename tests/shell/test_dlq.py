"""Dead letters without Kafka: read, told apart, counted, and made into the records that are sent again."""

from __future__ import annotations

import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from streamproc.core.chunk import LETTER, MOVED, REDRIVEN, Chunk
from streamproc.core.engine import Options, PartitionState, run
from streamproc.core.letters import PAYLOAD_LIMIT, letter
from streamproc.core.registry import RegistryLog
from streamproc.dlq.found import MARK, Filter, Found, Place, is_left_out, parse_places, payload, read, sensors
from streamproc.dlq.index import Index
from streamproc.dlq.reasons import reason_of
from streamproc.dlq.resend import resend
from streamproc.dlq.view import columns, listing, plain, whole
from streamproc.engine.outputs import messages
from streamproc.records import DeadLetter, RedriveMark, SensorEntry
from streamproc.sink.rows import Decoder
from tests.store.builders import START, chunk, ints, packet, single


@dataclass
class Record:
    """A record of `dead-letter` as a consumer gives it."""

    value: bytes | None
    offset: int = 0
    partition: int = 0
    timestamp: int = START
    headers: tuple[tuple[str, bytes], ...] = field(default=())


def found(at: int = 0, reason: str = "unknown sensor a", **changed: object) -> Found:
    """A letter of the sink at an offset of `dead-letter`, about a record at the same offset."""
    told = DeadLetter("sink", reason, "readings", 0, at, "{}", size=2, first=f"0:{at}:{START}")
    return Found(Place(0, at), START + at, replace(told, **changed))


def mark(letter: Found, at_ms: int = START) -> RedriveMark:
    """Says that the letter's record was sent again."""
    sent = resend(letter, letter.first)
    assert sent
    return sent.mark("readings/0/99", at_ms)


@pytest.fixture
def index() -> Iterator[Index]:
    """One that wants every letter."""
    with closing(Index(Filter())) as index:
        yield index


def refused_by_engine(value: bytes | None, ts: int = START) -> DeadLetter:
    """What the engine writes about a record."""
    given = Chunk("readings", 0, ints(7), ints(ts), [value])
    state, registry = PartitionState(Options("readings", 0, 1)), RegistryLog()
    registry.append(0, 0, "theirs", SensorEntry("theirs", device="e"))
    ((part, out),) = run(state, given, registry)
    (told,) = [m.value for m in messages(state, part, out) if m.topic == "dead-letter"]
    return msgspec.json.decode(told or b"", type=DeadLetter)


EARLY = b'{"sensor_uuid": "a", "value": 1, "ts": %d}' % (START // 1000 + 3600)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"{", "malformed"),
        (b"hello", "malformed"),
        (b"\xff\xfe", "malformed"),
        (b'{"sensor_uuid": "\xff", "value": 1}', "malformed"),
        (b'{"sensor_uuid": "a", "value": NaN}', "malformed"),
        (b"[" * 100_000, "invalid"),
        (b'{"sensor_uuid": "a", "value": 1} {}', "malformed"),
        (b'{"sensor_uuid": "a", "value": "warm"}', "invalid"),
        (b'{"sensor_uuid": "a"}', "invalid"),
        (b'{"sensor_uuid": "a", "value": 1, "more": 2}', "invalid"),
        (b'{"sensor_uuid": "a", "value": 1, "ts": "yesterday"}', "invalid"),
        (None, "no-value"),
        (EARLY, "early"),
        (b'{"device_uuid": "d", "readings": [{"sensor_uuid": "theirs", "value": 1}]}', "foreign"),
        (b'{"device_uuid": "d", "sensor_uuid": "theirs", "value": 1}', "foreign"),
        (b'{"sensor_uuid": "a", "value": 1, "is registered to device": 1}', "invalid"),
    ],
)
def test_what_the_engine_refuses_has_a_class(value: bytes | None, code: str) -> None:
    """By the reasons that it really gives."""
    assert reason_of(refused_by_engine(value)).code == code


@pytest.mark.parametrize(
    ("value", "code"),
    [(b"{", "malformed"), (b"{}", "invalid"), (None, "no-value"), (b"\xff", "malformed"), (b"[]", "invalid")],
)
def test_what_the_sink_does_not_understand_has_a_class(value: bytes | None, code: str) -> None:
    """By the reasons that it really gives."""
    for topic in ("events", "notifications", "predictions"):
        (told,) = Decoder(60_000).piece(chunk([value], topic=topic)).letters
        assert reason_of(told).code == code


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("2 rows: unknown sensor a; unknown sensor b", "unknown-sensor"),
        ("CHECK constraint failed: severity IN (…)", "constraint"),
        ("UNIQUE constraint failed: x", "constraint"),
        ("version 2 is not known here", "version"),
        ("Python int too large to convert to SQLite INTEGER", "refused"),
    ],
)
def test_what_the_database_refuses_has_a_class(reason: str, code: str) -> None:
    """By its own words."""
    assert reason_of(found(reason=reason).letter).code == code


@given(st.binary(max_size=200) | st.none())
def test_the_bytes_sent_again_are_those_refused(value: bytes | None) -> None:
    """Whatever they are; a record without a value is not sent."""
    about = Chunk("readings", 3, ints(8), ints(START), [value])
    one = read(Record(msgspec.json.encode(letter("sink", about, 0, "no"))))
    assert isinstance(one, Found)
    assert not is_left_out(one.letter)
    again = resend(one, one.first)
    assert (again.value if again else None) == value


def test_a_value_too_large_is_told_from_none() -> None:
    """The letter knows its size, and so does one that was written before letters had sizes."""
    large = letter("sink", chunk([b"x" * PAYLOAD_LIMIT]), 0, "no")
    assert is_left_out(large)
    assert is_left_out(replace(large, size=None))
    assert not is_left_out(letter("sink", chunk([None]), 0, "no"))
    assert resend(found(payload=None), "0:0:0", b"all of it") is not None


def test_a_record_sent_again_says_where_it_first_arrived() -> None:
    """Also one that had been sent on; a letter about it names the first letter and counts."""
    place = f"2:5:{START - 9}".encode()
    moved = Chunk("readings", 3, ints(8), ints(START), [b"{"], {0: ((MOVED, place),)})
    first = Found(Place(0, 17), START, letter("engine", moved, 0, "no JSON"))
    again = resend(first, first.first)
    assert again
    assert dict(again.headers) == {REDRIVEN: place, LETTER: b"engine:1:0:17"}
    arrived = Chunk("readings", 3, ints(90), ints(START + 99), [b"{"], {0: again.headers})
    second = Found(Place(0, 30), START, letter("engine", arrived, 0, "no JSON"))
    assert (second.letter.letter, second.letter.attempt, second.first) == ("0:17", 1, first.first)
    third = resend(second, second.first)
    assert third
    assert dict(third.headers) == {REDRIVEN: place, LETTER: b"engine:2:0:17"}


@pytest.mark.parametrize(
    ("topic", "value", "key"),
    [
        ("here-readings", packet("D", "a", [1.0]), b"d"),
        ("here-readings", single("A", 1.0), b"a"),
        ("here-readings", b"{", None),
        ("here-events", b'{"sensor": "a"}', b"a"),
        ("here-events", b"[", None),
        ("here-predictions", b'{"sensor": ["a"]}', None),
    ],
)
def test_a_record_sent_again_has_its_key(topic: str, value: bytes, key: bytes | None) -> None:
    """That of its topic, as far as its value tells."""
    again = resend(found(topic=topic, payload=value.decode()), "0:0:0", prefix="here-")
    assert again
    assert again.key == key


def test_marks_and_strangers_are_no_letters() -> None:
    """A mark is known by its header; anything else is counted as unreadable."""
    sent = mark(found())
    assert read(Record(msgspec.json.encode(sent), headers=((MARK, b"redriven"),))) == sent
    assert read(Record(b"hello")) is None
    assert read(Record(None)) is None
    assert read(Record(msgspec.json.encode(sent))) is None


def test_a_letter_of_an_older_version_is_read() -> None:
    """One from before letters told where their records first arrived."""
    old = {"stage": "sink", "reason": "no", "topic": "readings", "partition": 1, "offset": 4, "payload": "{}"}
    one = read(Record(msgspec.json.encode(old)))
    assert isinstance(one, Found)
    assert one.first == "1:4:?"


def test_the_same_letter_counts_once(index: Index) -> None:
    """A stage that was killed has sent it again; so does a record that a killed redrive has sent twice."""
    again = replace(found(1).letter, letter="0:1", attempt=1, offset=50)
    twice = [Found(Place(0, 7), START, again), Found(Place(0, 8), START, replace(again, offset=51))]
    index.add([found(1), Found(Place(0, 5), START + 9, found(1).letter), *twice])
    assert index.total() == (2, 2)
    assert index.waiting(Place(-1, -1), 10) == [Place(0, 1), Place(0, 7)]
    (group,) = index.groups()
    assert (group.letters, group.attempts, group.last_at) == (2, 1, START + 9)


@pytest.mark.parametrize("named", [1, 5])
def test_a_letter_is_known_by_each_of_its_places(named: int) -> None:
    """Whichever of them is named, it is the same letter."""
    with closing(Index(Filter(places=frozenset({Place(0, named)})))) as index:
        index.add([found(1), Found(Place(0, 5), START, found(1).letter)])
        assert index.waiting(Place(-1, -1), 10) == [Place(0, 1)]


def test_what_was_sent_again_does_not_wait(index: Index) -> None:
    """Nor does the same letter when it comes once more; the letter of a further refusal does."""
    index.add([found(1), found(2)])
    index.add([mark(found(1), START + 5)])
    index.add([found(1)])
    index.add([mark(found(1), START + 99)])
    further = Found(Place(0, 9), START, replace(found(1).letter, letter="0:1", attempt=1))
    index.add([further])
    assert index.waiting(Place(-1, -1), 10) == [Place(0, 2), Place(0, 9)]
    assert index.waiting(Place(0, 2), 10) == [Place(0, 9)]
    first, second = index.chain(found(1))
    assert (first.redriven_at, first.sent, second.redriven_at) == (START + 5, "readings/0/99", None)
    assert index.total() == (3, 2)


def test_marks_of_letters_gone_are_passed_over(index: Index) -> None:
    """Retention takes the letter first."""
    index.add([mark(found(1)), None])
    assert (index.total(), index.unreadable) == ((0, 0), 1)


def test_two_stages_two_letters(index: Index) -> None:
    """Engine and sink may refuse readings of one packet, each for its own reason: each is redriven for itself."""
    index.add([found(1), Found(Place(0, 2), START, replace(found(1).letter, stage="engine"))])
    index.add([mark(found(1))])
    assert index.waiting(Place(-1, -1), 10) == [Place(0, 2)]
    assert len(index.chain(found(1))) == 2


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [
        (Filter(), True),
        (Filter(reason="unknown-sensor"), True),
        (Filter(reason="KNOWN sensor"), True),
        (Filter(reason="constraint"), False),
        (Filter(stage="engine"), False),
        (Filter(topic="readings", prefix="here-"), True),
        (Filter(topic="here-readings", prefix="here-"), True),
        (Filter(topic="events"), False),
        (Filter(since=START + 3, until=START + 4), True),
        (Filter(since=START + 4), False),
        (Filter(until=START + 3), False),
        (Filter(sensor="Boiler"), True),
        (Filter(sensor="boil"), False),
        (Filter(places=frozenset({Place(0, 3)})), True),
        (Filter(places=frozenset({Place(1, 3)})), False),
        (Filter(reason="unknown-sensor", stage="engine"), False),
    ],
)
def test_letters_are_chosen_by_all_that_is_given(wanted: Filter, taken: bool) -> None:
    """Each part of a filter can leave a letter out."""
    one = found(3, payload='{"sensor_uuid": "Boiler", "value": 1}', topic="here-readings")
    assert wanted.takes(one) is taken


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ('{"device_uuid": "d", "readings": [{"sensor_uuid": "A"}, {"sensor_uuid": "b"}]}', {"a", "b"}),
        ('{"sensor_id": 7, "value": 1}', {"7"}),
        ('{"sensor_uuid": "a", "value": ', {"a"}),
        ('{"sensor": ["a", "B", 3]}', {"a", "b"}),
        ("nothing", set()),
        ("[" * 5_000, set()),
    ],
)
def test_sensors_are_told_where_they_can_be(value: str, named: set[str]) -> None:
    """Also of a record that is no JSON."""
    assert sensors(found(payload=value).letter) == named


def test_a_sensor_is_found_in_the_reason() -> None:
    """Where the letter does not repeat its record."""
    one = found(reason="2 rows: unknown sensor a.b; unknown sensor c", payload=None)
    assert [name for name in ("a.b", "c", "a", "axb") if Filter(sensor=name).takes(one)] == ["a.b", "c"]


def test_names_that_are_none_are_told() -> None:
    """All of them at once."""
    assert parse_places(["0:17"]) == {Place(0, 17)}
    with pytest.raises(ValueError, match="17, 0-3: a letter is named PARTITION:OFFSET"):
        parse_places(["17", "0:4", "0-3"])


def test_a_list_counts_and_names(index: Index) -> None:
    """By stage, class and topic, then the newest."""
    index.add([found(at) for at in range(30)])
    index.add([found(30, "CHECK constraint failed: x\x1b[2J", topic="here-events"), mark(found(4)), None])
    lines = listing(index, 2, "here-")
    assert lines[0] == "31 letters: 30 waiting, 1 redriven"
    assert lines[1] == "neither letter nor mark of streamproc: 1 record of the topic"
    assert lines[4].split()[:6] == ["sink", "unknown-sensor", "readings", "30", "29", "0"]
    assert lines[5].split()[:6] == ["sink", "constraint", "events", "1", "1", "0"]
    assert [line.split()[0] for line in lines if line.startswith("0:")] == ["0:29", "0:30"]
    assert "\x1b" not in "".join(lines)
    assert "show" not in "".join(listing(index, 0, ""))


def test_a_letter_is_shown_whole(index: Index) -> None:
    """What, why, where from, and what to do; once it was sent again, what came of it."""
    one = found(1, payload='{"sensor_uuid":"a","value":1}')
    index.add([one])
    text = "\n".join(whole(one, index.chain(one), None, ""))
    for part in (
        "0:1",
        "unknown sensor a",
        "readings/0 at offset 1",
        "registry import",
        '"sensor_uuid": "a"',
    ):
        assert part in text
    index.add([mark(one)])
    assert "no new letter has come of it" in "\n".join(whole(one, index.chain(one), None, ""))
    index.add([Found(Place(0, 9), START, replace(one.letter, letter="0:1", attempt=1))])
    assert "streamproc dlq show 0:9" in "\n".join(whole(one, index.chain(one), None, ""))


@pytest.mark.parametrize(
    ("value", "given_value", "part"),
    [
        (b64encode(b"\xffab\x1b").decode(), None, "payload, 4 bytes, not UTF-8:\n  \\xffab\\x1b"),
        (None, b"[1]", "read from its topic"),
        (None, None, "gone from its topic"),
    ],
)
def test_payloads_that_are_no_text(
    index: Index, value: str | None, given_value: bytes | None, part: str
) -> None:
    """Other bytes are escaped; a large value comes from its topic, if it is still there."""
    one = found(1, payload=value, encoding="base64" if value else "utf-8", size=4)
    assert payload(one.letter) == (b"\xffab\x1b" if value else None)
    assert part in "\n".join(whole(one, index.chain(one), given_value, ""))


_PEAK = """
import resource, sys
from streamproc.dlq.found import Filter
from streamproc.dlq.index import Index
from tests.shell.test_dlq import found
index = Index(Filter())
for begin in range(0, int(sys.argv[1]), 500):
    index.add([found(begin + at, "x" * 150) for at in range(500)])
assert index.total()[0] == int(sys.argv[1])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.live
def test_more_letters_take_no_more_memory() -> None:
    """They go to a file once they fill the cache of 16 MiB: 45,000 do; twice as many take less than 8 MB more."""
    peaks = [
        int(subprocess.run([sys.executable, "-c", _PEAK, count], capture_output=True, check=True).stdout)
        for count in ("60000", "120000")
    ]
    assert peaks[1] - peaks[0] < 8_000  # KB; kept in memory they would be 24 MB


def test_columns_and_control_characters() -> None:
    """Lines end where their text ends; lines of a payload stay lines."""
    assert columns([("a", "b"), ("cc", "")]) == ["a   b", "cc"]
    assert plain("a\tb\n\x9b") == "a\\tb\n\\x9b"
