"""Finds what can be removed from the registry: ended silences, and the handling of alarms that are over.

They would otherwise stay for ever, on the topic and in each worker's memory. The audit keeps what they were.
"""

from __future__ import annotations

from collections.abc import Mapping

from streamproc.records.alerting import HandlingEntry, SilenceEntry
from streamproc.store.documents import RemoveDocument
from streamproc.store.edits import Entry
from streamproc.store.protocol import Store

#: People still look up why they were not told last month; a replay of the 7 days that `readings` has needs them for less.
KEPT_MS = 30 * 86_400_000


async def past(store: Store, rows: Mapping[str, Entry | None], now: int) -> list[RemoveDocument]:
    """The edits that remove what was over KEPT_MS before `now`.

    The database is asked for standing alarms only where there is handling that is as old as that.
    """
    before = now - KEPT_MS
    edits, old = list[RemoveDocument](), list[HandlingEntry]()
    for entry in rows.values():
        if isinstance(entry, SilenceEntry) and entry.end is not None and entry.end < before:
            edits.append(RemoveDocument("silence", entry.silence, entry.version))
        elif isinstance(entry, HandlingEntry) and max(entry.at or 0, entry.snoozed_until or 0) < before:
            old.append(entry)
    if old:
        standing = {alarm.sensor for alarm in await store.alarms()}
        edits += [
            RemoveDocument("handling", entry.sensor, entry.version)
            for entry in old
            if entry.sensor not in standing
        ]
    return edits
