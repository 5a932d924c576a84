"""What one seed means: the load, the processes, and the faults with their times. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Literal

from streamproc.core.routing import home
from tests.live.oracle import PARTITIONS

Profile = Literal["recovery", "busy"]
#: Over HTTP, straight to Kafka, or so with librdkafka's default partitioner in place of Kafka's own.
Way = Literal["http", "direct", "crc32"]

#: Before the first fault every stage has its partitions and the first checkpoints are written.
QUIET_S = 12.0
#: After a fault, so long without another one of a process, that its recovery can be measured: what is promised is 10 s.
MEASURED_S = 13.0

#: Faults of processes and of the broker, how often each is drawn, and between how many seconds each lasts. A session is
#: 6 s: what stands still for longer is thrown out, and comes back as a stale owner.
PROCESS_FAULTS: dict[str, tuple[int, float, float]] = {
    "kill-worker": (4, 0, 0),
    "kill-worker-twice": (2, 1, 3),
    "kill-sink": (2, 0, 0),
    "kill-gateway": (2, 0, 0),
    "kill-all": (2, 0, 0),
    "stop-worker": (2, 0, 0),
    "stop-sink": (1, 0, 0),
    "pause-worker": (3, 11, 18),
    "pause-sink": (2, 11, 18),
    "join-worker": (2, 6, 14),
    "broker-kill": (3, 0, 0),
    "broker-away": (1, 20, 60),
    "broker-pause": (2, 3, 25),
    "bad-checkpoint": (2, 0, 0),
}
#: Faults of the database; they overlap with those of processes.
DATABASE_FAULTS: dict[str, tuple[int, float, float]] = {
    "database-locked": (3, 3, 20),
    "database-full": (2, 3, 20),
    "database-read-only": (2, 3, 15),
    "database-moved": (1, 2, 10),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault, `at_s` after the load began; `target` picks a process, a partition or a variant, modulo how many there are."""

    at_s: float
    kind: str
    target: int
    lasts_s: float


@dataclass(frozen=True, slots=True)
class Device:
    """A device, its sensors, how its packets come, and how many seconds lie between two of them."""

    name: str
    sensors: tuple[str, ...]
    way: Way
    every_s: float

    @property
    def home(self) -> int:
        """The partition that its records belong to."""
        return home(self.name, PARTITIONS)


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a seed decides. `silence` is a partition and the seconds between which no device of it sends.

    After its last fault, the load goes on for `room_s` at least.
    """

    seed: int
    seconds: float
    profile: Profile
    devices: tuple[Device, ...]
    workers: int
    sinks: int
    static: bool
    checkpoint_s: float
    snapshot_s: float
    silence: tuple[int, float, float]
    room_s: float
    faults: tuple[Fault, ...]


def plan(seed: int, seconds: float, profile: Profile | None = None) -> Plan:
    """The plan of a seed for a load of so many seconds; the profile is the seed's, unless it is given."""
    chance = Random(f"plan {seed}")  # noqa: S311  # made faults, the same in each run
    profiles: tuple[Profile, Profile] = ("recovery", "busy")
    drawn = chance.choice(profiles)
    profile = profile or drawn
    begin = chance.uniform(0.2, 0.5) * seconds
    # Half of the seeds leave each fault the time to recover; in the others, some come while the one before is still felt.
    near, room_s = (0.0, MEASURED_S) if profile == "recovery" else (0.4, 3.0)
    faults = [
        *_faults(chance, PROCESS_FAULTS, seconds - room_s, MEASURED_S, near),
        *_faults(chance, DATABASE_FAULTS, seconds - room_s, 25.0, near),
    ]
    return Plan(
        seed=seed,
        seconds=seconds,
        profile=profile,
        devices=tuple(_devices(seed, profile)),
        workers=chance.choice((2, 2, 3)),
        sinks=chance.choice((1, 2)),
        static=chance.random() < 0.6,
        checkpoint_s=chance.choice((0.5, 1.0, 5.0)),
        snapshot_s=chance.choice((5, 20, 3_600)),
        silence=(chance.randrange(PARTITIONS), begin, begin + chance.uniform(5, 20)),
        room_s=room_s,
        faults=tuple(sorted(faults, key=lambda fault: fault.at_s)),
    )


def _devices(seed: int, profile: Profile) -> Iterator[Device]:
    """10,000 sensors that speak every few seconds, or 300 that speak five times a second."""
    chance = Random(f"devices {seed}")  # noqa: S311  # made data, the same in each run
    ways: tuple[Way, ...] = ("http", "direct", "crc32")
    devices, sensors, every_s = (500, 20, 4.0) if profile == "recovery" else (100, 3, 0.2)
    for number in range(devices):
        way = chance.choices(ways, (40, 50, 10))[0]
        names = tuple(f"s-{number}-{index}" for index in range(sensors))
        yield Device(f"device-{number}", names, way, every_s)


def _faults(
    chance: Random, kinds: dict[str, tuple[int, float, float]], end_s: float, gap_s: float, near: float
) -> Iterator[Fault]:
    """Faults one after the other until `end_s`, at least `gap_s` between them, but for a share of `near` less than that."""
    at = QUIET_S + chance.uniform(0, gap_s / 3)
    names = list(kinds)
    while True:
        kind = chance.choices(names, [kinds[name][0] for name in names])[0]
        _, least, most = kinds[kind]
        lasts = chance.uniform(least, most)
        target = chance.randrange(1 << 16)
        if at + lasts > end_s:
            return
        yield Fault(round(at, 2), kind, target, round(lasts, 2))
        at += lasts + (
            chance.uniform(1, gap_s) if chance.random() < near else chance.uniform(gap_s, gap_s + 4)
        )
