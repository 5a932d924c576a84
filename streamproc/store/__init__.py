"""The databases that the sink writes to: one protocol, and the store that the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamproc.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from streamproc.settings import Settings
    from streamproc.store.protocol import Store

__all__ = ["SqliteStore", "connect"]


def connect(settings: Settings, *, migrates: bool = True) -> Store:
    """The store that the settings name, not opened yet; unless it `migrates`, a schema that is behind is an error."""
    return SqliteStore(settings.database_path, auto_register=settings.auto_register, migrates=migrates)
