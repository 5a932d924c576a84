"""The events of a step's changes, and the notifications that come of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from streamproc.core.attention.bank import Back, Step, Told
from streamproc.core.attention.moments import Moments
from streamproc.core.changes import Change
from streamproc.core.sensors import BLOCK
from streamproc.core.silent_devices import Hidden

if TYPE_CHECKING:
    from streamproc.core.engine import Outputs, PartitionState


def tell(state: PartitionState, changes: Sequence[Change], moments: Moments, out: Outputs) -> None:
    """The events of a step, and what people are told: of them, and of what has come due."""
    pairs = [
        (change, *state.teller.tell(change, *state.who(change.slot), state.actions)) for change in changes
    ]
    hidden = [
        Hidden(change, event.sensor, event.event_id)
        for change, event, _ in pairs
        if change.inhibited and change.device
    ]
    notices = state.inhibition.notices(hidden, moments.last)
    notes = [state.teller.tell_device(notice) for notice in notices]
    silent = {note.event_id: note for note in notes if note.severity}
    told = [Told(*pair, silent.get(pair[1].event_id)) for pair in pairs]
    backs = [
        Back(*notice.before, notice.at, None if note.severity else note)
        for notice, note in zip(notices, notes, strict=True)
        if notice.before
    ]
    voice = partial(state.teller.recall, actions=state.actions)
    step = Step(moments, state.who, voice)
    ahead = state.sensors.ahead(moments.next_offset, len(state.sensors))
    attention = state.attention.attend(told, backs, step, ahead)
    out.events = [each.event for each in told]
    out.notifications, out.withheld = attention.notifications, attention.withheld
    moved = [*attention.slots, *state.inhibition.taken()]
    state.dirty[np.array(moved, dtype=np.int64) // BLOCK] = True
