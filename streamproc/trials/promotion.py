"""What makes a trial live: edits of the registry, all or none. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from streamproc.core.trial import applies, tried
from streamproc.errors import RegistryError
from streamproc.records import ANY_KIND
from streamproc.records.alerting import LEARNERS_PREFIX, LearnersEntry, TrialEntry
from streamproc.store.documents import PutDocument, RemoveDocument
from streamproc.store.edits import Edit, PutSensor, Registered, sensors


def edits_of(trial: TrialEntry, found: Registered) -> list[Edit]:
    """The edits that give a trial's sensors its rules and ranges and their kind its numbers, and end it.

    `found` is all that the registry holds. Raises RegistryError where the trial cannot be made live as it was tried.
    """
    edits: list[Edit] = []
    if trial.rules or trial.warning or trial.critical:
        edits += [
            PutSensor(changed, entry.version)
            for entry in sensors(found)
            if applies(trial, entry.sensor, entry) and (changed := tried(trial, entry.sensor, entry)) != entry
        ]
    if trial.learners:
        edits.append(_numbers(trial, found))
    return [*edits, RemoveDocument("trial", trial.trial, trial.version)]


def _numbers(trial: TrialEntry, found: Registered) -> PutDocument:
    """The edit that gives the trial's numbers to the live learners of its kind, beside those that they have."""
    if trial.sensor is not None:
        raise RegistryError(
            f"trial {trial.trial} tries numbers at the sensor {trial.sensor} alone, but the live learners have theirs by kind"
            " of sensor: put the same numbers on trial for a kind, and promote that"
        )
    here, every = (found.get(LEARNERS_PREFIX + kind) for kind in (trial.kind, ANY_KIND))
    known = here if isinstance(here, LearnersEntry) else every
    given = known.learners if isinstance(known, LearnersEntry) else {}
    entry = LearnersEntry(trial.kind, {**given, **trial.learners}, trial.trial)
    version = here.version if isinstance(here, LearnersEntry) else 0
    return PutDocument(replace(entry, version=max(version, 1)), version)
