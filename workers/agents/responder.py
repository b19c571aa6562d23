"""The responder: one turn of a thread through the agents, as ChatKit's stream events."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, cast

from agents import (
    InputGuardrailTripwireTriggered,
    MaxTurnsExceeded,
    Model,
    OutputGuardrailTripwireTriggered,
    RunConfig,
    Runner,
    RunResultStreaming,
)
from chatkit.agents import AgentContext
from chatkit.types import AssistantMessageContentPartTextDelta
from openai.types.responses import ResponseTextDeltaEvent

from schemas.chatkit import (
    AssistantMessageContent,
    AssistantMessageItem,
    ThreadItem,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemUpdatedEvent,
    ThreadStreamEvent,
)
from workers.agents.addresses import Addresses
from workers.agents.approvals import Restored, asked_calls, decide, restored, state_of
from workers.agents.choices import chosen_tool, with_tool
from workers.agents.classify import classify
from workers.agents.conversion import Conversion
from workers.agents.feed import CURRENT_FEED, JointEnd, ModelEvent, Shows, StepEnd, TurnFeed
from workers.agents.hops import MAX_HOPS, Handoffs
from workers.agents.item_ids import MessageIds
from workers.agents.output import OutputFilter
from workers.agents.ports import Turn
from workers.agents.team import ChatAgent, Team
from workers.agents.usage import NOTHING, count_usage, paid_by
from workers.agents.window import Window

AGENT_KEY = "agent"
"""Key of the thread's metadata that names the agent of the last answer: a handoff sticks."""

MAX_STEPS = 12
"""Model calls in one turn. More of them is a loop."""

TOO_MANY_STEPS = "I could not finish this within one turn. Tell me which part matters most and I will go on from there."

TOO_LONG_TO_WAIT = (
    "This needs your consent, and the conversation has become too long to wait for it, so nothing was done. Please ask "
    "for it in a new conversation."
)

Begin = Callable[[], Awaitable[tuple[ChatAgent, list[Any] | Restored]]]
"""Gives the agent that runs, and what it runs on."""


@dataclass(frozen=True, slots=True)
class AgentResponder:
    """Answers a thread with a team of agents. Implements `workers.chat.ports.Responder`.

    Args:
        team: the agents.
        others: the same agents on another model, by its name, for turns that are to use that one.
        max_steps: model calls per turn; one more ends the turn with a message instead of an error.
        max_hops: handoffs per turn; one more is a LoopError.
        addresses: what answers may point to.
        window: how much of the thread the agents read.
        queues: of the agents, by their names, that a handoff reaches in a queue of their own; the others go on here.
    """

    team: Team
    max_steps: int = MAX_STEPS
    max_hops: int = MAX_HOPS
    window: Window = field(default_factory=Window)
    others: Mapping[str, Team] = field(default_factory=dict)
    addresses: Addresses = field(default_factory=Addresses)
    queues: Mapping[str, str] = field(default_factory=dict)

    async def respond(
        self, agent_context: AgentContext[Any], items: Sequence[ThreadItem], active_agent: str | None
    ) -> AsyncIterator[ThreadStreamEvent]:
        """Stream the answer to the last of `items`.

        Args:
            agent_context: of this turn alone; its thread's metadata learns which agent answered.
            items: the thread's items, oldest first.
            active_agent: name of the agent that answered last, if any.

        Raises:
            HandedOverError: another queue goes on.
            WorkersError: the run failed, classified by what can be done about it.
        """
        async for event in self._answer(agent_context, partial(self._begin, agent_context, items, active_agent)):
            yield event

    async def resume(
        self, agent_context: AgentContext[Any], state: str, *, approve: bool
    ) -> AsyncIterator[ThreadStreamEvent] | None:
        """Go on with a run that waited for the user's consent; no tool runs before the first event is asked for.

        Args:
            agent_context: of the turn that goes on, in any process.
            state: the run, as the earlier turn gave it to `Turn.ask_approval`.
            approve: whether the calls that it waits with are made; else the agents are told that they were rejected.

        Returns:
            None: it cannot be gone on with, since its agents or tools have changed or are away.

        Raises:
            WorkersError: as `respond` does.
        """
        first = self._team_of(agent_context).agents[0]
        run = await restored(first, state, agent_context)
        if run is None:
            return None
        decide(run, approve=approve)

        async def begin() -> tuple[ChatAgent, Restored]:
            return first, run

        return self._answer(agent_context, begin)

    def _team_of(self, context: AgentContext[Any]) -> Team:
        return self.others.get(context.request_context.model, self.team)

    async def _begin(
        self, context: AgentContext[Any], items: Sequence[ThreadItem], active_agent: str | None
    ) -> tuple[ChatAgent, list[Any]]:
        team = self._team_of(context)
        agent = with_tool(team, team.answering(context.request_context.agent or active_agent), chosen_tool(items))
        model = cast("Model", agent.model)  # the team has made sure
        return agent, await self.window.input_of(context, items, model)

    async def _answer(self, agent_context: AgentContext[Any], begin: Begin) -> AsyncGenerator[ThreadStreamEvent, None]:
        """Run the agents on what `begin` gives, as a stream of what is shown."""
        failure: Exception | None = None
        ids = MessageIds(agent_context.generate_id("message"))
        turn: Turn = agent_context.request_context
        feed = TurnFeed(turn.next_call, turn.journal, turn.joints)
        agent_context._events = feed.tool_events  # noqa: SLF001  # the only way to give a turn a queue of its own
        run: RunResultStreaming | None = None
        paid = NOTHING
        try:
            run = self._start(feed, agent_context, *await begin())
            paid = paid_by(run)  # of a run that goes on: what it cost before it waited
            async with aclosing(_frames(agent_context, feed, ids, OutputFilter(self.addresses))) as frames:
                async for frame in frames:
                    yield frame
            if run.interruptions and not _ask(turn, run):
                yield _message(agent_context, ids.unwritten(), TOO_LONG_TO_WAIT)
        except MaxTurnsExceeded:
            yield _message(agent_context, ids.unwritten(), TOO_MANY_STEPS)
        except Exception as error:  # noqa: BLE001  # classified; what is no failure of a call is raised as it is
            failure = classify(error) or error
        finally:
            await feed.close()
            if run is not None:
                count_usage(turn, run, paid)
        if failure is not None:
            raise failure  # outside of the handler: a foreign error's text may hold the prompt, so it is no context
        # a route is for this turn alone, a handoff for those that follow as well
        if run is not None and run.last_agent.name != self.team.names.get(turn.agent or ""):
            _stick(agent_context, run.last_agent.name)

    def _start(
        self, feed: TurnFeed, context: AgentContext[Any], agent: ChatAgent, input_: list[Any] | Restored
    ) -> RunResultStreaming:
        turn: Turn = context.request_context
        token = CURRENT_FEED.set(feed)
        try:
            # the run is a task, which copies the current context here and now
            run = Runner.run_streamed(
                agent,
                input_,
                context=context,
                max_turns=self.max_steps,
                hooks=Handoffs(feed, turn, self.max_hops, self.queues),
                run_config=RunConfig(tracing_disabled=True, trace_include_sensitive_data=False),
            )
        finally:
            CURRENT_FEED.reset(token)
        feed.watch(run)
        return run


