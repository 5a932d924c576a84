"""One trial in one partition: other rules, ranges or numbers, judged on the same windows and readings as the live ones.

A sensor's trial begins with the live judgement's state: what was learnt, what is held, what is counted. So a trial that
changes nothing gives the same results, and every difference is due to the trial. Sensors outside of it cost nothing: a trial
has slots of its own, one for each of its sensors.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import msgspec
import numpy as np

from streamproc.core.changes import Change
from streamproc.core.classify import Observed
from streamproc.core.inhibition import Inhibition
from streamproc.core.learners import DUMPED, Scores
from streamproc.core.numbers import FORMULA, tuned
from streamproc.core.router import ReadingRouter
from streamproc.core.rules.lasts import LARGER_MS, WIDTH, Closed
from streamproc.core.rules.rests import Rests
from streamproc.core.rules.silence import AHEAD, Listened, Turn
from streamproc.core.sensor_state import SensorState
from streamproc.core.slot_severity import SlotSeverity
from streamproc.core.trial_silence import TrialSilence, waiting_of
from streamproc.core.watermarks import Runs, Watermarks
from streamproc.core.windows import NEVER, Bools, Ints
from streamproc.records import ANY_KIND, NoData, SensorEntry
from streamproc.records.alerting import PolicyEntry, TrialEntry

#: Bytes of a sensor's last windows.
_LASTS = 8 * len(LARGER_MS) * WIDTH


class Kept(msgspec.Struct, array_like=True):
    """What is remembered of some sensors in a judgement; `slot` of the severities is the index among them.

    What the learners know is left out where those are the live ones, and `waiting` where the live rules
    find silences.
    """

    learnt: bytes
    severities: list[SlotSeverity]
    rests: list[bytes]
    lasts: bytes
    #: When those whose silence their devices' stands for are told, as in `Inhibition`.
    waiting: dict[int, int] = {}

    def check(self, many: int) -> None:
        """Raise ValueError where it is not of so many sensors."""
        sizes = [(self.learnt, 8 * DUMPED), (self.lasts, _LASTS), *((column, 8) for column in self.rests)]
        if any(len(data) not in {0, many * size} for data, size in sizes):
            raise ValueError(f"a trial's state is not of {many} sensors")
        if self.rests and len(self.rests) != len(Rests.COLUMNS):
            raise ValueError(f"a trial's rests have {len(self.rests)} columns")
        if any(not 0 <= state.slot < many for state in self.severities):
            raise ValueError(f"a trial's severities are beyond its {many} sensors")
        if any(not 0 <= place < many for place in self.waiting):
            raise ValueError(f"sensors that wait in a trial are beyond its {many} sensors")


def keep(router: ReadingRouter, at: Ints, *, learnt: bool) -> Kept:
    """What a judgement remembers of the sensors in these places (n,); what it goes on changing is not shared."""
    rules, places = router.window_rules, at.tolist()
    rests = [getattr(rules.rests, name)[at] for name in Rests.COLUMNS]
    lasts = np.full((len(at), len(LARGER_MS), WIDTH), np.nan)
    known = np.flatnonzero(at < len(rules.lasts.table))
    lasts[known] = rules.lasts.table[at[known]]
    severities = msgspec.msgpack.encode(router.severity.dump(places))
    return Kept(
        learnt=router.learners.dump(places).tobytes() if learnt else b"",
        severities=msgspec.msgpack.decode(severities, type=list[SlotSeverity]),
        rests=[column.tobytes() for column in rests] if (rests[0] != NEVER).any() else [],
        lasts=b"" if np.isnan(lasts).all() else lasts.tobytes(),
    )


def applies(trial: TrialEntry, sensor: str, entry: SensorEntry | None) -> bool:
    """Whether a sensor is one of a trial's.

    >>> applies(TrialEntry("a", kind="pump"), "s", SensorEntry("s", kind="Pump"))
    True
    """
    if trial.sensor is not None:
        return trial.sensor == sensor
    kind = entry.kind.lower() if entry and entry.kind else None
    return trial.kind in {ANY_KIND, kind}


def tried(trial: TrialEntry, sensor: str, entry: SensorEntry | None) -> SensorEntry:
    """The entry that the sensor would have, were the trial's rules and ranges its own; what promotion makes of it."""
    entry = entry or SensorEntry(sensor, version=0)
    sorts = {type(rule) for rule in trial.rules} if trial.instead else set()
    own = [rule for rule in entry.rules if type(rule) not in sorts]
    return msgspec.structs.replace(
        entry,
        rules=tuple(dict.fromkeys([*own, *trial.rules])),
        warning=trial.warning or entry.warning,
        critical=trial.critical or entry.critical,
    )


