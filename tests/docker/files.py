"""The files of docker/, read as far as the tests need it."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"

_variable = re.compile(r"(?<!\$)\$\{(\w+)(?::([-?])([^}]*))?\}")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction of a Dockerfile: `RUN`, and what follows, in one line."""

    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """The arguments, of the exec form (JSON) or as a shell would part them, without `--options`."""
        if self.text.startswith("["):
            return [str(word) for word in json.loads(self.text)]
        return [word for word in shlex.split(self.text) if not word.startswith("--")]


def dockerfile() -> list[Instruction]:
    """The instructions of docker/Dockerfile, in order."""
    lines = (DOCKER / "Dockerfile").read_text("utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    found = []
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if line.strip():
            name, rest = line.split(maxsplit=1)
            found.append(Instruction(name, rest.strip()))
    return found


def only(name: str) -> Instruction:
    """The one instruction of this name; the test fails where there are more or none."""
    (found,) = (instruction for instruction in dockerfile() if instruction.name == name)
    return found


def image_variables() -> dict[str, str]:
    """What the ENV instructions of the Dockerfile set."""
    pairs = [word for one in dockerfile() if one.name == "ENV" for word in one.words]
    return dict(pair.split("=", 1) for pair in pairs)


@cache
def compose() -> dict[str, Any]:
    """docker/compose.yaml with its anchors resolved, its variables not; not to be changed."""
    document: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text("utf-8"))
    return document


def services() -> dict[str, dict[str, Any]]:
    """The services by name."""
    found: dict[str, dict[str, Any]] = compose()["services"]
    return found


def own_services() -> dict[str, dict[str, Any]]:
    """Those that run streamproc."""
    return {name: service for name, service in services().items() if "build" in service}


def variables() -> list[tuple[str, str, str]]:
    """The variables that the compose file takes from .env: name, `-` with a default or `?` where it is needed, the rest."""
    text = "\n".join(
        line
        for line in (DOCKER / "compose.yaml").read_text("utf-8").splitlines()
        if not line.lstrip().startswith("#")
    )
    return [(name, mark, rest) for name, mark, rest in _variable.findall(text)]


def filled(text: str) -> str:
    """`text` as compose would have it with nothing in .env but what must be: `given` for each of those."""
    return _variable.sub(lambda found: found[3] if found[2] == "-" else "given", text)


def example() -> dict[str, str]:
    """The variables of .env.example."""
    lines = (DOCKER / ".env.example").read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def project() -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
