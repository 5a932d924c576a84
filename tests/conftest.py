"""What holds for all tests."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable, Mapping

import pytest
from hypothesis import HealthCheck, settings

from streamproc.process import collect_seldom
from tests.loops import PatientLoop

# What leads this machine's processes to its database leads no test there: neither the backend's file, where it stands beside
# these, nor a variable.
os.environ["IOT_ENV_FILE"] = os.devnull
os.environ.pop("DB_HOST", None)
# A fifth of what it takes to read all test modules went into collections that find nothing.
collect_seldom()
# How long an example takes is the machine's affair: with others' work beside it, any takes seconds now and then.
settings.register_profile("streamproc", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# For `make check`, which is to take less than a minute; `make test` looks at four times as many.
settings.register_profile("quick", parent=settings.get_profile("streamproc"), max_examples=25)
settings.load_profile("streamproc")


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Which loops tests run in."""
    return {"patient": PatientLoop}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The live tests first: with several processes, the short files of the others even out when each ends."""
    items.sort(key=lambda item: item.get_closest_marker("live") is None)


def pytest_collection_finish() -> None:
    """Look for garbage in what tests make, not in what was imported, which took each process a second when it ended."""
    gc.freeze()


def pytest_report_header() -> str:
    """Which databases the tests of stores run on."""
    server = os.environ.get("SQLSERVER_TEST_DSN")
    return f"stores: SQLite{' and a T-SQL server' if server else ' alone, for SQLSERVER_TEST_DSN names no T-SQL server'}"


def pytest_sessionfinish() -> None:
    """Leave no database on the T-SQL server."""
    if os.environ.get("SQLSERVER_TEST_DSN"):
        from tests.store.databases import drop_kept  # noqa: PLC0415  # it needs the driver's packages

        asyncio.run(drop_kept())
