"""topics.yaml and the plan made from it, without a broker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from streamproc.errors import TopicsError
from streamproc.topics import Plan, TopicSpec, TopicState, compare, load, prefixed

names = st.text("abc.-_", min_size=1, max_size=4)
values = st.sampled_from(["1", "2", "delete", "compact"])
configs = st.dictionaries(st.sampled_from(["cleanup.policy", "retention.ms", "segment.ms"]), values)
specs_of_a_file = st.lists(
    st.builds(TopicSpec, names, st.just("d"), st.sampled_from([None, "k"]), st.integers(1, 5), configs),
    unique_by=lambda spec: spec.name,
    max_size=5,
)
states = st.dictionaries(names, st.builds(TopicState, st.integers(1, 5), configs), max_size=5)


def done(plan: Plan, state: dict[str, TopicState]) -> dict[str, TopicState]:
    """What a broker has after it has done exactly what the plan says."""
    after = dict(state)
    for spec in plan.create:
        after[spec.name] = TopicState(spec.partitions, spec.configs)
    for growth in plan.grow:
        assert after[growth.name].partitions == growth.before < growth.after
        after[growth.name] = TopicState(growth.after, after[growth.name].configs)
    for alteration in plan.alter:
        was = after[alteration.name]
        new = {name: value for name, (_, value) in alteration.configs.items()}
        after[alteration.name] = TopicState(was.partitions, {**was.configs, **new})
    return after


def test_one_partition_is_no_partitions() -> None:
    """A plan's lines are for people."""
    spec = TopicSpec("a", "d", None, 1, {"cleanup.policy": "compact"})
    assert compare([spec], {}).changes == ["create a: 1 partition, cleanup.policy=compact"]


@given(specs_of_a_file, states, st.booleans())
def test_a_plan_that_was_done_leaves_nothing_to_do(
    specs: list[TopicSpec], state: dict[str, TopicState], allow: bool
) -> None:
    """The second plan is empty but for what was refused, which is refused again."""
    plan = compare(specs, state, allow_partition_growth=allow)
    after = done(plan, state)
    again = compare(specs, after, allow_partition_growth=allow)
    assert (again.changes, again.refused) == ([], plan.refused)
    assert not plan.differs_from(after)
    assert plan.differs_from(state) == bool(plan.changes)


@given(specs_of_a_file, states, st.booleans())
def test_a_plan_touches_only_what_is_declared(
    specs: list[TopicSpec], state: dict[str, TopicState], allow: bool
) -> None:
    """Other topics and configs come out as they went in, no partition is taken away, the rest is refused."""
    plan = compare(specs, state, allow_partition_growth=allow)
    after = done(plan, state)
    declared = {spec.name: spec for spec in specs}
    differ = {name for name, spec in declared.items() if after[name].partitions != spec.partitions}
    assert {line.split(":")[0] for line in plan.refused} == differ
    assert set(after) == set(state) | set(declared)
    for name, was in state.items():
        assert after[name].partitions >= was.partitions
        if name not in declared:
            assert after[name] == was
            continue
        for config in set(after[name].configs) - set(declared[name].configs):
            assert after[name].configs[config] == was.configs[config]
        if declared[name].key and not allow:
            assert after[name].partitions == was.partitions


def test_the_file_that_comes_along() -> None:
    """topics.yaml has every topic of the design, and the engine's have as many partitions as readings."""
    specs = {spec.name: spec for spec in load()}
    assert set(specs) == {
        "readings",
        "windows",
        "predictions",
        "events",
        "notifications",
        "trial-events",
        "late",
        "dead-letter",
        "registry",
        "checkpoints",
        "snapshots",
    }
    assert (
        specs["readings"].partitions == specs["checkpoints"].partitions == specs["snapshots"].partitions == 4
    )
    assert specs["readings"].configs["retention.ms"] == "604800000"
    assert int(specs["snapshots"].configs["retention.ms"]) > int(specs["readings"].configs["retention.ms"])
    assert specs["registry"].partitions == 1
    assert specs["registry"].configs["cleanup.policy"] == "compact"
    assert specs["checkpoints"].configs["cleanup.policy"] == "compact"


def test_a_prefix_goes_before_names_and_partners() -> None:
    """Prefixed topics are co-partitioned with prefixed topics."""
    specs = prefixed(load(), "a-")
    assert all(spec.name.startswith("a-") for spec in specs)
    assert {spec.co_partitioned_with for spec in specs} == {None, "a-readings"}
    assert prefixed(specs, "") == specs


