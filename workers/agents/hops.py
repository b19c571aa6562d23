"""How often a turn may be handed over."""

from typing import Any

from agents import Agent, RunContextWrapper, RunHooks
from chatkit.agents import AgentContext

from workers.errors import LoopError

MAX_HOPS = 5
"""Handoffs of one turn. Three agents that each do their part need two or three."""


class HopLimit(RunHooks[AgentContext[Any]]):
    """Counts the handoffs of one run; raises LoopError at one more than there may be."""

    def __init__(self, most: int) -> None:
        self._most, self._path = most, list[str]()

    async def on_handoff(
        self,
        context: RunContextWrapper[AgentContext[Any]],
        from_agent: Agent[AgentContext[Any]],
        to_agent: Agent[AgentContext[Any]],
    ) -> None:
        """Called with each handoff, before the next agent begins; also with those that a journal replays."""
        self._path = self._path or [from_agent.name]
        self._path.append(to_agent.name)
        if len(self._path) - 1 > self._most:
            raise LoopError(f"handed over more than {self._most} times: {' > '.join(self._path)}")
