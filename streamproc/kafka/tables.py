"""A stand-in for Faust's table manager, as no stage has tables; nothing is read before it has started.

Faust 0.15.3 sleeps for a second in it, so that agents and tables can be declared meanwhile. That second would be part of
every start of a stage, and of how long a partition waits for a new owner.
"""

from __future__ import annotations

from collections.abc import Iterable

from faust.tables import TableManager

#: Between two looks at whether the agents read their topics: they do once the loop has gone round, in milliseconds.
_LOOK_S = 0.01


class NoTables(TableManager):
    """The manager for an app without tables: it is ready as soon as the agents are."""

    mundane_level = "debug"  # of its starts and stops

    async def on_start(self) -> None:
        """Wait for the agents, whose topics are subscribed to next; one that came later would be read after 45 s."""
        while not self.should_stop and not self._agents_read():
            await self.sleep(_LOOK_S)
        if not self.should_stop:
            await self._update_channels()
            await self.recovery.start()

    def _agents_read(self) -> bool:
        """Whether each agent goes over its topics; Faust's conductor knows those that somebody goes over."""
        return _names(self.app.topics) >= _names(agent.channel for agent in self.app.agents.values())


def _names(channels: Iterable[object]) -> set[str]:
    """The names of the topics of these channels."""
    return {name for channel in channels for name in getattr(channel, "topics", ())}
