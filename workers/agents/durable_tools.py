"""Tools that run once: a call that gave something back in an earlier attempt gives it back again, and does nothing.

A call that was cut off runs again, with the same idempotency key. A tool whose effect cannot be repeated safely is
marked with `once`: its unfinished call is not made again, and the model is told so.
"""

import copy
import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from agents import FunctionTool
from agents.tool_context import ToolContext as SdkToolContext
from chatkit.agents import AgentContext, ClientToolCall

from schemas.chatkit import ThreadMetadata
from workers.agents.feed import CURRENT_CALL, CURRENT_FEED, ToolCall, ToolEvent, TurnFeed
from workers.agents.ports import Turn
from workers.agents.steps import ToolStep, begun_step, tool_step
from workers.telemetry.spans import span

log = logging.getLogger(__name__)

ONCE = "_chatkit_once"
DURABLE = "_chatkit_durable"

UNFINISHED = (
    "An earlier attempt began this call and was cut off: it may or may not have taken effect. It was not made again. "
    "Tell the user, and find out before you try it once more."
)

Invoke = Callable[[SdkToolContext[Any], str], Awaitable[Any]]


def idempotency_key() -> str:
    """Inside a tool: a key of this call that is the same in every attempt, for services that honour one.

    Raises:
        LookupError: no tool of a turn is running here.
    """
    call = CURRENT_CALL.get()
    if call is None:
        raise LookupError("no tool of a turn is running here")
    return call.key


def call_key() -> str:
    """`idempotency_key`; where no turn keeps a journal, so that nothing is ever made again, another one each time."""
    call = CURRENT_CALL.get()
    return call.key if call is not None else uuid.uuid4().hex


def once(tool: FunctionTool) -> FunctionTool:
    """Mark a tool whose effect must not be repeated: a call that was cut off is reported, not made again."""
    setattr(tool, ONCE, True)
    return tool


def durable(tool: FunctionTool) -> FunctionTool:
    """The tool with a journal before it. Tools are shared by teams, so this is a copy."""
    if hasattr(tool, DURABLE):
        return tool
    kept = copy.copy(tool)
    invoke, only_once = tool.on_invoke_tool, hasattr(tool, ONCE)

    async def run(context: SdkToolContext[Any], arguments: str) -> Any:
        feed = CURRENT_FEED.get()
        if feed is None or feed.journal is None:
            return await invoke(context, arguments)
        return await _DurableCall(feed, context, only_once=only_once).run(invoke, arguments)

    kept.on_invoke_tool = run
    setattr(kept, DURABLE, True)
    return kept


class _DurableCall:
    """One call of one tool in one turn."""

    def __init__(self, feed: TurnFeed, context: SdkToolContext[Any], *, only_once: bool) -> None:
        self._feed, self._tool_context, self._only_once = feed, context, only_once
        self._context: AgentContext[Any] = context.context
        turn: Turn = self._context.request_context
        self._turn = turn
        response, call_id = feed.response, context.tool_call_id
        self._step, self._begun = tool_step(response, call_id), begun_step(response, call_id)
        self._call = ToolCall(self._step, f"{turn.event_id}:{response}:{call_id}")

    async def run(self, invoke: Invoke, arguments: str) -> Any:
        if (entry := self._kept(self._step)) is not None:
            return self._again(ToolStep.of(entry))
        if self._only_once and self._kept(self._begun) is not None:
            tool = self._tool_context.tool_name
            log.warning("tool_not_repeated", extra={"event_id": self._turn.event_id, "tool": tool})
            return await self._keep(ToolStep(UNFINISHED))
        if self._only_once:
            await self._feed.end_step(self._begun, b"")
        before = _state_of(self._context.thread)
        output = await self._live(invoke, arguments)
        after, client = _state_of(self._context.thread), self._context.client_tool_call
        asked = {"name": client.name, "arguments": client.arguments} if client is not None else None
        return await self._keep(ToolStep(output, self._call.events, after if after != before else None, asked))

    def _kept(self, step: str) -> bytes | None:
        journal = self._feed.journal
        return journal.get(step) if journal is not None else None

    async def _live(self, invoke: Invoke, arguments: str) -> Any:
        token = CURRENT_CALL.set(self._call)
        try:
            tool = {"gen_ai.tool.name": self._tool_context.tool_name}
            with self._turn.id_scope(self._step), span("tool", attributes=tool):
                return await invoke(self._tool_context, arguments)
        finally:
            CURRENT_CALL.reset(token)

    async def _keep(self, step: ToolStep) -> Any:
        await self._feed.end_step(self._step, step.to_json())
        return step.output

    def _again(self, step: ToolStep) -> Any:
        """What the call has done to the turn, without doing it."""
        for event in step.events:
            self._feed.push(ToolEvent(event, self._step, replayed=True))
        if step.thread is not None:
            _restore(self._context.thread, step.thread)
        if step.client_call is not None:
            self._context.client_tool_call = ClientToolCall(**step.client_call)
        return step.output


def _state_of(thread: ThreadMetadata) -> dict[str, Any]:
    return thread.model_dump(mode="json", include={"title", "status", "metadata"})


def _restore(thread: ThreadMetadata, state: dict[str, Any]) -> None:
    changed = ThreadMetadata.model_validate(thread.model_dump() | state)
    thread.title, thread.status, thread.metadata = changed.title, changed.status, changed.metadata