def tried_policy(trial: TrialEntry, policy: PolicyEntry) -> PolicyEntry:
    """The policy that sensors of this one would have, were what the trial has of it live.

    >>> tried_policy(TrialEntry("a", up_windows=3), PolicyEntry("*", down_windows=9)).down_windows
    9
    """
    return msgspec.structs.replace(policy, **trial.policy)


class Trial:
    """A trial's sensors and their judgement; `live` is the judgement that it stands beside, with what devices hide there."""

    def __init__(self, entry: TrialEntry, live: ReadingRouter, inhibition: Inhibition) -> None:
        self.entry = entry
        self._live, self._inhibition = live, inhibition
        #: Learners of its own, where they would learn or find something else; or those of the live ones are heard.
        self.learns = any(name in FORMULA for name in entry.learners)
        self._router = ReadingRouter(learns=self.learns)
        #: Its rules `no_data` by slot, where it has other ones than the live judgement.
        self._silence: TrialSilence | None = None
        if any(isinstance(rule, NoData) for rule in entry.rules):
            self._silence = TrialSilence(live.silence_rules, inhibition.devices, self._has)
        self._turns: list[Turn] = []
        #: Each slot's place here, -1 where it has none; and the slot of each place, -1 where its sensor has left.
        self._place = np.empty(0, dtype=np.int64)
        self._slots: list[int] = []

    def has(self, slot: int) -> bool:
        """Whether the sensor is in the trial."""
        return slot < len(self._place) and bool(self._place[slot] >= 0)

    def _has(self, slots: Ints) -> Bools:
        """Which of these sensors (n,) are in the trial."""
        place: Ints = self._place[slots]
        return place >= 0

    def members(self, first: int = 0, end: int | None = None) -> Ints:
        """The slots from `first` to `end` that are in the trial."""
        return first + np.flatnonzero(self._place[first:end] >= 0)

    def join(self, slots: Ints, kept: Kept | None = None) -> None:
        """Let these sensors begin where the live judgement stands, or with what was `kept` of them."""
        if kept is None:
            kept = keep(self._live, slots, learnt=self.learns)
            kept.waiting = waiting_of(self._inhibition, slots)
        first, count = len(self._slots), len(slots)
        end = first + count
        if end > len(self._router.severity):
            self._router.grow(end + end // 8)  # an eighth more, so that growth is rare
        self._cover()
        self._place[slots] = np.arange(first, end)
        self._slots += slots.tolist()
        self._take(first, kept, slots)

    def _take(self, first: int, kept: Kept, slots: Ints) -> None:
        """Take over what was kept of these sensors, in the places from `first` on."""
        router, end = self._router, first + len(slots)
        if self.learns and kept.learnt:
            router.learners.load(first, np.frombuffer(kept.learnt).reshape(len(slots), -1))
        router.severity.load(first, kept.severities)
        for name in SensorState.COLUMNS:  # it has seen the same readings
            getattr(router.classifier.states, name)[first:end] = getattr(self._live.classifier.states, name)[
                slots
            ]
        for name, column in zip(Rests.COLUMNS, kept.rests, strict=False):
            held = getattr(router.window_rules.rests, name)
            held[first:end] = np.frombuffer(column, dtype=held.dtype)
        if self._silence is not None:
            self._silence.wait(slots, kept.waiting)
        if kept.lasts:
            lasts = router.window_rules.lasts
            lasts.fit(end)
            lasts.table[first:end] = np.frombuffer(kept.lasts).reshape(-1, *lasts.table.shape[1:])

    def leave(self, slot: int) -> None:
        """Let a sensor go. Its place stays empty: sensors seldom change their kind amid a trial."""
        place = int(self._place[slot])
        self._place[slot] = self._slots[place] = -1
        if self._silence is not None:
            self._silence.leave(slot)

    def limit(
        self,
        slot: int,
        entry: SensorEntry,
        by: tuple[Mapping[str, float], PolicyEntry],
        *,
        lives_here: bool = True,
    ) -> None:
        """Judge a sensor of this entry by the trial's rules from now on; `by` are the live numbers and policy.

        What the trial has of these goes before them.
        """
        place, changed = int(self._place[slot]), tried(self.entry, entry.sensor, entry)
        given, policy = by
        self._router.limit(place, changed, tried_policy(self.entry, policy), lives_here=False)
        self._router.tune(place, tuned({**given, **self.entry.learners}))
        if self._silence is not None:
            self._cover()
            rules = [rule for rule in changed.rules if isinstance(rule, NoData)] if lives_here else ()
            self._silence.put(slot, rules)

    def kept(self, slots: Ints) -> Kept:
        """What is remembered of these sensors."""
        kept = keep(self._router, self._place[slots], learnt=self.learns)
        if self._silence is not None:
            kept.waiting = self._silence.waiting(slots)
        return kept

    def listen(
        self, heard: Listened, marks: Watermarks, ahead: Bools | None, turns: Sequence[Turn]
    ) -> list[int]:
        """Find the begins and ends of silences, or take the live ones; the slots of which something has changed.

        Of sensors that are `ahead` (sensors,) nothing is told.
        """
        self._turns = [turn for turn in turns if self.has(turn.slot)]
        if self._silence is None:
            return []
        self._cover()
        silent, told = self._heard()
        if ahead is not None:
            told[ahead] = AHEAD
        self._turns, changed = self._silence.turns(heard, marks, self._live.classifier.states, silent, told)
        return changed

    def next_at(self, marks: Watermarks) -> int | None:
        """When, by the partition's clock, a silence is one by a rule of the trial, or told, if nothing comes."""
        return None if self._silence is None else self._silence.next_at(marks, self._heard()[1])

    def _heard(self) -> tuple[Bools, Ints]:
        """Which sensors are silent, and up to when their silence was told, by slot."""
        slots = np.array(self._slots, dtype=np.int64)
        place = np.flatnonzero(slots >= 0)
        silent = np.zeros(len(self._place), dtype=np.bool_)
        told = np.full(len(self._place), NEVER)
        silent[slots[place]] = self._router.severity.silent[place]
        told[slots[place]] = self._router.severity.silence_at[place]
        return silent, told

    def judge(self, seen: Observed, scores: Scores, larger: Sequence[Closed]) -> Iterator[Change]:
        """Judge what the trial's sensors showed, and the silences of the last `listen`; `scores` are the live ones."""
        self._cover()
        slot, at = self._rows(seen.slot)
        window_slot, windows = self._rows(seen.window_slot)
        others = []
        for size_ms, its, closed in larger:
            place, chosen = self._rows(its)
            others.append((size_ms, place, closed.take(chosen)))
        if not (len(at) or len(windows) or self._turns or any(len(place) for _, place, _ in others)):
            return
        rows = seen.rows.take(windows)
        mine = Observed(
            Runs.of(slot), seen.ts[at], seen.value[at], seen.offset[at], seen.closed[at], window_slot, rows
        )
        if self.learns:
            told = self._router.learn(window_slot, rows)
        else:
            told = Scores(*(getattr(scores, name)[windows] for name in Scores.__slots__))
        turns = [self._moved(turn, seen.slot, slot) for turn in self._turns]
        for change in self._router.route(mine, told, others, turns).changes:
            yield replace(change, slot=self._slots[change.slot])

    def _rows(self, slots: Ints) -> tuple[Ints, Ints]:
        """Places in their order, and which rows (n,) of these sensors they are; a sensor's stay in theirs."""
        place = self._place[slots]
        rows = np.flatnonzero(place >= 0)
        place = place[rows]
        if (place[1:] < place[:-1]).any():
            order = np.argsort(place, kind="stable")
            rows, place = rows[order], place[order]
        return place, rows

    def _moved(self, turn: Turn, every: Ints, mine: Ints) -> Turn:
        """A turn among the trial's readings, of places `mine` (k,), where it stood among `every` (n,) slot's."""
        place = int(self._place[turn.slot])
        first, end = np.searchsorted(every, [turn.slot, turn.slot + 1]).tolist()
        own = min(max(turn.place[0] - first, 0), end - first)
        begin = int(np.searchsorted(mine, place))
        return Turn(place, (begin + own, *turn.place[1:]), turn.closed, turn.what)

    def _cover(self) -> None:
        """Know all slots that there are by now."""
        slots = len(self._live.severity)
        more = slots - len(self._place)
        if more > 0:
            self._place = np.append(self._place, np.full(more, -1, dtype=np.int64))
        if self._silence is not None:
            self._silence.cover(slots)


def wanted(
    trial: TrialEntry, names: Sequence[str | None], entries: Mapping[str, SensorEntry], known: Collection[int]
) -> list[int]:
    """Those of the `known` slots whose sensors, by their names and entries, are the trial's."""
    return [
        slot
        for slot in known
        if (name := names[slot]) is not None and applies(trial, name, entries.get(name))
    ]