GOOD: dict[str, Any] = {
    "name": "one",
    "description": "d",
    "key": None,
    "partitions": 1,
    "cleanup": "delete",
    "retention": "7d",
}


def written(path: Path, *entries: dict[str, Any]) -> Path:
    """A file with these topics."""
    path.write_text(yaml.safe_dump({"topics": list(entries)}))
    return path


def without(name: str) -> dict[str, Any]:
    """A good topic but for one field."""
    return {field: value for field, value in GOOD.items() if field != name}


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ({**GOOD, "colour": "red"}, "unknown field `colour`"),
        (without("description"), "required field `description` is missing"),
        (without("key"), "required field `key` is missing"),
        (without("partitions"), "either `partitions` or `co_partitioned_with`"),
        (without("retention"), "required field `retention` is missing"),
        ({**GOOD, "partitions": 0}, "partitions: Expected `int` >= 1"),
        ({**GOOD, "partitions": True}, "partitions: Expected `int`"),
        ({**GOOD, "name": "a b"}, "name: Expected"),
        ({**GOOD, "retention": "7 weeks"}, "retention: Expected"),
        ({**GOOD, "cleanup": "compact"}, "means nothing to a compacted topic"),
        ({**GOOD, "cleanup": "both"}, "cleanup: Invalid enum value"),
        ({**GOOD, "configs": {"retention.ms": 1}}, "`retention.ms` is told by the field `retention`"),
        ({**GOOD, "configs": {"segment.ms": [1]}}, "configs: Expected"),
        ({**GOOD, "co_partitioned_with": "one"}, "either `partitions` or `co_partitioned_with`"),
        ({**without("partitions"), "co_partitioned_with": "two"}, "`two` is no topic with `partitions`"),
        ({**without("partitions"), "co_partitioned_with": "one"}, "`one` is no topic with `partitions`"),
    ],
)
def test_a_fault_is_told(tmp_path: Path, entry: dict[str, Any], fault: str) -> None:
    """Each thing that can be wrong with a topic is an error that names topic and field."""
    with pytest.raises(TopicsError) as told:
        load(written(tmp_path / "topics.yaml", entry))
    assert fault in str(told.value)
    assert "topics.yaml: " in str(told.value)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    """Nobody mends a file one error at a time."""
    bad = {**GOOD, "partitions": "x", "colour": "red", "cleanup": "z"}
    with pytest.raises(TopicsError) as told:
        load(written(tmp_path / "topics.yaml", bad, GOOD, {**GOOD, "name": ""}))
    lines = str(told.value).splitlines()
    assert len(lines) == 5
    assert any("one: declared 2 times" in line for line in lines)


@pytest.mark.parametrize(
    "text", ["", "[]", "topics: {}", "topics: [3]", "a: [", "topics: []\nmore: 1", "? [a]\n: 1", "\xff"]
)
def test_a_file_of_another_form_is_told(tmp_path: Path, text: str) -> None:
    """What is no list of topics, or no YAML, is an error with the file's name."""
    path = tmp_path / "topics.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(TopicsError, match=r"topics\.yaml"):
        load(path)


def test_a_field_given_twice_is_told(tmp_path: Path) -> None:
    """YAML by itself would take the last of the two without a word."""
    path = tmp_path / "topics.yaml"
    path.write_text("topics:\n  - name: one\n    partitions: 1\n    partitions: 2\n")
    with pytest.raises(TopicsError, match="`partitions` stands twice"):
        load(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """A wrong path is a TopicsError too."""
    with pytest.raises(TopicsError, match="nowhere"):
        load(tmp_path / "nowhere")


def test_values_are_as_kafka_writes_them(tmp_path: Path) -> None:
    """Booleans and numbers of the file become Kafka's strings; `forever` is -1."""
    entry = {**GOOD, "retention": "forever", "configs": {"preallocate": True, "segment.ms": 5, "x": 0.1}}
    (spec,) = load(written(tmp_path / "topics.yaml", entry))
    assert spec.configs == {
        "cleanup.policy": "delete",
        "retention.ms": "-1",
        "preallocate": "true",
        "segment.ms": "5",
        "x": "0.1",
    }
