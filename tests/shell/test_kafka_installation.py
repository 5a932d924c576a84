"""Where Kafka's jars are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamproc.errors import BrokerError
from streamproc.kafka.installation import install


async def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """By the setting that names another place; `dev` ended without a word."""
    (tmp_path / "file").touch()
    with pytest.raises(BrokerError) as error:
        await install(print, tmp_path / "file")
    (home,) = [word for word in str(error.value).split() if word.startswith(str(tmp_path))]
    assert str(error.value) == f"XDG_CACHE_HOME: cannot keep Kafka in {home} Not a directory"
