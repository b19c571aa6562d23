"""How often a turn may be handed over, and which handoffs leave this worker for the queue of the agent."""

from collections.abc import Mapping
from typing import Any

from agents import Agent, RunContextWrapper, RunHooks
from chatkit.agents import AgentContext

from workers.agents.feed import TurnFeed
from workers.agents.ports import Turn
from workers.agents.steps import steps_from
from workers.errors import HandedOverError, LoopError

MAX_HOPS = 5
"""Handoffs of one turn. Three agents that each do their part need two or three."""


class Handoffs(RunHooks[AgentContext[Any]]):
    """Counts the handoffs of one run, and ends it where another queue is to go on.

    What leaves is complete: the response that handed over is in the journal, so whoever takes the turn up replays it
    and goes on with the agent that it names. Handoffs that a journal replays count, so the limit holds over all queues.
    """

    def __init__(self, feed: TurnFeed, turn: Turn, most: int, queues: Mapping[str, str]) -> None:
        """`queues`: of the agents, by their names, that go on in a queue of their own."""
        self._feed, self._turn = feed, turn
        self._most, self._queues = most, queues
        self._path = list[str]()

    async def on_handoff(
        self,
        context: RunContextWrapper[AgentContext[Any]],
        from_agent: Agent[AgentContext[Any]],
        to_agent: Agent[AgentContext[Any]],
    ) -> None:
        """Called with each handoff, when the user has been told of it and before the next agent begins.

        Raises:
            LoopError: it is one more than there may be.
            HandedOverError: the next agent begins elsewhere.
        """
        self._path = self._path or [from_agent.name]
        self._path.append(to_agent.name)
        if len(self._path) - 1 > self._most:
            raise LoopError(f"handed over more than {self._most} times: {' > '.join(self._path)}")
        queue = self._queues.get(to_agent.name)
        if queue is None or queue == self._turn.queue or not self._can_leave():
            return
        if self._turn.hops >= self._most:  # the journals did not fit the runs, or the path would have told
            raise LoopError(f"changed queues more than {self._most} times, to {queue} at last")
        raise HandedOverError(to_agent.name, queue)

    def _can_leave(self) -> bool:
        """Whether all so far is in the journal, and nothing beyond it: what comes after has begun, here or there."""
        journal = self._feed.journal
        return journal is not None and journal.complete and not steps_from(self._feed.response + 1, journal.steps())
