"""What Docker's own tools say of the files, without a Docker."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docker.files import DOCKER, ROOT, own_services, services

GIVEN = {
    "ACCEPT_EULA": "Y",
    "MSSQL_SA_PASSWORD": "Given-1-of-them",
    "DB_PASSWORD": "Given-2-of-them",
    "DB_GATEWAY_PASSWORD": "Given-3-of-them",
    "DB_JOBS_PASSWORD": "Given-4-of-them",
}


def _run(tool: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a tool of the lint group, in docker/, with these variables and none of this machine's `.env`."""
    path = Path(sys.prefix) / "bin" / tool
    if not path.exists() and (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip(f"{tool}: there may be none for this platform; it is not in this environment")
    assert path.exists(), f"{tool} is not in {sys.prefix}: run make setup"
    clean = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    return subprocess.run(
        [path, *arguments],
        cwd=DOCKER,
        env=clean | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _compose(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return _run("docker-compose", "--env-file", ".env.example", *arguments, **variables)


def test_hadolint_finds_nothing() -> None:
    """No warning of the Dockerfile's linter, nor of ShellCheck, which it asks about each RUN."""
    result = _run("hadolint", "--no-color", "--failure-threshold", "style", "Dockerfile")
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    """A package without a version is told: the linter is on."""
    wrong = tmp_path / "Dockerfile"
    wrong.write_text(
        "FROM debian:12.8\nRUN apt-get update && apt-get install -y --no-install-recommends curl\n"
    )
    result = _run("hadolint", "--no-color", str(wrong))
    assert result.returncode == 1
    assert "DL3008" in result.stdout


@pytest.mark.parametrize("profile", ["", "metrics"])
def test_docker_compose_takes_the_file(profile: str) -> None:
    """Compose itself checks it against its schema, puts the variables in, and has the services that the tests read."""
    options = ["--profile", profile] if profile else []
    result = _compose(*options, "config", "--format", "json", **GIVEN)
    assert (result.returncode, result.stderr) == (0, "")
    found = json.loads(result.stdout)["services"]
    assert set(found) == {
        name for name, one in services().items() if profile in one.get("profiles", [profile])
    }
    for name in own_services():
        assert found[name]["build"]["context"] == str(ROOT)
        assert set(found[name]["environment"]) == set(services()[name]["environment"])


@pytest.mark.parametrize("missing", GIVEN)
def test_compose_starts_nothing_without_a_password(missing: str) -> None:
    """The example alone is refused, and the message names what to set."""
    result = _compose(
        "config", "--quiet", **{name: value for name, value in GIVEN.items() if name != missing}
    )
    assert result.returncode != 0
    assert f"required variable {missing} is missing a value" in result.stderr
