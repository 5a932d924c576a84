"""Whatever the Dockerfile names is there: commands, ports, variables, files, extras, versions."""

from __future__ import annotations

import re
import tomllib

from streamproc import __version__
from streamproc.settings import Settings
from tests.docker.commands import fault
from tests.docker.files import ROOT, dockerfile, image_variables, only, project

#: What is no setting of streamproc: Python's and pip's own, and where programs are found.
FOREIGN = re.compile(r"PATH|(PIP|PYTHON)[A-Z_]+")


def _copied() -> list[str]:
    """What is copied out of the project's folder."""
    found = []
    for instruction in dockerfile():
        if instruction.name == "COPY" and "--from=" not in instruction.text:
            found += [word.rstrip("/") for word in instruction.words[:-1]]
    return found


def test_the_base_image_is_pinned() -> None:
    """Each FROM names an earlier stage or a Python and a Debian, both by version; the label tells the same."""
    stages: set[str] = set()
    bases = []
    for instruction in dockerfile():
        if instruction.name == "FROM":
            image, _, stage = instruction.words
            if image not in stages:
                bases.append(image)
            stages.add(stage)
    assert bases
    for image in bases:
        assert re.fullmatch(r"python:3\.\d+\.\d+-slim-bookworm", image)
        assert f"docker.io/library/{image}" in only("LABEL").text


def test_the_python_is_one_that_streamproc_runs_on() -> None:
    """Its version is not below that of pyproject.toml."""
    (image,) = {one.words[0] for one in dockerfile() if one.text.startswith("python:")}
    least = re.fullmatch(r">=3\.(\d+)", project()["project"]["requires-python"])
    minor = re.match(r"python:3\.(\d+)\.", image)
    assert least
    assert minor
    assert int(minor[1]) >= int(least[1])


def test_it_does_not_run_as_root() -> None:
    """The user is given by number, after the last step that needs root, and is the one that is made."""
    user, group = only("USER").text.split(":")
    assert int(user) > 0
    names = [instruction.name for instruction in dockerfile()]
    assert not {"RUN", "COPY", "ADD"} & set(names[names.index("USER") :])
    made = next(one.text for one in dockerfile() if "useradd" in one.text)
    assert f"--uid {user} --gid {group}" in made
    assert f"--owner {user} --group {group} {image_variables()['STREAMPROC_DATA_DIR']}" in made


def test_what_is_copied_is_there() -> None:
    """Each file and folder exists, and .dockerignore lets just these through."""
    assert [path for path in _copied() if not (ROOT / path).exists()] == []
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule.removeprefix("!/") for rule in rules if rule.startswith("!")} == set(_copied())


def test_what_the_wheel_is_made_of_is_copied() -> None:
    """The package, what is put into it, the readme and the licence that pyproject.toml names."""
    wheel = project()["tool"]["hatch"]["build"]["targets"]["wheel"]
    metadata = project()["project"]
    needed = {*wheel["packages"], *wheel["force-include"], metadata["readme"], *metadata["license-files"]}
    assert needed - set(_copied()) == set()


def test_its_commands_exist() -> None:
    """The entry point is a script of the project in exec form; what follows and what the health check calls are commands."""
    (entry,) = only("ENTRYPOINT").words
    assert only("ENTRYPOINT").text.startswith("[")
    assert entry in project()["project"]["scripts"]
    assert fault(tuple(only("CMD").words)) == ""
    check = only("HEALTHCHECK").text.partition(" CMD ")[2]
    program, *arguments = tomllib.loads(f"words = {check}")["words"]
    assert program == entry
    assert fault(tuple(arguments)) == ""
    assert arguments[1:] == only("CMD").words


def test_its_variables_are_settings() -> None:
    """Each has the name of a setting, and a value that it takes."""
    aliases = {str(field.alias) for field in Settings.model_fields.values()}
    own = {name: value for name, value in image_variables().items() if not FOREIGN.fullmatch(name)}
    assert set(own) - aliases == set()
    Settings.model_validate(own)


def test_its_ports_are_those_that_the_stages_listen_on() -> None:
    """EXPOSE has the ports of the stages; gateway's and console's are their defaults, each listens on all addresses."""
    settings = Settings.model_validate(
        {name: value for name, value in image_variables().items() if not FOREIGN.fullmatch(name)}
    )
    fixed = [settings.gateway_port, settings.console_port]
    ports = [settings.worker_port, settings.sink_port, settings.notify_port, settings.jobs_port]
    assert [int(word) for word in only("EXPOSE").words] == [*fixed, *ports]
    assert fixed == [Settings.model_fields[f"{stage}_port"].default for stage in ("gateway", "console")]
    stages = ("gateway", "console", "worker", "sink", "notify", "jobs")
    hosts = {getattr(settings, f"{stage}_host") for stage in stages}
    assert hosts == {"0.0.0.0"}  # noqa: S104  # within a container
    told = (ROOT / "docs" / "operations.md").read_text("utf-8")
    assert (
        f"STREAMPROC_WORKER_PORT={ports[0]} STREAMPROC_SINK_PORT={ports[1]} STREAMPROC_NOTIFY_PORT={ports[2]}"
        in told
    )
    assert f"STREAMPROC_JOBS_PORT={ports[3]}" in told


def test_it_tells_the_version_that_it_holds() -> None:
    """The label is the package's version, and no label holds a date."""
    assert f'org.opencontainers.image.version="{__version__}"' in only("LABEL").text
    assert "created" not in only("LABEL").text


def test_only_locked_packages_are_installed() -> None:
    """One pip asks the index, for requirements.lock with hashes; every other has no index to ask."""
    calls = [call for one in dockerfile() if one.name == "RUN" for call in re.findall(r"pip .*", one.text)]
    asking = [call for call in calls if "--no-index" not in call and "--without-pip" not in call]
    assert len(asking) == 1
    assert "--require-hashes" in asking[0]
    assert "requirements.lock" in asking[0]
    assert sum("--no-index" in call for call in calls) == 2


def test_what_is_installed_is_locked() -> None:
    """Each dependency, and each of the extras that the image has, is in requirements.lock, and every entry has a hash."""
    metadata = project()["project"]
    installed = next(one.text for one in dockerfile() if "streamproc[" in one.text)
    extras = re.findall(r"streamproc\[([\w,]+)\]", installed)[0].split(",")
    wanted = [*metadata["dependencies"]]
    for extra in extras:
        wanted += metadata["optional-dependencies"][extra]
    entries = re.split(r"\n(?=\S)", (ROOT / "requirements.lock").read_text("utf-8").strip())
    locked = {_name(entry) for entry in entries}
    assert {_name(requirement) for requirement in [*wanted, *project()["build-system"]["requires"]]} <= locked
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def _name(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    assert found, requirement
    return re.sub(r"[-_.]+", "-", found[0].lower())  # as PEP 503 has it


def test_it_stops_as_the_stages_expect() -> None:
    """Docker sends the signal that docs/operations.md describes."""
    assert only("STOPSIGNAL").text == "SIGTERM"
