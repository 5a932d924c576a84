"""The command line, run as its users run it."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from streamproc import __version__
from streamproc.dev.place import claim_port, hold

#: They start programs, or wait: seconds in all.
pytestmark = pytest.mark.live

COMMANDS = (
    "gateway",
    "worker",
    "sink",
    "notify",
    "console",
    "jobs",
    "dev",
    "simulate",
    "topics",
    "registry",
    "device",
    "dlq",
    "detect",
    "replay",
    "db",
    "doctor",
    "settings",
    "version",
    "health",
    "bench",
)


def run(*arguments: str, text: str | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `streamproc ARGUMENTS` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "streamproc", *arguments],
        env=os.environ | variables,
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_names_every_command() -> None:
    """`--help` lists the commands, and without a command it is shown too."""
    shown = run("--help").stdout
    assert [command for command in COMMANDS if f" {command} " not in shown] == []
    assert "Usage" in run().stdout + run().stderr


def test_help_imports_nothing_heavy() -> None:
    """Kafka, Faust, River, numpy and the settings stay out of `--help`: it answers at once."""
    code = (
        "import sys, streamproc.cli as cli\n"
        "sys.argv = ['streamproc', '--help']\n"
        "try:\n    cli.main()\nexcept SystemExit: pass\n"
        "heavy = {'aiokafka', 'faust', 'river', 'numpy', 'pydantic', 'structlog', 'aiohttp'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.splitlines()[-1] == "heavy: []"


@pytest.mark.parametrize("asked", ["version", "--version"])
def test_version(asked: str) -> None:
    """It is printed, and nothing else."""
    assert run(asked).stdout == f"{__version__}\n"


@pytest.mark.parametrize("group", ["topics", "registry", "device", "dlq", "db"])
def test_groups_show_their_own_help(group: str) -> None:
    """`--help` behind a group is the group's, under its full name."""
    result = run(group, "--help")
    assert result.returncode == 0, result.stderr
    assert f"streamproc {group}" in result.stdout


def test_completion_is_for_the_whole_program() -> None:
    """A group offered to install one for a program named `streamproc alarm`."""
    assert "--install-completion" in run("--help").stdout
    assert "completion" not in run("alarm", "--help").stdout


def test_detect_shows_its_own_help() -> None:
    """`detect --help` tells its options."""
    result = run("detect", "--help")
    assert result.returncode == 0, result.stderr
    assert "-o" in result.stdout


def test_what_is_refused_is_told_in_a_line(tmp_path: Path) -> None:
    """An error of ours is a line on standard error and exit code 2, with no traceback."""
    result = run("registry", "import", str(tmp_path / "absent.yaml"))
    assert result.returncode == 2
    assert result.stderr.startswith("streamproc: ")
    assert "absent.yaml" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", [("topics", "check"), ("dlq", "list")], ids=" ".join)
def test_a_broker_that_is_not_there_is_told_in_a_line(command: tuple[str, ...]) -> None:
    """What the Kafka client logs of it comes not before it; a stage, which tries again, logs it."""
    refused = run(*command, KAFKA_BOOTSTRAP="127.0.0.1:1")
    (line,) = refused.stderr.splitlines()
    assert line.startswith("streamproc: ")
    assert "Kafka at 127.0.0.1:1 refuses connections" in line
    assert refused.returncode == 2
    assert "Unable connect" in run("sink", KAFKA_BOOTSTRAP="127.0.0.1:1").stderr


def test_unknown_options_are_refused() -> None:
    """A misspelt option is an error that names it."""
    result = run("dev", "--no-simulat")
    assert result.returncode == 2
    assert "--no-simulat" in result.stderr


@pytest.mark.live
def test_a_second_dev_on_the_same_data_is_refused(tmp_path: Path) -> None:
    """It says who holds the directory and how to use another, and leaves no process."""
    with hold(tmp_path):
        result = run("dev", "--data-dir", str(tmp_path))
    assert result.returncode == 2
    assert f"process {os.getpid()}" in result.stderr
    assert "--data-dir" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (
            "INSERT INTO schema_migrations (version, checksum) VALUES (99, '')",
            "the database has schema 99; this program",
        ),
        (None, "streamproc.db: file is not a database"),
    ],
)
def test_a_database_that_cannot_be_used_is_refused(tmp_path: Path, spoil: str | None, told: str) -> None:
    """`dev` was ready all the same, and its sink ended again and again for what nothing on the screen told."""
    path = tmp_path / "streamproc.db"
    if spoil is None:
        path.write_text("no database\n" * 100)
    else:
        assert run("db", "migrate", STREAMPROC_DATA_DIR=str(tmp_path)).returncode == 0
        with closing(sqlite3.connect(path)) as database:
            database.execute(spoil)
            database.commit()
    ports = {
        name: str(claim_port("127.0.0.1", 0, name)) for name in ("GATEWAY_PORT", "CONSOLE_PORT", "KAFKA_PORT")
    }
    result = run("dev", "--data-dir", str(tmp_path), **ports)
    assert (result.returncode, result.stdout) == (2, "")
    assert told in result.stderr


