"""Settings come from the environment alone, and all that is wrong with them is told at once."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

from streamproc.cli.reference import settings_now, settings_table
from streamproc.core.windows import SIZES_MS
from streamproc.errors import SettingsError
from streamproc.settings import PREFIX, Settings, load

README = Path(__file__).parents[2] / "README.md"
MARK = "<!-- settings -->"


def _streamproc(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a clean environment with these variables."""
    return _streamproc_in(Path(), *arguments, **{"IOT_ENV_FILE": os.devnull} | variables)


def _streamproc_in(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The same in this directory."""
    return subprocess.run(
        [sys.executable, "-m", "streamproc", *arguments],
        cwd=folder,
        env=_clean(os.environ) | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _clean(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without any setting."""
    known = {str(field.alias) for field in Settings.model_fields.values()}
    return {k: v for k, v in environment.items() if k not in known and not k.startswith(PREFIX)}


def test_all_faults_are_told_at_once() -> None:
    """A wrong number, a wrong word and an unknown name are all in one message, each by its variable."""
    result = _streamproc(
        "settings",
        KAFKA_PORT="ninety",
        STREAMPROC_LANGUAGE="fr",
        STREAMPROC_LOGLEVEL="info",
        GATEWAY_PORT="70000",
    )
    assert result.returncode == 2
    assert result.stdout == ""
    for name in ("KAFKA_PORT", "STREAMPROC_LANGUAGE", "STREAMPROC_LOGLEVEL: no such setting", "GATEWAY_PORT"):
        assert name in result.stderr
    assert "Traceback" not in result.stderr


def test_sizes_of_windows_are_those_that_there_are() -> None:
    """Others are told by name; `none` is none, and spaces do not matter."""
    assert load().sink_window_sizes_ms == set(SIZES_MS)
    assert load(sink_windows="10, 1").sink_window_sizes_ms == {1_000, 10_000}
    assert load(sink_windows="none").sink_window_sizes_ms == frozenset()
    with pytest.raises(
        SettingsError, match=r"STREAMPROC_SINK_WINDOWS: .*no such size: '2', ''; there are 1,5,10"
    ):
        load(sink_windows="1,2,")


def test_settings_are_read_from_the_environment() -> None:
    """What is set is what is in force, an empty variable counts as absent, and a key is never shown."""
    shown = _streamproc("settings", GATEWAY_PORT="8080", KAFKA_PORT="", INGEST_API_KEY="hush").stdout
    assert "GATEWAY_PORT=8080\n" in shown
    assert "KAFKA_PORT=9092\n" in shown
    assert "INGEST_API_KEY=(set)\n" in shown
    assert "hush" not in shown


def test_an_override_goes_before_the_environment(tmp_path: Path) -> None:
    """A command's option wins; None leaves the setting alone; an unknown field is an error."""
    assert load(data_dir=tmp_path).data_dir == tmp_path
    assert load(data_dir=tmp_path).database_path == tmp_path / "streamproc.db"
    assert load(data_dir=None) == load()
    with pytest.raises(SettingsError, match="no_such_field"):
        load(no_such_field=1)


#: What a SQL Server cannot be reached without.
REACHED = {"DB_HOST": "db.example", "DB_USER": "app", "DB_PASSWORD": "hush"}


@pytest.mark.live
def test_a_host_makes_it_sql_server() -> None:
    """Unless the store is named; what is missing for a server is told with the other faults."""
    assert load().store == "sqlite"
    assert load(db_host="db.example", db_user="app", db_password="hush").store == "sqlserver"  # noqa: S106
    assert load(db_host="db.example", store="sqlite").store == "sqlite"
    refused = _streamproc("settings", DB_HOST="db.example", KAFKA_PORT="ninety")
    assert refused.returncode == 2
    for fault in ("KAFKA_PORT: ", "DB_USER: needed", "DB_PASSWORD: needed"):
        assert fault in refused.stderr
    assert "DB_HOST: needed" in _streamproc("settings", STREAMPROC_STORE="sqlserver").stderr


@pytest.mark.parametrize("host", ["db,1434", "db;UID=sa", "{db}"])
def test_a_host_is_a_host_alone(host: str) -> None:
    """A port beside it, as other tools write it, is told where it belongs."""
    with pytest.raises(SettingsError, match=r"DB_HOST: .*its port goes into DB_PORT"):
        load(db_host=host, db_user="app", db_password="hush")  # noqa: S106


@pytest.mark.live
def test_a_password_is_shown_nowhere() -> None:
    """Not in what is in force, not in a repr, and not in the faults of other settings."""
    shown = _streamproc("settings", **REACHED)
    assert "DB_PASSWORD=(set)\n" in shown.stdout
    assert "hush" not in shown.stdout + shown.stderr
    assert "hush" not in repr(load(db_host="db.example", db_user="app", db_password="hush"))  # noqa: S106
    assert "hush" not in _streamproc("settings", **REACHED, DB_PORT="0").stderr


@pytest.mark.live
def test_a_file_gives_what_the_environment_does_not(tmp_path: Path) -> None:
    """The environment goes first; others' variables are left alone, and a password is taken as it stands."""
    file = tmp_path / "backend.env"
    file.write_text(
        "\ufeff# of the backend\nDB_HOST=db.example\nDB_USER=app\nexport DB_PASSWORD='a$b${HOME}#c'\n"
        "JWT_SECRET=theirs\nGATEWAY_PORT=8080\nINGEST_API_KEY=\n",
        encoding="utf-8",
    )
    shown = _streamproc("settings", IOT_ENV_FILE=str(file), DB_USER="other").stdout
    for line in ("DB_HOST=db.example", "DB_USER=other", "STREAMPROC_STORE=sqlserver", "GATEWAY_PORT=8080"):
        assert f"{line}\n" in shown
    assert "JWT" not in shown
    code = "from streamproc.settings import load; print(load().db_password.get_secret_value())"
    environment = _clean(os.environ) | {"IOT_ENV_FILE": str(file)}
    given = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert given.stdout == "a$b${HOME}#c\n"


@pytest.mark.live
def test_the_backends_file_counts_where_none_is_named(tmp_path: Path) -> None:
    """Beside the backend its settings hold by themselves; one that is named takes its place."""
    assert "IOT_ENV_FILE=\n" in _streamproc_in(tmp_path, "settings").stdout
    (tmp_path / "iot_monitor_backend").mkdir()
    backend = tmp_path / "iot_monitor_backend" / ".env"
    backend.write_text(
        "DB_HOST=db.example\nDB_USER=app\nDB_PASSWORD=hush\nGATEWAY_PORT=8080\nJWT_SECRET=theirs\n"
    )
    shown = _streamproc_in(tmp_path, "settings", GATEWAY_PORT="8081").stdout
    for line in ("DB_HOST=db.example", "GATEWAY_PORT=8081", "IOT_ENV_FILE=iot_monitor_backend/.env"):
        assert f"{line}\n" in shown
    own = tmp_path / "own.env"
    own.write_text("GATEWAY_PORT=8082\n")
    named = _streamproc_in(tmp_path, "settings", IOT_ENV_FILE=str(own)).stdout
    assert "DB_HOST=\n" in named
    assert "GATEWAY_PORT=8082\n" in named
    backend.write_text("STREAMPROC_LOGLEVEL=info\n")
    misspelt = _streamproc_in(tmp_path, "settings").stderr
    assert "STREAMPROC_LOGLEVEL: no such setting (in iot_monitor_backend/.env)" in misspelt


def test_the_backends_file_leads_no_test_to_its_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests' sinks would write there, where they run beside it."""
    (tmp_path / "iot_monitor_backend").mkdir()
    (tmp_path / "iot_monitor_backend" / ".env").write_text(
        "DB_HOST=db.example\nDB_USER=app\nDB_PASSWORD=hush\n"
    )
    monkeypatch.chdir(tmp_path)
    assert load().store == "sqlite"


@pytest.mark.live
def test_the_backends_file_is_not_for_dev(tmp_path: Path) -> None:
    """Its simulator's readings would go into the backend's database."""
    (tmp_path / "iot_monitor_backend").mkdir()
    (tmp_path / "iot_monitor_backend" / ".env").write_text("GATEWAY_PORT=none\n")
    assert "GATEWAY_PORT" in _streamproc_in(tmp_path, "sink").stderr
    (tmp_path / "data").touch()
    told = _streamproc_in(tmp_path, "dev").stderr
    assert "GATEWAY_PORT" not in told
    assert "data" in told


@pytest.mark.live
def test_a_files_faults_are_told_with_the_others(tmp_path: Path) -> None:
    """A file that is not there, one that is no text, and a misspelt setting in one."""
    absent = _streamproc("settings", IOT_ENV_FILE=str(tmp_path / "absent.env"), KAFKA_PORT="ninety")
    assert absent.returncode == 2
    assert f"IOT_ENV_FILE: cannot read {tmp_path / 'absent.env'}: No such file" in absent.stderr
    assert "KAFKA_PORT: " in absent.stderr
    file = tmp_path / "bad.env"
    file.write_bytes(b"DB_HOST=\xff\xfe")
    assert "it is not UTF-8" in _streamproc("settings", IOT_ENV_FILE=str(file)).stderr
    file.write_text("STREAMPROC_LOGLEVEL=info\n")
    misspelt = _streamproc("settings", IOT_ENV_FILE=str(file)).stderr
    assert f"STREAMPROC_LOGLEVEL: no such setting (in {file})" in misspelt


def test_settings_are_frozen() -> None:
    """Nobody changes a setting once it is loaded."""
    with pytest.raises(ValidationError):
        load().kafka_port = 1  # type: ignore[misc]  # that it cannot be done is the point


def test_a_key_is_not_in_the_repr() -> None:
    """A logged settings object gives no key away."""
    settings = load(ingest_api_key="hush")
    assert "hush" not in repr(settings)
    assert "hush" not in settings_now(settings)


def test_every_setting_says_what_it_does() -> None:
    """Each field has an upper-case variable of its own and a sentence."""
    fields = Settings.model_fields.values()
    assert len({field.alias for field in fields}) == len(fields)
    for field in fields:
        assert field.alias is not None
        assert field.alias == field.alias.upper()
        assert (field.description or "").endswith(".")


def test_the_readme_tells_the_settings_as_they_are() -> None:
    """The table between the marks is what `streamproc settings --markdown` prints."""
    _, table, _ = README.read_text(encoding="utf-8").split(MARK)
    assert table.strip() == settings_table()
