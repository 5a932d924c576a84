"""The ODBC driver is found where there is one, what is missing is named, and no value spoils a connection string."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.errors import StoreError
from streamproc.settings import Settings, load
from streamproc.store.sqlserver import driver
from tests.store.tsql import read

LINUX = ("Linux", "x86_64")
SECRET = "hush;{}=hush"  # noqa: S105  # it opens nothing


def package(root: Path, *libraries: str) -> Path:
    """A package's folder `libs` with these libraries."""
    for name in libraries:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def settings(**changes: object) -> Settings:
    """Those of a database on SQL Server."""
    return load(**{"db_host": "db.example", "db_user": "app", "db_password": SECRET} | changes)


def test_an_installed_driver_goes_before_the_packages(tmp_path: Path) -> None:
    """The newer of Microsoft's two first; another vendor's is not taken unasked."""
    inside = package(tmp_path, "d.so") / "d.so"
    both = ["FreeTDS", "ODBC Driver 17 for SQL Server", "ODBC Driver 18 for SQL Server"]
    assert driver.choose(None, both, inside).name == "ODBC Driver 18 for SQL Server"
    assert driver.choose(None, both[:2], inside).name == "ODBC Driver 17 for SQL Server"
    assert driver.choose(None, both[:1], inside) == driver.Driver(
        str(inside), "inside the package mssql-python-odbc"
    )


def test_where_there_is_no_driver_it_says_what_to_install() -> None:
    """With what is installed, so that the reader sees that none of those will do."""
    with pytest.raises(
        StoreError, match=r"installed: FreeTDS.*pip install 'streamproc\[sqlserver\]'.*ODBC_DRIVER"
    ):
        driver.choose(None, ["FreeTDS"], None)


def test_the_driver_asked_for_is_taken_or_none(tmp_path: Path) -> None:
    """By name, in braces or not, or by path; what is not there is told."""
    library = package(tmp_path, "libmsodbcsql.so.1") / "libmsodbcsql.so.1"
    assert driver.choose("FreeTDS", ["FreeTDS"], None).name == "FreeTDS"
    assert driver.choose("{FreeTDS}", ["FreeTDS"], None).name == "FreeTDS"
    assert driver.choose(str(library), [], None).name == str(library)
    with pytest.raises(StoreError, match=r"ODBC_DRIVER: there is no file /absent/driver\.so"):
        driver.choose("/absent/driver.so", ["FreeTDS"], None)
    with pytest.raises(StoreError, match="ODBC_DRIVER: no driver 'FreeTSD' is installed"):
        driver.choose("FreeTSD", ["FreeTDS"], None)


def test_the_packages_library_is_the_machines_own(tmp_path: Path) -> None:
    """By distribution, architecture and C library; another distribution's with the same C library will do."""
    made = [
        f"linux/{folder}/{arch}/lib/libmsodbcsql-18.6.so.2.1"
        for folder in ("debian_ubuntu", "rhel", "suse", "alpine")
        for arch in ("x86_64", "arm64")
    ]
    libs = package(tmp_path, *made, "macos/arm64/lib/libmsodbcsql.18.dylib")

    def place(machine: tuple[str, str], *, musl: bool = False, **release: str) -> str:
        found = driver.library(libs, machine, release, musl=musl)
        return str(found.relative_to(libs).parent) if found else ""

    assert place(LINUX, ID="ubuntu", ID_LIKE="debian") == "linux/debian_ubuntu/x86_64/lib"
    assert place(LINUX, ID="ol", ID_LIKE="fedora") == "linux/rhel/x86_64/lib"
    assert place(LINUX, ID="opensuse-leap", ID_LIKE="suse opensuse") == "linux/suse/x86_64/lib"
    assert place(("Linux", "aarch64"), ID="debian") == "linux/debian_ubuntu/arm64/lib"
    assert place(LINUX, ID="alpine", musl=True) == "linux/alpine/x86_64/lib"
    assert place(LINUX) == "linux/debian_ubuntu/x86_64/lib"
    assert place(("Darwin", "arm64")) == "macos/arm64/lib"
    assert place(("Windows", "AMD64")) == ""


def test_a_package_without_the_machines_library_gives_none(tmp_path: Path) -> None:
    """A library for another C library would not load; of several versions the newest is taken, by its numbers."""
    libs = package(tmp_path, "linux/rhel/x86_64/lib/libmsodbcsql-18.6.so.2.1")
    assert driver.library(libs, LINUX, {}, musl=True) is None
    assert driver.library(libs, ("Linux", "aarch64"), {}, musl=False) is None
    assert driver.library(tmp_path / "absent", LINUX, {}, musl=False) is None
    found = driver.library(libs, LINUX, {"ID": "debian"}, musl=False)
    assert found is not None
    assert found.parent.parts[-3] == "rhel"
    newer = package(tmp_path, "linux/rhel/x86_64/lib/libmsodbcsql-18.10.so.1.1")
    chosen = driver.library(newer, LINUX, {}, musl=False)
    assert chosen is not None
    assert chosen.name == "libmsodbcsql-18.10.so.1.1"


def test_a_library_that_does_not_load_says_why(tmp_path: Path) -> None:
    """The driver manager would say that the file is not there."""
    broken = tmp_path / "libmsodbcsql-18.6.so.2.1"
    broken.write_bytes(b"no library")
    assert driver.unloadable(driver.Driver(str(broken), "")) is not None
    assert driver.unloadable(driver.Driver("ODBC Driver 18 for SQL Server", "")) is None


@given(
    st.dictionaries(
        st.sampled_from(["Driver", "Server", "UID", "PWD", "APP"]),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    )
)
def test_every_value_comes_back_as_it_was(values: dict[str, str]) -> None:
    """Whatever a password is made of, it ends where it ends, and adds no keyword."""
    assert read(driver.written(values)) == {name.lower(): value for name, value in values.items()}


def test_a_connection_is_encrypted_and_checked_by_default() -> None:
    """Both can be turned off by their settings alone; nothing is retried behind our back."""
    found = read(
        driver.connection_string(settings(db_port=1434), driver.Driver("/a}b/driver.so", ""), "sink")
    )
    assert found == {
        "driver": "/a}b/driver.so",
        "server": "db.example,1434",
        "database": "iot_monitoring_system",
        "uid": "app",
        "pwd": SECRET,
        "app": "streamproc-sink",
        "encrypt": "yes",
        "trustservercertificate": "no",
        "mars_connection": "no",
        "connectretrycount": "0",
    }
    bare = settings(db_encrypt=False, db_trust_server_certificate=True)
    found = read(driver.connection_string(bare, driver.Driver("D", ""), "sink"))
    assert (found["encrypt"], found["trustservercertificate"]) == ("no", "yes")


@pytest.mark.live
@pytest.mark.parametrize(
    ("raised", "advice"),
    [
        ("ModuleNotFoundError(\"No module named 'pyodbc'\", name='pyodbc')", "pip install 'streamproc[sqlserver]'"),
        ("ImportError('libodbc.so.2: cannot open shared object file')", "apt install libodbc2"),
    ],
)  # fmt: skip
def test_what_pyodbc_lacks_is_named(tmp_path: Path, raised: str, advice: str) -> None:
    """Itself, or the driver manager's library, as Python says it on a machine that has none."""
    (tmp_path / "pyodbc.py").write_text(f"raise {raised}")
    code = (
        "from streamproc.errors import StoreError\nfrom streamproc.store.sqlserver import driver\n"
        "try:\n    driver.find(None)\nexcept StoreError as error:\n    print(error)"
    )
    paths = [str(tmp_path), *(path for path in sys.path if path)]
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert advice in result.stdout
