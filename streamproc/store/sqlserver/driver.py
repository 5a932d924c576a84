"""Finds the ODBC driver, and tells it where the database is."""

from __future__ import annotations

import ctypes
import platform
import re
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from streamproc.errors import StoreError
from streamproc.settings import Settings

#: In the order in which they are taken; 18 encrypts unless it is told not to, 17 knows all that is used here.
MICROSOFT = ("ODBC Driver 18 for SQL Server", "ODBC Driver 17 for SQL Server")
#: The package that has Microsoft's driver 18 inside; its licence is Microsoft's own.
PACKAGE = "mssql_python_odbc"
INSTALL = "pip install 'streamproc[sqlserver]'"
#: What the driver manager and the driver themselves need, by the families of Linux.
SYSTEM = "apt install libodbc2 libgssapi-krb5-2 (Debian, Ubuntu), unixODBC krb5-libs (Red Hat), unixodbc krb5-libs (Alpine)"
#: SQL Server cuts a program's name off here (sys.dm_exec_sessions.program_name is NVARCHAR(128)).
_APP_LIMIT = 128


@dataclass(frozen=True, slots=True)
class Driver:
    """An ODBC driver: the name that it is installed by or the path of its library, and where it was found."""

    name: str
    found: str


def pyodbc() -> Any:
    """The module pyodbc; raises StoreError that says what to install where it cannot be imported."""
    try:
        module: Any = import_module("pyodbc")
    except ModuleNotFoundError as error:
        raise StoreError(f"the database on SQL Server needs another package: {INSTALL}") from error
    except ImportError as error:  # its library is there, one that this one needs is not
        raise StoreError(f"pyodbc cannot be loaded ({error}); install what is missing: {SYSTEM}") from error
    # The driver manager's own pool, where odbcinst.ini turns it on, hands out connections that are long gone.
    module.pooling = False
    return module


def find(wanted: str | None) -> Driver:
    """The driver that ODBC_DRIVER asks for, or the best there is; raises StoreError where there is none."""
    return choose(wanted, pyodbc().drivers(), bundled())


def choose(wanted: str | None, installed: Sequence[str], inside: Path | None) -> Driver:
    """The driver to take of those `installed` in the system and the one `inside` the package, or a StoreError.

    >>> choose(None, ["FreeTDS", "ODBC Driver 17 for SQL Server"], None).name
    'ODBC Driver 17 for SQL Server'
    """
    if wanted is not None:
        return _asked_for(wanted.strip("{}"), installed)
    for name in MICROSOFT:
        if name in installed:
            return Driver(name, "installed in the system")
    if inside is not None:
        return Driver(str(inside), f"inside the package {PACKAGE.replace('_', '-')}")
    raise StoreError(
        f"no ODBC driver for SQL Server was found ({_told(installed)}): {INSTALL} brings one along, or install Microsoft's"
        f" {MICROSOFT[0]}, or name another in ODBC_DRIVER"
    )


def _asked_for(wanted: str, installed: Sequence[str]) -> Driver:
    if "/" in wanted or wanted.endswith((".so", ".dylib", ".dll")):
        if not Path(wanted).is_file():
            raise StoreError(f"ODBC_DRIVER: there is no file {wanted}")
        return Driver(wanted, "named by ODBC_DRIVER")
    if wanted in installed:
        return Driver(wanted, "named by ODBC_DRIVER, installed in the system")
    raise StoreError(f"ODBC_DRIVER: no driver {wanted!r} is installed ({_told(installed)})")


def _told(installed: Sequence[str]) -> str:
    return f"installed: {', '.join(sorted(installed))}" if installed else "none is installed"


def bundled() -> Path | None:
    """The driver's library inside the package, as this machine needs it; None where there is none."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return None
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    musl = "musl" in (sysconfig.get_config_var("SOABI") or "")
    return library(
        Path(spec.origin).parent / "libs", (platform.system(), platform.machine()), release, musl=musl
    )


def library(libs: Path, machine: tuple[str, str], release: Mapping[str, str], *, musl: bool) -> Path | None:
    """The library in the package's folder `libs` for a system and its architecture, as `platform` calls them.

    On Linux the folders are by distribution: what is built for one may load on another with the same C library, so the others
    are tried after the own one, which os-release (`release`) tells.
    """
    system, architecture = machine
    arch = "arm64" if architecture in ("aarch64", "arm64") else "x86_64"
    if system == "Darwin":
        return _newest(libs / "macos" / arch / "lib", "libmsodbcsql*.dylib")
    if system != "Linux":
        return None  # Windows loads only what is installed
    folders = (
        ("alpine",) if musl else sorted(("debian_ubuntu", "rhel", "suse"), key=_distribution(release).__ne__)
    )
    found = (_newest(libs / "linux" / folder / arch / "lib", "libmsodbcsql-*.so*") for folder in folders)
    return next((path for path in found if path is not None), None)


def _distribution(release: Mapping[str, str]) -> str:
    """The package's folder for a distribution.

    >>> _distribution({"ID": "rocky", "ID_LIKE": "rhel centos fedora"}), _distribution({"ID": "ubuntu"})
    ('rhel', 'debian_ubuntu')
    """
    names = {release.get("ID", ""), *release.get("ID_LIKE", "").split()}
    if names & {"rhel", "fedora", "centos"}:
        return "rhel"
    return "suse" if any("suse" in name or name == "sles" for name in names) else "debian_ubuntu"


def _newest(folder: Path, pattern: str) -> Path | None:
    found = [path for path in folder.glob(pattern) if path.is_file()]
    return max(
        found, key=lambda path: [int(digits) for digits in re.findall(r"\d+", path.name)], default=None
    )


def unloadable(driver: Driver) -> str | None:
    """Why a driver given by path cannot be loaded; None if it can.

    The driver manager says "file not found" of a library that is there and lacks another.
    """
    if "/" not in driver.name:
        return None
    try:
        ctypes.CDLL(driver.name)
    except OSError as error:
        return str(error)
    return None


def connection_string(settings: Settings, driver: Driver, process: str) -> str:
    """What ODBC is given to connect `process` to the database; it holds the password.

    ConnectRetryCount=0: the driver would reconnect in silence, within a transaction's life, and its settings be gone.
    """
    assert settings.db_host is not None, "load() has seen to it"
    password = settings.db_password.get_secret_value() if settings.db_password else ""
    return written(
        {
            "Driver": driver.name,
            "Server": f"{settings.db_host},{settings.db_port}",
            "Database": settings.db_name,
            "UID": settings.db_user or "",
            "PWD": password,
            "APP": f"streamproc-{process}"[:_APP_LIMIT],
            "Encrypt": "yes" if settings.db_encrypt else "no",
            "TrustServerCertificate": "yes" if settings.db_trust_server_certificate else "no",
            "MARS_Connection": "no",
            "ConnectRetryCount": "0",
        }
    )


def written(values: Mapping[str, str]) -> str:
    """A connection string: each value in braces, where only the closing one is written twice.

    >>> written({"UID": "sa", "PWD": "a;b}=c"})
    'UID={sa};PWD={a;b}}=c}'
    """
    return ";".join(f"{name}={{{value.replace('}', '}}')}}}" for name, value in values.items())
