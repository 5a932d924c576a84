"""`streamproc bench sink --store sqlserver`: what it prints, and that it leaves nothing on the server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import closing

import pytest

from streamproc.bench.sink import reading_load
from streamproc.bench.sqlserver import made_database, run
from streamproc.settings import PREFIX, Settings
from streamproc.store.sqlserver import driver
from tests.store.tsql import databases, on_a_server, read, variables

WAYS = ("writer, bytes to committed", "bare fast_executemany", "bare INSERT from OPENJSON")


@pytest.mark.live
def test_without_a_server_it_says_which_settings_are_missing() -> None:
    """One line for each, and no trace; of a server that is named only in part the rest."""
    known = {str(field.alias) for field in Settings.model_fields.values()}
    rest = {
        name: value for name, value in os.environ.items() if name not in known and not name.startswith(PREFIX)
    }
    rest["IOT_ENV_FILE"] = os.devnull
    command = [sys.executable, "-m", "streamproc", "bench", "sink", "--store", "sqlserver", "--rows", "10"]
    for given, missing in (({}, ("HOST", "USER", "PASSWORD")), ({"DB_HOST": "there"}, ("USER", "PASSWORD"))):
        made = subprocess.run(
            command, env=rest | given, capture_output=True, text=True, timeout=120, check=False
        )
        assert made.returncode == 2
        told = re.findall(r"^.*DB_(\w+): needed for the database on SQL Server$", made.stderr, re.MULTILINE)
        assert tuple(told) == missing
        assert "Traceback" not in made.stderr


# A session for each way: the first rows of one take some servers 5 s of CPU time, many times that beside others' work.
@pytest.mark.timeout(600)
@on_a_server
async def test_it_tells_each_way_and_the_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    """For readings and windows: the rows a second of each way, and their ratio."""
    await run(Settings.model_validate(variables("unused")), rows=60, sensors=20, batch_rows=40, rounds=1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * (2 + len(WAYS))
    for topic, told in (("readings", lines[:5]), ("windows", lines[5:])):
        assert told[0] == f"{topic}: 60 rows, 20 sensors, 40 rows a batch, best of 1"
        rates = {}
        for line in told[1:4]:
            found = re.fullmatch(r"(.{32}) +([\d,]+) rows/s +([\d,]+) per CPU-second of the client", line)
            assert found, line
            rates[found[1].strip()] = int(found[2].replace(",", ""))
        assert tuple(rates) == WAYS
        writer, *bare = rates.values()
        ratio = float(told[4].removeprefix("ratio to the fastest bare way"))
        # All three are rounded, and where a server takes seconds for a session's first rows the rates are a few a second.
        fastest = max(bare)
        least, most = (writer - 0.5) / (fastest + 0.5), (writer + 0.5) / max(fastest - 0.5, 0.5)
        assert least - 0.01 <= ratio <= most + 0.01


@on_a_server
async def test_it_leaves_nothing_on_the_server() -> None:
    """Its database has the schema and the sensors, and is gone afterwards."""
    settings = Settings.model_validate(variables("unused"))
    async with made_database(settings, reading_load(10, 5, 10)) as text:
        name = read(text)["database"]
        assert name in databases()
        with closing(driver.pyodbc().connect(text)) as connection:
            assert connection.execute("SELECT COUNT(*) FROM dbo.sensors").fetchval() == 5
    assert name not in databases()