@pytest.mark.parametrize("setting", ["GATEWAY_PORT", "CONSOLE_PORT"])
def test_a_taken_port_is_refused(tmp_path: Path, setting: str) -> None:
    """It names the port and the setting to change."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        free = {"GATEWAY_PORT": "0", "CONSOLE_PORT": "0"}
        result = run("dev", "--data-dir", str(tmp_path), **free | {setting: str(port)})
    assert result.returncode == 2
    assert f"{setting}: cannot listen on 127.0.0.1:{port}" in result.stderr


@pytest.mark.parametrize(
    ("one", "other"),
    [("GATEWAY_PORT", "CONSOLE_PORT"), ("GATEWAY_PORT", "KAFKA_PORT"), ("CONSOLE_PORT", "KAFKA_PORT")],
)
def test_a_port_for_two_is_refused(tmp_path: Path, one: str, other: str) -> None:
    """Before anything is started: one of the two would be found ready where the other listens."""
    ports = {"GATEWAY_PORT": "0", "CONSOLE_PORT": "0"}
    port = str(claim_port("127.0.0.1", 0, one))
    result = run("dev", "--data-dir", str(tmp_path), **ports | {one: port, other: port})
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"streamproc: {other}: {port} is that of {one}; set {other} to another\n"


@pytest.mark.parametrize(
    ("command", "setting"),
    [
        (("gateway",), "GATEWAY_PORT"),
        (("gateway", "--workers", "2"), "GATEWAY_PORT"),
        (("worker",), "STREAMPROC_WORKER_PORT"),
        (("sink",), "STREAMPROC_SINK_PORT"),
        (("notify",), "STREAMPROC_NOTIFY_PORT"),
        (("console",), "CONSOLE_PORT"),
        (("jobs",), "STREAMPROC_JOBS_PORT"),
    ],
)
def test_a_stage_whose_port_is_taken_ends(tmp_path: Path, command: tuple[str, ...], setting: str) -> None:
    """Like any wrong setting: with a line that names it, and code 2. Worker and sink ended with a traceback and code 1."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        away = {"KAFKA_BOOTSTRAP": "127.0.0.1:1", "STREAMPROC_DATA_DIR": str(tmp_path)}
        result = run(*command, **away | {setting: port})
    *logged, last = result.stderr.splitlines()
    told = f"{setting}: cannot listen on 127.0.0.1:{port}: the port is taken; set {setting} to another"
    assert (result.returncode, last) == (2, f"streamproc: {told}")
    assert all(isinstance(json.loads(line), dict) for line in logged)
    assert "Traceback" not in result.stderr


def test_under_fausts_command_a_wrong_setting_is_told_as_by_streamproc() -> None:
    """In a line and with code 2: Faust itself told where it was raised, and ended with 1."""
    result = subprocess.run(
        [sys.executable, "-m", "faust", "-A", "streamproc.worker", "worker"],
        env=os.environ | {"STREAMPROC_WORKER_PORT": "ninety"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    (line,) = result.stderr.splitlines()
    assert result.returncode == 2
    assert line.startswith("streamproc: STREAMPROC_WORKER_PORT: ")


def test_logs_are_json_where_no_terminal_reads_them() -> None:
    """Records of structlog and of the standard library are one JSON object a line, from the level set on."""
    code = (
        "import logging, structlog\nfrom streamproc.cli.logs import configure\nconfigure('info')\n"
        "structlog.get_logger('ours').info('hello', sensor='s-1')\n"
        "structlog.get_logger('ours').debug('unheard')\n"
        "logging.getLogger('theirs').warning('careful %d', 7)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    ours, theirs = map(json.loads, result.stderr.splitlines())
    assert (ours["event"], ours["sensor"], ours["level"], ours["logger"]) == ("hello", "s-1", "info", "ours")
    assert (theirs["event"], theirs["level"], theirs["logger"]) == ("careful 7", "warning", "theirs")


def test_a_full_disk_costs_the_line_alone() -> None:
    """A log file that cannot be written is no traceback on the screen."""
    code = (
        "import logging, pathlib\nfrom streamproc.cli.logs import configure\n"
        "configure('info', pathlib.Path('/dev/full'))\nlogging.getLogger('ours').warning('lost')\nprint('on')"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert (result.stdout, result.stderr) == ("on\n", "")
