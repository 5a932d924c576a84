"""Loads the settings for a command, and sets up logging as they say."""

# ruff: noqa: PLC0415  # as the commands do: `--help` is quick

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamproc.settings import Settings


def loaded(**overrides: object) -> Settings:
    """Load the settings, but for those given, and have logs written as they say."""
    from streamproc.cli.logs import configure
    from streamproc.settings import load

    settings = load(**overrides)
    configure(settings.log_level)
    return settings
