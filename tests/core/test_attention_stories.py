"""Any story of changes, orders and time is told as a plain model says, however it is cut and wherever it is restored."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.core.checkpoint import restore
from streamproc.records import Severity
from streamproc.records.alerting import Document, HandlingEntry, PolicyEntry, SilenceEntry, Weekly
from tests.core.attention import (
    CALM,
    FAN,
    HIGH,
    NEAR,
    OUT,
    PUMP,
    Model,
    Site,
    Story,
    at_ms,
    by_sensor,
    events,
    lines,
    notifications,
)
from tests.core.oracle import HERE, OPTIONS, Reading, Record, feed, new_state, whole

WARN, CRITICAL = Severity.WARN, Severity.CRITICAL


def made(seed: int) -> Story:
    """Two sensors that go in and out, fall silent and come back, with orders of all kinds amid."""
    rng = random.Random(seed)  # noqa: S311  # made-up data
    story, clock, level = Story(), 0.0, {PUMP: CALM, FAN: CALM}
    for _ in range(rng.randrange(40, 160)):
        clock += rng.choice((0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 3.0, 12.0))
        if rng.random() < 0.1:
            story.order(clock, *_orders(rng, story, clock), without=_gone(rng))
        elif rng.random() < 0.1:
            story.tick(clock)
        else:
            sensor = rng.choice((PUMP, PUMP, FAN))
            if rng.random() < 0.15:
                level[sensor] = rng.choice((CALM, CALM, CALM, NEAR, HIGH, OUT))
            behind = rng.choice((0.0, 0.0, 0.0, 0.7, 1.9, 5.0, -8.0, 300.0))
            story.records.append(
                Record(at_ms(clock), (Reading(sensor, level[sensor], at_ms(clock - behind)),))
            )
    return story


def _orders(rng: random.Random, story: Story, clock: float) -> list[Document]:
    later = at_ms(clock + rng.choice((-20, 5, 20, 60)))
    kind = rng.randrange(3)
    if kind == 0:
        cooldown, remind, escalate = (rng.choice((0.0, 0.0, 3.0, 10.0, 30.0)) for _ in range(3))
        return [
            PolicyEntry(
                rng.choice(("*", "pump", "fan")),
                cooldown_seconds=3 * cooldown,
                remind_seconds=remind,
                escalate_seconds=escalate,
            )
        ]
    if kind == 1:
        told = events(feed(new_state(), story.records, (), story.log))
        if not told:
            return []
        event = rng.choice(told[-3:])
        until = rng.choice((None, later))
        return [HandlingEntry(event.sensor, event.event_id, rng.random() < 0.5, until)]
    begin = rng.choice((None, at_ms(clock + rng.choice((-5, 0, 10)))))
    weekly = Weekly((0, 1, 2, 3, 4, 5, 6), datetime.fromtimestamp(later / 1000, UTC).strftime("%H:%M"), 1)
    sensor, sort, site = rng.choice(
        ((None, None, None), (PUMP, None, None), (None, "FAN", None), (None, "pump", "north"))
    )
    return [
        SilenceEntry(
            rng.choice("ab"),
            sensor=sensor,
            kind=sort,
            site=site,
            all_sensors=not (sensor or sort),
            begin=begin,
            end=rng.choice((None, later)),
            weekly=rng.choice((None, None, weekly)),
            up_to=rng.choice((WARN, CRITICAL)),
            maintenance=rng.random() < 0.3,
        )
    ]


def _gone(rng: random.Random) -> list[str]:
    keys = ["silence/a", "silence/b", f"handling/{PUMP}", f"handling/{FAN}", "policy/*"]
    return [rng.choice(keys)] if rng.random() < 0.25 else []


def check(seed: int, cuts: list[int], at: int) -> Counter[str]:
    """One story as the model tells it, as one chunk, cut anyhow, and from a checkpoint anywhere; gives the kinds told."""
    story = made(seed)
    model = Model(story.log)
    model.run(story.records)
    state = new_state()
    told = feed(state, story.records, cuts, story.log)
    assert by_sensor(lines(notifications(told))) == by_sensor(model.lines)
    assert told.withheld == model.withheld
    other = new_state()
    assert feed(other, story.records, (), story.log) == told
    assert whole(other) == whole(state)
    half = new_state()
    feed(half, story.records[: at % len(story.records)], (), story.log)
    mark = whole(half)
    copy, _ = restore(OPTIONS, [mark.head], {number: [block] for number, block in mark.blocks.items()})
    assert feed(copy, story.records, cuts, story.log) == feed(half, story.records, (), story.log)
    copy.dirty[:] = half.dirty[:] = True
    assert whole(copy) == whole(half) == whole(state)
    return Counter(each.kind for each in notifications(told)) + told.withheld


@pytest.mark.live
@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 150), max_size=8), st.integers(0, 150))
def test_any_story_is_told_as_the_model_says(seed: int, cuts: list[int], at: int) -> None:
    """However it is cut and wherever it is restored, and as if all were asked anew with each record."""
    check(seed, cuts, at)


def test_one_story_is_told_as_the_model_says() -> None:
    """The same, of one that has all of it, for who changes this and runs the fast tests alone."""
    assert check(4, [20, 50], 40).keys() >= {"change", "held", "escalation", "maintenance", "cooldown"}


@pytest.mark.live
def test_stories_show_everything_there_is() -> None:
    """The stories above are of use: every kind is told, and every reason keeps something back."""
    found: Counter[str] = Counter()
    for seed in range(60):
        found += check(seed, list(range(seed % 7, 160, 7)), seed)
    assert {"change", "held", "reminder", "escalation"} <= set(found)
    assert {"known", "silence", "maintenance", "cooldown"} <= set(found)


def made_site(seed: int) -> Story:
    """A device whose sensors speak, fall silent together or alone, and go in and out, with orders amid."""
    rng = random.Random(seed)  # noqa: S311  # made-up data
    site, clock = Site(), 0.0
    level = dict.fromkeys(site.names, CALM)
    mute: set[str] = set()
    for _ in range(rng.randrange(40, 140)):
        clock += rng.choice((0.0, 0.5, 1.0, 2.0, 5.0, 18.0, 25.0))
        draw = rng.random()
        if draw < 0.08:
            site.story.order(clock, *_site_orders(rng, site, clock), without=_gone(rng))
        elif draw < 0.2:
            site.story.tick(clock)
        else:
            if rng.random() < 0.15:
                mute = set(rng.sample(site.names, rng.choice((0, 0, 1, 2, 3))))
            name = rng.choice(site.names)
            level[name] = rng.choice((level[name], level[name], CALM, HIGH))
            rows = tuple(Reading(each, level[each], at_ms(clock)) for each in site.names if each not in mute)
            record = Record(at_ms(clock), rows, HERE[9]) if rows else Record(at_ms(clock), tick=True)
            site.story.records.append(record)
    return site.story


def _site_orders(rng: random.Random, site: Site, clock: float) -> list[Document]:
    wait = rng.choice((0.0, 10.0, 30.0))
    policy = PolicyEntry("*", cooldown_seconds=wait, remind_seconds=30.0, escalate_seconds=40.0)
    name, device, sensor = (
        rng.choice("ab"),
        rng.choice((None, HERE[9])),
        rng.choice((None, None, *site.names)),
    )
    silence = SilenceEntry(
        name,
        device=device,
        sensor=sensor,
        all_sensors=not (device or sensor),
        begin=rng.choice((None, at_ms(clock + 10))),
        end=rng.choice((None, at_ms(clock + 60))),
    )
    return [rng.choice((policy, silence))]


@pytest.mark.live
@settings(deadline=None, max_examples=60)
@given(st.integers(0, 100_000), st.lists(st.integers(0, 150), max_size=8), st.integers(0, 150))
def test_any_story_of_a_device_is_the_same_in_every_cut(seed: int, cuts: list[int], at: int) -> None:
    """Silent devices meet silences, cooldowns and reminders; restored anywhere it goes on the same."""
    story = made_site(seed)
    one, other, half = new_state(), new_state(), new_state()
    told = feed(one, story.records, range(len(story.records)), story.log)
    assert told == feed(other, story.records, cuts, story.log)
    assert whole(one) == whole(other)
    feed(half, story.records[: at % len(story.records)], cuts, story.log)
    mark = whole(half)
    copy, _ = restore(OPTIONS, [mark.head], {number: [block] for number, block in mark.blocks.items()})
    assert feed(copy, story.records, cuts, story.log) == feed(half, story.records, (), story.log)
    copy.dirty[:] = True
    one.dirty[:] = True
    assert whole(copy) == whole(one)


@pytest.mark.live
@settings(deadline=None, max_examples=15)
@given(st.integers(0, 100_000))
def test_whatever_has_been_of_a_device_nothing_is_kept_back_in_the_end(seed: int) -> None:
    """Once all of it speaks for longer than a return has to last, and no silence is left: nothing is kept back for ever."""
    story, names = made_site(seed), HERE[10:13]
    end = (story.records[-1].timestamp - at_ms(0)) / 1_000
    story.order(end + 1, without=("silence/a", "silence/b", "policy/*"))
    for second in range(round(end) + 2, round(end) + 400, 2):
        rows = tuple(Reading(name, CALM, at_ms(second)) for name in names)
        story.records.append(Record(at_ms(second), rows, HERE[9]))
    state = new_state()
    feed(state, story.records, range(0, len(story.records), 9), story.log)
    assert not state.inhibition.told
    assert not state.attention.dump(range(len(state.sensors)))


@pytest.mark.live
@settings(deadline=None, max_examples=15)
@given(st.integers(0, 100_000), st.booleans(), st.integers(1, 150), st.integers(1, 150))
def test_a_block_from_beyond_the_rest_tells_nothing_again(
    seed: int, device: bool, at: int, later: int
) -> None:
    """A checkpoint whose block is newer than its head: orders that come again find the block knows of them."""
    story = made_site(seed) if device else made(seed)
    count = len(story.records)
    first, second = sorted((1 + at % (count - 1), 1 + later % (count - 1)))
    state = new_state()
    feed(state, story.records[:first], (), story.log)
    old = whole(state)
    feed(state, story.records[:second], (), story.log)
    state.dirty[:] = True
    blocks = [one.blocks[0] for one in (old, whole(state)) if one.blocks]
    if not old.blocks:
        return
    copy, _ = restore(OPTIONS, [old.head], {0: blocks})
    again, rest = feed(copy, story.records, (), story.log), feed(state, story.records, (), story.log)
    assert (again.notifications, again.events) == (rest.notifications, rest.events)
    assert again.withheld == rest.withheld
