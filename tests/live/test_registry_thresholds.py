"""Limits in a SQL Server's `alert_thresholds` on their way to gateways and workers, by the command."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from streamproc.records import Range
from streamproc.registry import Registry
from tests.live.databases import Server, server
from tests.live.processes import SOON_S, Site
from tests.store.tsql import on_a_server

pytestmark = [
    on_a_server,
    pytest.mark.timeout(600),
]  # the command four times, 40 s each on a machine with others' work


@pytest.fixture
async def database(site: Site) -> AsyncIterator[Server]:
    """The site's database, with a sensor that has limits."""
    async with server() as made:
        site.held = made
        made.execute("INSERT INTO dbo.sensors (stream_key, unit) VALUES (N'boiler', N'C')")
        made.execute(
            "INSERT INTO dbo.alert_thresholds (sensor_id, name, condition_type, threshold_value_min, severity)"
            " SELECT id, N'hot', N'greater_than', 90, N'critical' FROM dbo.sensors"
        )
        yield made


async def take_over(site: Site) -> str:
    """What the command tells."""
    stage = await site.start("registry", "-m", "streamproc", "registry", "import", "--from-thresholds")
    code = await stage.ended()
    text = stage.log.read_text()
    assert code == 0, text
    return text


async def test_limits_reach_those_who_judge_and_only_changes_are_sent(site: Site, database: Server) -> None:
    """The first time, where one was changed, and one that was switched off; what has not changed is not sent again."""
    view = await asyncio.wait_for(Registry(site.bootstrap, f"{site.prefix}registry").start(), SOON_S)
    try:
        assert "1 sensor saved and sent" in await take_over(site)
        await asyncio.wait_for(view.caught_up(), SOON_S)
        entry = view.entries["boiler"]
        assert (entry.unit, entry.critical, entry.version) == ("C", Range(high=90.0), 2)
        position = view.log.position
        assert "nothing to do" in await take_over(site)
        await asyncio.wait_for(view.caught_up(), SOON_S)
        assert view.log.position == position
        database.execute("UPDATE dbo.alert_thresholds SET threshold_value_min = 80.5")
        await take_over(site)
        await asyncio.wait_for(view.caught_up(), SOON_S)
        assert view.entries["boiler"].critical == Range(high=80.5)
        database.execute("UPDATE dbo.alert_thresholds SET is_active = 0")
        await take_over(site)
        await asyncio.wait_for(view.caught_up(), SOON_S)
        assert view.entries["boiler"].critical is None
    finally:
        await view.stop()
