"""The databases that the sink writes to: one protocol, and the store that the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamproc.errors import StoreError, why

if TYPE_CHECKING:
    from streamproc.settings import Settings
    from streamproc.store.job_runs import JobStore
    from streamproc.store.protocol import Store

__all__ = ["connect", "connect_jobs", "must_exist"]


def must_exist(settings: Settings) -> None:
    """Raise StoreError where the SQLite file is not there: an empty one would say that all is well, or take an edit alone."""
    path = settings.database_path
    try:
        is_there = settings.store != "sqlite" or path.exists()
    except OSError as error:  # in a folder that one may not look into, say
        raise StoreError(f"{path}: {why(error)}") from error
    if not is_there:
        raise StoreError(
            f"there is no database at {path}: STREAMPROC_DATA_DIR or STREAMPROC_DATABASE says where it is; "
            "the sink makes it, and so do `db migrate` and `registry import`"
        )


def connect(settings: Settings, *, process: str = "sink", migrates: bool = True) -> Store:
    """The store that the settings name, not opened yet; unless it `migrates`, a schema that is behind is an error.

    A SQL Server's schema is never changed by a store: `streamproc db migrate` does that. `process` is the name by which the
    server knows the connections. Raises StoreError where what SQL Server needs is not installed.
    """
    if settings.store == "sqlserver":
        from streamproc.store.sqlserver.store import opened  # noqa: PLC0415  # only who has one needs its packages

        return opened(settings, process)
    from streamproc.store.sqlite.store import SqliteStore  # noqa: PLC0415  # workers and gateways know edits alone: a start's 50 ms

    return SqliteStore(settings.database_path, auto_register=settings.auto_register, migrates=migrates)


def connect_jobs(settings: Settings) -> JobStore:
    """The same database as jobs see it, not opened yet; raises StoreError as `connect` does."""
    if settings.store == "sqlserver":
        from streamproc.store.sqlserver.jobs import SqlServerJobs  # noqa: PLC0415  # as above
        from streamproc.store.sqlserver.store import opened  # noqa: PLC0415

        return SqlServerJobs(opened(settings, "jobs"))
    from streamproc.store.sqlite.jobs import SqliteJobs  # noqa: PLC0415
    from streamproc.store.sqlite.store import SqliteStore  # noqa: PLC0415

    return SqliteJobs(SqliteStore(settings.database_path))
