"""Backends as tools of an agent: typed, offered to the tenants that may use them, their results bounded and clean."""

import copy
import json
from collections.abc import Iterable
from typing import Any

from agents import AgentBase, FunctionTool
from agents.tool_context import ToolContext as SdkToolContext

from schemas.chatkit import ProgressUpdateEvent
from workers.agents.durable_tools import durable, idempotency_key, once
from workers.agents.hygiene import clean
from workers.agents.ports import ToolContext, Turn
from workers.backends.guard import GuardedBackend
from workers.backends.ports import Answer, Caller

CUT = "\n[The rest of the answer was left out: it was too long.]"


def backend_tools(backends: Iterable[GuardedBackend]) -> list[FunctionTool]:
    """A tool for each."""
    return [backend_tool(backend) for backend in backends]


def backend_tool(backend: GuardedBackend) -> FunctionTool:
    """The backend as a tool. One whose effect must not be repeated is marked `once`."""
    declaration = backend.declaration

    async def invoke(context: SdkToolContext[Any], arguments: str) -> str:
        turn: Turn = context.context.request_context
        await context.context.stream(ProgressUpdateEvent(text=f"Asking {backend.name.replace('_', ' ')}"))
        return bounded(await backend.call(arguments, _caller(context, turn)), declaration.max_result_bytes)

    async def is_enabled(wrapper: ToolContext, agent: AgentBase) -> bool:
        turn: Turn = wrapper.context.request_context
        if not declaration.serves(turn.tenant) or (described := await backend.describe()) is None:
            return False
        tool.description, tool.params_json_schema = clean(described.text), described.parameters
        return True

    async def needs_approval(_wrapper: ToolContext, arguments: dict[str, Any], _call_id: str) -> bool:
        """Nobody is asked about a call that will not be made, since its arguments do not fit."""
        described = await backend.describe()
        return described is None or described.schema.problem(json.dumps(arguments)) is None

    tool = FunctionTool(
        name=backend.name,
        description=declaration.description,
        params_json_schema=copy.deepcopy(declaration.parameters),
        on_invoke_tool=invoke,
        strict_json_schema=False,  # the schema is the service's, and strict ones allow no optional fields
        is_enabled=is_enabled,
        needs_approval=needs_approval if declaration.approval else False,
    )
    tool = durable(once(tool) if declaration.retry == "never" else tool)  # what is offered is this one
    return tool


def bounded(answer: Answer, most: int) -> str:
    """The text without invisible characters and forged tags, cut to so many bytes."""
    encoded = clean(answer.text).encode()
    if len(encoded) <= most and not answer.is_cut:
        return encoded.decode()
    return encoded[:most].decode(errors="ignore") + CUT


def _caller(context: SdkToolContext[Any], turn: Turn) -> Caller:
    try:
        key = idempotency_key()
    except LookupError:  # a turn that keeps no journal is not repeated
        key = f"{turn.event_id}:{context.tool_call_id}"
    return Caller(turn.tenant, turn.user, key, turn.event_id, turn.traceparent)
