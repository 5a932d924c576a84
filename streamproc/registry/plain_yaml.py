"""Reads YAML as people mean it: names are what is written, and nothing is lost without a word.

YAML 1.1 reads 10:22:33:44:55:01 as 8068409701, 007 as 7, 1_000 as 1000 and 22:00 as 1320; and of two lists with the same name
it silently takes the second.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

import yaml

_INT, _FLOAT, _TIME = (f"tag:yaml.org,2002:{name}" for name in ("int", "float", "timestamp"))
_TEXT = "tag:yaml.org,2002:str"
#: What a bare word may be taken for; nothing (`null`, `~`) stays nothing.
_GUESSED = {_INT, _FLOAT, "tag:yaml.org,2002:bool"}


class _Loader(yaml.SafeLoader):
    """Knows numbers as JSON has them, no times, and what YAML 1.1 has besides."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # as yaml has it
        first: [(tag, form) for tag, form in forms if tag not in {_INT, _FLOAT, _TIME}]
        for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(_INT, re.compile(r"^(?:0|-?[1-9][0-9]*)$"), list("-0123456789"))
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(
        r"^(?:[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


def load(text: str, as_written: Collection[str]) -> Any:
    """The parsed text; values under the keys `as_written` stay text, whatever they look like.

    Raises yaml.YAMLError, also where a key is there twice.

    >>> load("{sensor: 007, device: 10:22:33:44:55:01, site: no, name: ~, sensor_id: 7}", {"sensor", "site"})
    {'sensor': '007', 'device': '10:22:33:44:55:01', 'site': 'no', 'name': None, 'sensor_id': 7}
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        for mapping in _mappings(node):
            _see_to(mapping, as_written)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def dump(value: object) -> str:
    r"""The value as text that `load` reads.

    >>> load(dump({"name": "a\x85b"}), ())
    {'name': 'a\x85b'}
    """
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Escapes the end of a line that yaml's own writes as one, and reads as a space."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar(_TEXT, text, style='"' if "\x85" in text else None)


_Dumper.add_representer(str, _text)


def _mappings(node: yaml.Node) -> Iterator[yaml.MappingNode]:
    """All that there are, each once, though an alias may have it in many places."""
    seen, left = set[int](), [node]
    while left:
        one = left.pop()
        if id(one) in seen or not isinstance(one, yaml.CollectionNode):
            continue
        seen.add(id(one))
        if isinstance(one, yaml.MappingNode):
            yield one
            left += [value for _, value in one.value]
        else:
            left += one.value


def _see_to(mapping: yaml.MappingNode, as_written: Collection[str]) -> None:
    seen = set[str]()
    for key, value in mapping.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        if key.value in seen:
            raise yaml.MarkedYAMLError(problem=f"{key.value!r} is there twice", problem_mark=key.start_mark)
        seen.add(key.value)
        if key.value in as_written and isinstance(value, yaml.ScalarNode) and value.tag in _GUESSED:
            value.tag = _TEXT
