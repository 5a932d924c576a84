"""Plans what must change on the broker so that it has the declared topics. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from streamproc.core.counted import counted
from streamproc.topics.spec import TopicSpec


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as the broker has it; `configs` are all in effect, defaults included."""

    partitions: int
    configs: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Growth:
    """Partitions to add: from `before` to `after`."""

    name: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Alteration:
    """Configs to set: name to what they are before (None: unknown to the broker) and after."""

    name: str
    configs: Mapping[str, tuple[str | None, str]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What `apply` will do, in this order, and what it refuses to do; `specs` are what it was made from."""

    specs: tuple[TopicSpec, ...]
    create: tuple[TopicSpec, ...] = ()
    grow: tuple[Growth, ...] = ()
    alter: tuple[Alteration, ...] = ()
    refused: tuple[str, ...] = ()
    allow_partition_growth: bool = False

    def differs_from(self, state: Mapping[str, TopicState]) -> bool:
        """Whether there is still something to do; what is refused is not to be done."""
        again = compare(self.specs, state, allow_partition_growth=self.allow_partition_growth)
        return bool(again.create or again.grow or again.alter)

    @property
    def changes(self) -> list[str]:
        """What `apply` will do, a line each."""
        return list(self._changes())

    def _changes(self) -> Iterator[str]:
        for spec in self.create:
            configs = ", ".join(f"{name}={value}" for name, value in spec.configs.items())
            yield f"create {spec.name}: {counted(spec.partitions, 'partition')}, {configs}"
        for growth in self.grow:
            yield f"grow {growth.name}: {growth.before} → {growth.after} partitions"
        for alteration in self.alter:
            for name, (before, after) in alteration.configs.items():
                yield f"alter {alteration.name}: {name} {before} → {after}"


def compare(
    specs: Sequence[TopicSpec], state: Mapping[str, TopicState], *, allow_partition_growth: bool = False
) -> Plan:
    """The plan that turns `state`, by topic name, into `specs`. Topics that no spec names are left alone."""
    present = [(spec, state[spec.name]) for spec in specs if spec.name in state]
    grow, refused = _growth(present, allow_partition_growth)
    return Plan(
        specs=tuple(specs),
        create=tuple(spec for spec in specs if spec.name not in state),
        grow=tuple(grow),
        alter=tuple(_alterations(present)),
        refused=tuple(refused),
        allow_partition_growth=allow_partition_growth,
    )


def _growth(
    present: list[tuple[TopicSpec, TopicState]], allow_partition_growth: bool
) -> tuple[list[Growth], list[str]]:
    grow, refused = [], []
    for spec, now in present:
        change = f"{spec.name}: {now.partitions} → {spec.partitions} partitions"
        if spec.partitions < now.partitions:
            refused.append(f"{change}: Kafka cannot take partitions away")
        elif spec.partitions > now.partitions:
            if spec.has_order and not allow_partition_growth:
                refused.append(f"{change}: keys would move to other partitions (--allow-partition-growth)")
            else:
                grow.append(Growth(spec.name, now.partitions, spec.partitions))
    return grow, refused


def _alterations(present: list[tuple[TopicSpec, TopicState]]) -> Iterator[Alteration]:
    for spec, now in present:
        configs = {
            name: (now.configs.get(name), value)
            for name, value in spec.configs.items()
            if now.configs.get(name) != value
        }
        if configs:
            yield Alteration(spec.name, configs)
