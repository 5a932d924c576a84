"""Whatever the compose file names is there: images, commands, ports, variables, volumes, networks, services."""

from __future__ import annotations

import re
from typing import Any

import pytest

from streamproc import __version__
from streamproc.cli.health import TIMEOUT_S
from streamproc.kafka.process import STOP_S
from streamproc.settings import Settings
from streamproc.store.migrations import scripts
from streamproc.topics import load
from tests.docker.commands import fault, stages
from tests.docker.files import (
    DOCKER,
    ROOT,
    compose,
    example,
    filled,
    image_variables,
    only,
    own_services,
    services,
    variables,
)

ALIASES = {str(field.alias): field for field in Settings.model_fields.values()}
#: What .env has beside settings: SQL Server's own, and what only the compose file uses.
FOREIGN = {
    *("ACCEPT_EULA", "MSSQL_PID", "MSSQL_SA_PASSWORD", "GATEWAY_PUBLISH", "WORKERS"),
    *("DB_GATEWAY_USER", "DB_GATEWAY_PASSWORD", "CONSOLE_PUBLISH", "DB_JOBS_USER", "DB_JOBS_PASSWORD"),
}
SERVICES = sorted(services())
OWN = sorted(own_services())
STAGES = ("gateway", "worker", "sink", "notify", "console", "jobs")
#: Those that talk with Kafka.
OF_KAFKA = ("gateway", "worker", "sink", "console")


def _environment(service: dict[str, Any]) -> dict[str, str]:
    return {name: filled(str(value)) for name, value in service.get("environment", {}).items()}


def _settings(name: str) -> Settings:
    """The settings of a service: the image's, and its own where they are not empty."""
    image = {key: value for key, value in image_variables().items() if key in ALIASES}
    given = _environment(services()[name])
    return Settings.model_validate(image | {key: value for key, value in given.items() if value})


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+)s", text)
    assert found, text
    return float(found[1])


@pytest.mark.parametrize("name", SERVICES)
def test_each_image_is_pinned(name: str) -> None:
    """By a tag with a release in it; streamproc's own by the version that it is built from."""
    repository, _, tag = services()[name]["image"].rpartition(":")
    if name in OWN:
        assert (repository, tag) == ("streamproc", __version__)
    assert re.fullmatch(r"v?\d+\.\d+\.\d+|20\d\d-CU\d+-ubuntu-\d\d\.\d\d", tag), tag


@pytest.mark.live
@pytest.mark.parametrize("name", OWN)
def test_its_own_services_run_commands_that_exist(name: str) -> None:
    """The arguments are ones that streamproc takes, and the image is built from the Dockerfile beside it."""
    service = services()[name]
    assert fault(tuple(service["command"])) == ""
    build = service["build"]
    assert (DOCKER / build["context"] / build["dockerfile"]).samefile(DOCKER / "Dockerfile")


def test_every_stage_that_streamproc_has_is_a_service() -> None:
    """And none that it has not: when a stage gets its command, it belongs into the file."""
    for stage in STAGES:
        assert (stage in services()) == (stage in stages()), stage


@pytest.mark.parametrize("name", STAGES)
def test_each_stage_is_asked_for_its_own_health(name: str) -> None:
    """By a command that exists, which gives up before Docker does, and asks where the stage listens."""
    check = services()[name]["healthcheck"]
    assert check["test"] == ["CMD", *only("ENTRYPOINT").words, "health", name]
    assert fault(tuple(check["test"][2:])) == ""
    assert _seconds(check["timeout"]) > TIMEOUT_S
    assert getattr(_settings(name), f"{name}_port") > 0


@pytest.mark.parametrize("name", OWN)
def test_its_own_services_have_settings_that_there_are(name: str) -> None:
    """Each variable is a setting, and the values, with nothing in .env but passwords, are taken."""
    assert set(_environment(services()[name])) - set(ALIASES) == set()
    _settings(name)


def test_a_database_is_what_its_users_think() -> None:
    """All who need it name the same server and database; each has a login that is made, and nobody else has."""
    users = {name for name, one in services().items() if "DB_PASSWORD" in one.get("environment", {})}
    assert users == {"database", "schema", "sink", "notify", "gateway", "console", "jobs"}
    for name in ("schema", "sink", "notify", "gateway", "console", "jobs"):
        settings = _settings(name)
        assert settings.store == "sqlserver"
        assert settings.db_host == services()["sqlserver"]["hostname"]
        assert settings.db_port == Settings.model_fields["db_port"].default
        assert settings.db_name == Settings.model_fields["db_name"].default
        assert settings.db_encrypt
    raw = {name: services()[name]["environment"] for name in users}
    for variable in ("DB_NAME", "DB_USER", "DB_PASSWORD"):
        assert raw["notify"][variable] == raw["sink"][variable] == raw["database"][variable]
    for variable in ("USER", "PASSWORD"):
        for reader in ("gateway", "console"):
            assert raw[reader][f"DB_{variable}"] == raw["database"][f"DB_GATEWAY_{variable}"]
        assert raw["jobs"][f"DB_{variable}"] == raw["database"][f"DB_JOBS_{variable}"]
    assert raw["schema"]["DB_NAME"] == raw["database"]["DB_NAME"]
    assert raw["schema"]["DB_PASSWORD"] == raw["database"]["SQLCMDPASSWORD"]
    script = (DOCKER / "database.sql").read_text("utf-8")
    given = {name for name in raw["database"] if name.startswith("DB_")}
    assert set(re.findall(r"\$\((\w+)\)", script)) == given


