"""The wheel, as the image installs it, has all that streamproc reads at run time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docker.files import ROOT

pytestmark = pytest.mark.live  # most of it is other processes

#: Where the wheel's package is, its topics, and its migrations, read by its own code.
TOLD = """
import json, streamproc, streamproc.topics
from streamproc.store.migrations import scripts
print(json.dumps({
    "place": streamproc.__file__,
    "topics": [spec.name for spec in streamproc.topics.load()],
    "migrations": {kind: [one.checksum for one in scripts(kind)] for kind in %r},
}))
"""
KINDS = sorted(folder.name for folder in (ROOT / "sql").iterdir() if folder.is_dir())


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but the wheel, unpacked; nothing is asked of the network."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [
        "wheel",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
        "--wheel-dir",
        str(folder),
        str(ROOT),
    ]
    subprocess.run([*pip, *build], capture_output=True, timeout=300, check=True)
    (wheel,) = folder.glob("*.whl")
    place = folder / "installed"
    install = ["install", "--no-deps", "--no-index", "--no-compile", "--target", str(place), str(wheel)]
    subprocess.run([*pip, *install], capture_output=True, timeout=300, check=True)
    return place


def _told(place: Path, code: str, folder: Path) -> dict[str, object]:
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,  # not the project's, whose package would be found first
        env={"PYTHONPATH": str(place)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found: dict[str, object] = json.loads(result.stdout)
    return found


def test_the_wheel_has_topics_and_migrations(installed: Path, tmp_path: Path) -> None:
    """Those of the work tree, found inside the package."""
    wheels = _told(installed, TOLD % KINDS, tmp_path)
    ours = _told(ROOT, TOLD % KINDS, tmp_path)
    assert Path(str(wheels.pop("place"))).is_relative_to(installed)
    assert Path(str(ours.pop("place"))).is_relative_to(ROOT)
    assert wheels == ours


def test_the_wheel_has_the_command(installed: Path, tmp_path: Path) -> None:
    """The script that the image starts is there and answers."""
    result = subprocess.run(
        [installed / "bin" / "streamproc", "--help"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "gateway" in result.stdout