async def _frames(
    context: AgentContext[Any], feed: TurnFeed, ids: MessageIds, output: OutputFilter
) -> AsyncGenerator[ThreadStreamEvent, None]:
    """The frames of a turn in order, each step kept when all of it has been handed on."""
    conversion, items, turn = Conversion(context), StepItems(), context.request_context
    try:
        while (event := await feed.next()) is not None:
            if isinstance(event, StepEnd | JointEnd):
                await _keep(event, turn, items)
                continue
            turn.replaying = event.replayed
            for frame in output.of_all(await _frames_of(event, conversion, ids)):
                items.note(event.step, frame)
                yield frame
        turn.replaying = False
        for frame in output.of_all(await conversion.finish()):
            yield frame
    except MaxTurnsExceeded:
        turn.replaying = False
        for frame in output.of_all(await conversion.finish()):  # what was begun ends properly before the last message
            yield frame
        raise
    except (InputGuardrailTripwireTriggered, OutputGuardrailTripwireTriggered) as error:
        turn.replaying = False
        for frame in ids.removals(await conversion.finish(error)):
            yield frame
        raise
    finally:
        await conversion.close()


async def _frames_of(event: Shows, conversion: Conversion, ids: MessageIds) -> Sequence[ThreadStreamEvent]:
    """The frames of one event. Text deltas, nearly all of them, take the short way."""
    if not isinstance(event, ModelEvent):
        return await conversion.convert(event)
    if isinstance(event.data, ResponseTextDeltaEvent):
        return (_text_delta(ids.at(event.response, event.data.output_index), event.data),)
    frames = await conversion.convert(event)
    for frame in frames:
        ids.rewrite(frame, event)
    return frames


class StepItems:
    """The items that each step has shown so far."""

    def __init__(self) -> None:
        self._ids: dict[str, dict[str, None]] = {}

    def note(self, step: str, frame: ThreadStreamEvent) -> None:
        """Count a frame in, if it shows an item."""
        if isinstance(frame, ThreadItemAddedEvent | ThreadItemDoneEvent):
            self._ids.setdefault(step, {})[frame.item.id] = None

    def take(self, step: str) -> list[str]:
        """The ids of a step that is complete."""
        return list(self._ids.pop(step, ()))


async def _keep(end: StepEnd | JointEnd, turn: Turn, items: StepItems) -> None:
    """All before this event has been handed on, one after another: what the journal is to rely on is on its way."""
    if isinstance(end, JointEnd):
        if turn.joints is not None:
            await turn.joints.commit()
        return
    assert turn.journal is not None  # noqa: S101  # steps end only where they are kept
    await turn.journal.put(end.step, end.entry, items.take(end.step))
    if not end.kept.done():  # the run may have been cancelled meanwhile
        end.kept.set_result(None)


def _text_delta(item_id: str, data: ResponseTextDeltaEvent) -> ThreadItemUpdatedEvent:
    """What ChatKit's converter makes of a text delta."""
    update = AssistantMessageContentPartTextDelta(content_index=data.content_index, delta=data.delta)
    return ThreadItemUpdatedEvent(item_id=item_id, update=update)


def _stick(context: AgentContext[Any], agent: str) -> None:
    if context.thread.metadata.get(AGENT_KEY) != agent:
        context.thread.metadata[AGENT_KEY] = agent


def _ask(turn: Turn, run: RunResultStreaming) -> bool:
    """Have the run wait for the user's consent; False: it is too large to be kept."""
    state = state_of(run)
    if state is None:
        return False
    turn.ask_approval(asked_calls(run), state)
    return True


def _message(context: AgentContext[Any], item_id: str, text: str) -> ThreadItemDoneEvent:
    item = AssistantMessageItem(
        id=item_id,
        thread_id=context.thread.id,
        created_at=datetime.now(),  # noqa: DTZ005  # ChatKit's times are naive and local
        content=[AssistantMessageContent(text=text)],
    )
    return ThreadItemDoneEvent(item=item)