@pytest.mark.parametrize(
    ("login", "role"),
    [
        ("DB_USER", "streamproc_writer"),
        ("DB_GATEWAY_USER", "streamproc_reader"),
        ("DB_JOBS_USER", "streamproc_jobs"),
    ],
)
def test_each_login_has_a_role_that_the_migrations_give_rights(login: str, role: str) -> None:
    """The set-up makes the role before they do, under the name that they look for, and it is the login's only one."""
    script = (DOCKER / "database.sql").read_text("utf-8")
    assert re.findall(rf"ALTER ROLE (\w+) ADD MEMBER \[\$\({login}\)\]", script) == [role]
    migrations = "".join(migration.text for migration in scripts("sqlserver"))
    for text in (script, migrations):
        assert re.search(rf"IF DATABASE_PRINCIPAL_ID\(N'{role}'\) IS NULL\s+CREATE ROLE {role};", text)
    assert f" TO {role};" in migrations


def test_the_example_has_every_variable_and_no_other() -> None:
    """What the compose file asks for is in .env.example with the same default, and is a setting or known to be none."""
    asked = {name: rest for name, mark, rest in variables() if mark != "?"}
    needed = {name for name, mark, _ in variables() if mark == "?"}
    assert set(example()) == set(asked) | needed
    assert set(example()) - set(ALIASES) == FOREIGN
    assert {name: example()[name] for name in asked} == asked
    assert {name for name in needed if example()[name]} == set()


def test_there_is_no_password_in_the_files() -> None:
    """Each comes from .env, where it must be given, but for that of a mail server, which need not be there."""
    for name, service in services().items():
        for variable, value in service.get("environment", {}).items():
            if "PASSWORD" in variable:
                assert re.fullmatch(r"\$\{\w*PASSWORD:(\?.+|-)\}", value), (name, variable)
    optional = {name for name, mark, _ in variables() if "PASSWORD" in name and mark != "?"}
    assert optional == {"STREAMPROC_SMTP_PASSWORD"}


def test_git_and_docker_leave_the_passwords_out() -> None:
    """.env is ignored by git, and the build does not see the folder."""
    assert ".env" in (ROOT / ".gitignore").read_text("utf-8").splitlines()
    assert "!/docker" not in (ROOT / ".dockerignore").read_text("utf-8")


def test_what_people_decide_on_can_be_said_in_the_example() -> None:
    """Whom to tell of what, and for how long what is kept: all settings of these kinds are there."""
    deciding = re.compile(r"STREAMPROC_(RETENTION_\w+|NOTIFY_\w+(_TO|_FROM|_URL|_SECRET)|SMTP_\w+(?<!_FILE))")
    assert {name for name in ALIASES if deciding.fullmatch(name)} - set(example()) == set()


def test_settings_that_can_be_left_alone_have_their_own_defaults() -> None:
    """A default in the compose file is streamproc's; where it is another on purpose it is named here."""
    other = {"DB_USER": "streamproc", "DB_TRUST_SERVER_CERTIFICATE": "yes"}
    for name, value in example().items():
        if name in ALIASES and value:
            default = ALIASES[name].default
            told = str(default).lower() if isinstance(default, bool) else str(default)
            assert value == other.get(name, told), name


def test_kafka_listens_where_it_is_looked_for() -> None:
    """The bootstrap address is an advertised listener; so is the published port, on this machine alone."""
    kafka = _environment(services()["kafka"])
    listeners = dict(one.split("://:") for one in kafka["KAFKA_LISTENERS"].split(","))
    advertised = dict(one.split("://") for one in kafka["KAFKA_ADVERTISED_LISTENERS"].split(","))
    for name, address in advertised.items():
        assert address.endswith(f":{listeners[name]}")
    for name in OWN:
        assert _settings(name).kafka_bootstrap == advertised["STREAMS"]
    (published,) = services()["kafka"]["ports"]
    assert published == f"127.0.0.1:{listeners['HOST']}:{listeners['HOST']}"
    assert advertised["HOST"] == f"localhost:{listeners['HOST']}"
    quorum = kafka["KAFKA_CONTROLLER_QUORUM_VOTERS"]
    assert quorum == f"{kafka['KAFKA_NODE_ID']}@kafka:{listeners['CONTROLLER']}"
    assert set(re.findall(r"(\w+):PLAINTEXT", kafka["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"])) == set(
        listeners
    )
    assert f"localhost:{listeners['STREAMS']}" in services()["kafka"]["healthcheck"]["test"][1]


