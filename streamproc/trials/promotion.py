"""Makes a trial live: edits of the registry, all or none. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from streamproc.core.policies import USUAL
from streamproc.core.trial import applies, tried, tried_policy
from streamproc.errors import RegistryError
from streamproc.records import ANY_KIND
from streamproc.records.alerting import LEARNERS_PREFIX, LearnersEntry, PolicyEntry, TrialEntry
from streamproc.store.documents import PutDocument, RemoveDocument
from streamproc.store.edits import Edit, PutSensor, Registered, sensors


def edits_of(trial: TrialEntry, found: Registered) -> list[Edit]:
    """The edits that give a trial's sensors its rules and ranges and their kind its numbers and its policy, and end it.

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
    if trial.policy:
        edits += _policies(trial, found)
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


def _policies(trial: TrialEntry, found: Registered) -> list[PutDocument]:
    """The edits that give the policies of the trial's sensors what it has tried: that of its kind, or those of all kinds."""
    if trial.sensor is not None:
        raise RegistryError(
            f"trial {trial.trial} tries windows and flapping at the sensor {trial.sensor} alone, but policies are by kind of"
            " sensor: put the same on trial for a kind, and promote that"
        )
    known = {entry.kind: entry for entry in found.values() if isinstance(entry, PolicyEntry)}
    if trial.kind not in known:
        known[trial.kind] = replace(known.get(ANY_KIND, USUAL), kind=trial.kind, version=0)
    kinds = sorted(known) if trial.kind == ANY_KIND else [trial.kind]
    wanted = ((known[kind], tried_policy(trial, known[kind])) for kind in kinds)
    return [
        PutDocument(replace(policy, version=max(policy.version, 1)), was.version)
        for was, policy in wanted
        if policy != was or not was.version
    ]
