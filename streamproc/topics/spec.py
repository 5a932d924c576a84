"""topics.yaml as frozen values. All faults of the file are reported at once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml
from msgspec import Meta

from streamproc.errors import TopicsError, why

#: Kafka's own limit on a topic's name, and its alphabet.
NAME_LIMIT = 249
#: One broker opens files for each; a topic that needs more has outgrown this file.
PARTITIONS_LIMIT = 10_000
FOREVER_MS = -1

_UNIT_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_ROOT = Path(__file__).parents[2] / "topics.yaml"
_PACKAGED = Path(__file__).with_name("topics.yaml")

Name = Annotated[str, Meta(pattern=rf"^[A-Za-z0-9._-]{{1,{NAME_LIMIT}}}$")]

#: The fields that a topic of the file may have. The last but `configs` have rules of their own below.
_FIELDS: dict[str, Any] = {
    "name": Name,
    "description": Annotated[str, Meta(min_length=1)],
    "key": Annotated[str, Meta(min_length=1)] | None,
    "partitions": Annotated[int, Meta(ge=1, le=PARTITIONS_LIMIT)],
    "co_partitioned_with": Name,
    "cleanup": Literal["delete", "compact"],
    "retention": Annotated[str, Meta(pattern=r"^([1-9][0-9]{0,8}[smhd]|forever)$")],
    "configs": dict[str, str | int | float | bool],
}
_REQUIRED = ("name", "description", "key", "cleanup")
#: Configs that have a field of their own.
_TOLD_BY_FIELD = {"cleanup.policy": "cleanup", "retention.ms": "retention"}


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic as declared; `configs` are by Kafka's names, those of cleanup and retention among them."""

    name: str
    description: str
    key: str | None
    partitions: int
    configs: Mapping[str, str] = field(default_factory=dict)
    co_partitioned_with: str | None = None

    @property
    def has_order(self) -> bool:
        """Whether another partition count would put records where their like are not."""
        return self.key is not None or self.co_partitioned_with is not None


class _Loader(yaml.SafeLoader):
    """YAML as it is, but for a name given twice: by itself YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping; raises ConstructorError, a YAMLError."""
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"`{key.value}` stands twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def load(path: Path | None = None) -> list[TopicSpec]:
    """The topics of a file, by default the topics.yaml that came along, in its order; raises TopicsError."""
    path = path or (_PACKAGED if _PACKAGED.exists() else _ROOT)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506  # a SafeLoader
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TopicsError(f"{path}: {why(error)}") from error
    specs, faults = parse(content)
    if faults:
        raise TopicsError("\n".join(f"{path}: {fault}" for fault in faults))
    return specs


def prefixed(specs: list[TopicSpec], prefix: str) -> list[TopicSpec]:
    """The same topics with `prefix` before their names."""
    return [
        replace(
            spec,
            name=prefix + spec.name,
            co_partitioned_with=spec.co_partitioned_with and prefix + spec.co_partitioned_with,
        )
        for spec in specs
    ]


def parse(content: object) -> tuple[list[TopicSpec], list[str]]:
    """The topics of a file's content, and all of its faults; with a fault the topics are not to be used."""
    if not isinstance(content, dict) or not isinstance(content.get("topics"), list):
        return [], ["Expected a mapping with `topics`, a list"]
    faults = [f"unknown field `{name}`" for name in content if name != "topics"]
    entries: list[dict[str, Any]] = []
    for index, raw in enumerate(content["topics"]):
        entry, found = _entry(raw)
        name = entry.get("name", f"topics[{index}]")
        faults += [f"{name}: {fault}" for fault in found]
        entries.append(entry)
    faults += _between(entries)
    return ([] if faults else _specs(entries)), faults


def _entry(raw: object) -> tuple[dict[str, Any], list[str]]:
    """One topic's fields that are right, and what is wrong with the others."""
    if not isinstance(raw, dict):
        return {}, ["Expected a mapping"]
    entry: dict[str, Any] = {}
    faults = [f"required field `{name}` is missing" for name in _REQUIRED if name not in raw]
    for name, value in raw.items():
        if name not in _FIELDS:
            faults.append(f"unknown field `{name}`")
            continue
        try:
            entry[name] = msgspec.convert(value, _FIELDS[name])
        except msgspec.ValidationError as error:
            faults.append(f"{name}: {error}")
    return entry, faults + list(_within(raw))


def _within(raw: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the fields of a topic together."""
    if ("partitions" in raw) == ("co_partitioned_with" in raw):
        yield "Expected either `partitions` or `co_partitioned_with`"
    if raw.get("cleanup") == "delete" and "retention" not in raw:
        yield "required field `retention` is missing (`forever` keeps everything)"
    if raw.get("cleanup") == "compact" and "retention" in raw:
        yield "`retention` means nothing to a compacted topic"
    configs = raw.get("configs")
    for name in configs if isinstance(configs, dict) else ():
        if name in _TOLD_BY_FIELD:
            yield f"`{name}` is told by the field `{_TOLD_BY_FIELD[name]}`"


def _between(entries: list[dict[str, Any]]) -> Iterator[str]:
    """What is wrong with the topics together."""
    counts = Counter(entry["name"] for entry in entries if "name" in entry)
    yield from (f"{name}: declared {count} times" for name, count in counts.items() if count > 1)
    leaders = {entry.get("name") for entry in entries if "partitions" in entry}
    for entry in entries:
        leader = entry.get("co_partitioned_with")
        if leader is not None and leader not in leaders:
            yield f"{entry.get('name')}: `{leader}` is no topic with `partitions` of its own"


def _specs(entries: list[dict[str, Any]]) -> list[TopicSpec]:
    partitions = {entry["name"]: entry["partitions"] for entry in entries if "partitions" in entry}
    return [
        TopicSpec(
            name=entry["name"],
            description=entry["description"],
            key=entry["key"],
            partitions=partitions[entry.get("co_partitioned_with", entry["name"])],
            configs=_configs(entry),
            co_partitioned_with=entry.get("co_partitioned_with"),
        )
        for entry in entries
    ]


def _configs(entry: Mapping[str, Any]) -> dict[str, str]:
    configs = {"cleanup.policy": entry["cleanup"]}
    if "retention" in entry:
        configs["retention.ms"] = str(to_ms(entry["retention"]))
    for name, value in entry.get("configs", {}).items():
        configs[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return configs


def to_ms(retention: str) -> int:
    """Milliseconds of a retention such as `7d`; `forever` is Kafka's -1.

    >>> to_ms("90s"), to_ms("7d"), to_ms("forever")
    (90000, 604800000, -1)
    """
    if retention == "forever":
        return FOREVER_MS
    count, unit = re.fullmatch(r"(\d+)([smhd])", retention, re.ASCII).groups()  # type: ignore[union-attr]  # as checked
    return int(count) * _UNIT_MS[unit]