@pytest.mark.parametrize("name", ["gateway", "console"])
def test_what_people_and_devices_reach_is_published_on_its_port(name: str) -> None:
    """Both the default, on this machine alone, and what is inside."""
    (port,) = services()[name]["ports"]
    number = getattr(_settings(name), f"{name}_port")
    assert filled(port) == f"127.0.0.1:{number}:{number}"


def test_the_start_follows_health() -> None:
    """Who waits for health waits for a service with a check, who waits for an end, for one that ends; without circles."""
    after: dict[str, set[str]] = {}
    for name, service in services().items():
        waits = service.get("depends_on", {})
        after[name] = set(waits)
        for other, how in waits.items():
            check = services()[other].get("healthcheck", {})
            if how["condition"] == "service_healthy":
                assert "test" in check
            else:
                assert how["condition"] == "service_completed_successfully"
                assert services()[other]["restart"] == "no"
    order: list[str] = []
    while rest := [name for name in after if name not in order]:
        free = [name for name in rest if after[name] <= set(order)]
        assert free, rest
        order += free
    for stage in OF_KAFKA:
        assert "topics" in after[stage]
    for stage in ("sink", "notify", "console", "jobs"):
        assert "schema" in after[stage]


def test_who_talks_to_each_other_shares_a_network() -> None:
    """Kafka's users are where Kafka is, the database's where that is, and nobody else; the database's has no way out."""
    networks = {name: set(service["networks"]) for name, service in services().items()}
    assert set().union(*networks.values()) == set(compose()["networks"])
    for name, service in services().items():
        others = set(service.get("depends_on", {})) - set(own_services()) - {"database"}
        for other in others:
            assert networks[name] & networks[other], (name, other)
    assert {n for n, nets in networks.items() if "storage" in nets} == {
        "sqlserver",
        "database",
        "schema",
        "sink",
        "notify",
        "gateway",
        "console",
        "jobs",
    }
    assert compose()["networks"]["storage"] == {"internal": True}


def test_volumes_are_where_the_data_is() -> None:
    """Each named volume is declared and used, each mounted file is there, and Kafka writes into its volume."""
    mounts = [mount.split(":") for service in services().values() for mount in service.get("volumes", ())]
    named = {source for source, *_ in mounts if not source.startswith(".")}
    assert named == set(compose()["volumes"])
    for source, _, *mode in mounts:
        if source.startswith("."):
            assert (DOCKER / source).is_file()
            assert mode == ["ro"]
    kafka = services()["kafka"]
    assert kafka["volumes"] == [f"kafka-data:{kafka['environment']['KAFKA_LOG_DIRS']}"]
    script = services()["database"]["volumes"][0].split(":")[1]
    assert script in services()["database"]["command"]


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_is_bounded(name: str) -> None:
    """In memory, CPU and logs; what ends is not started again, what serves is, and has time to end."""
    service = services()[name]
    limits = service["deploy"]["resources"]["limits"]
    assert {"cpus", "memory"} <= set(limits)
    assert {"max-size", "max-file"} <= set(service["logging"]["options"])
    assert service["restart"] in {"no", "unless-stopped"}
    if name in OWN:
        assert _seconds(service["stop_grace_period"]) >= 6 > STOP_S
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert (service["restart"] == "unless-stopped") == (name in STAGES)


def test_what_is_writable_belongs_to_the_user() -> None:
    """The one folder beside /tmp is the data directory of the image, and its owner the image's user."""
    user, group = only("USER").text.split(":")
    place = f"{image_variables()['STREAMPROC_DATA_DIR']}:uid={user},gid={group},mode=0700"
    for name in OWN:
        assert services()[name]["tmpfs"] == ["/tmp", place]  # noqa: S108  # a mount of the container's own


def test_workers_can_be_multiplied() -> None:
    """No worker has a name or a port of its own on the machine; the example says how many have work."""
    worker = services()["worker"]
    assert not {"container_name", "hostname", "ports"} & set(worker)
    assert worker["deploy"]["replicas"] == "${WORKERS:-1}"
    (readings,) = (spec for spec in load() if spec.name == "readings")
    told = (DOCKER / ".env.example").read_text("utf-8")
    assert f"`readings` has {readings.partitions} partitions" in told


def test_prometheus_asks_every_stage() -> None:
    """Each under its service's name, at the port where it listens."""
    import yaml  # noqa: PLC0415  # of all tests here only this one reads another file

    jobs = yaml.safe_load((DOCKER / "prometheus.yaml").read_text("utf-8"))["scrape_configs"]
    found = {}
    for job in jobs:
        (asked,) = job["dns_sd_configs"]
        assert asked["names"] == [job["job_name"]]
        found[job["job_name"]] = asked["port"]
    assert found == {stage: getattr(_settings(stage), f"{stage}_port") for stage in STAGES}
