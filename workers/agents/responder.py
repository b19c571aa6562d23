"""The responder: one turn of a thread through the agents, as ChatKit's stream events."""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agents import MaxTurnsExceeded, RunConfig, Runner, RunResultStreaming
from chatkit.agents import AgentContext, stream_agent_response

from schemas.chatkit import (
    AssistantMessageContent,
    AssistantMessageItem,
    ThreadItem,
    ThreadItemDoneEvent,
    ThreadItemRemovedEvent,
    ThreadStreamEvent,
)
from workers.agents.classify import classify
from workers.agents.feed import TurnFeed
from workers.agents.history import HistoryConverter
from workers.agents.item_ids import MessageIds
from workers.agents.ports import Turn
from workers.agents.team import Team

AGENT_KEY = "agent"
"""Key of the thread's metadata that names the agent of the last answer: a handoff sticks."""

MAX_STEPS = 12
"""Model calls in one turn. More of them is a loop."""

TOO_MANY_STEPS = "I could not finish this within one turn. Tell me which part matters most and I will go on from there."

CONVERTER = HistoryConverter()


@dataclass(frozen=True, slots=True)
class AgentResponder:
    """Answers a thread with a team of agents. Implements `workers.chat.ports.Responder`.

    Args:
        team: the agents.
        max_steps: model calls per turn; one more ends the turn with a message instead of an error.
    """

    team: Team
    max_steps: int = MAX_STEPS

    async def respond(
        self, agent_context: AgentContext[Any], items: Sequence[ThreadItem], active_agent: str | None
    ) -> AsyncIterator[ThreadStreamEvent]:
        """Stream the answer to the last of `items`.

        Args:
            agent_context: of this turn alone; its thread's metadata learns which agent answered.
            items: the thread's items, oldest first.
            active_agent: name of the agent that answered last, if any.

        Raises:
            WorkersError: the run failed, classified by what can be done about it.
        """
        feed = TurnFeed()
        ids = MessageIds(agent_context.generate_id("message"), feed)
        agent_context._events = feed.tool_events  # noqa: SLF001  # the only way to give a turn its own queue
        failure: Exception | None = None
        run: RunResultStreaming | None = None
        try:
            run = Runner.run_streamed(
                self.team.answering(active_agent),
                await CONVERTER.to_agent_input(list(items)),
                context=agent_context,
                max_turns=self.max_steps,
                run_config=RunConfig(tracing_disabled=True, trace_include_sensitive_data=False),
            )
            feed.start(run)
            # `feed` offers the one method of a run that the converter calls
            async with aclosing(stream_agent_response(agent_context, feed)) as events:  # type: ignore[arg-type,type-var]
                async for event in events:
                    if isinstance(event, ThreadItemRemovedEvent):
                        for removal in ids.removals(event):
                            yield removal
                        continue
                    ids.rewrite(event)
                    yield event
        except MaxTurnsExceeded:
            yield _message(agent_context, ids.unwritten(), TOO_MANY_STEPS)
        except Exception as error:  # noqa: BLE001  # classified below; what is none of ours is raised as it is
            failure = classify(error) or error
        finally:
            await feed.close()
            if run is not None:
                _record_usage(agent_context, run)
        if failure is not None:
            raise failure  # outside of the handler: a foreign error's text may hold the prompt, so it is no context
        if run is not None:
            _stick(agent_context, run.last_agent.name)


def _stick(context: AgentContext[Any], agent: str) -> None:
    if context.thread.metadata.get(AGENT_KEY) != agent:
        context.thread.metadata[AGENT_KEY] = agent


def _record_usage(context: AgentContext[Any], run: RunResultStreaming) -> None:
    turn: Turn = context.request_context
    usage = run.context_wrapper.usage
    turn.add_usage(requests=usage.requests, input_tokens=usage.input_tokens, output_tokens=usage.output_tokens)


def _message(context: AgentContext[Any], item_id: str, text: str) -> ThreadItemDoneEvent:
    item = AssistantMessageItem(
        id=item_id,
        thread_id=context.thread.id,
        created_at=datetime.now(),  # noqa: DTZ005  # ChatKit's times are naive and local
        content=[AssistantMessageContent(text=text)],
    )
    return ThreadItemDoneEvent(item=item)
