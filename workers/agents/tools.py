"""The agents' tools. What a tool shows goes through the turn's `AgentContext`, so it becomes frames of the turn."""

import json
from datetime import datetime
from typing import Any, Literal

from agents import FunctionTool, function_tool
from chatkit.agents import ClientToolCall
from chatkit.types import (
    ClosedStatus,
    StructuredInput,
    StructuredInputFreeform,
    StructuredInputMultipleChoice,
    StructuredInputMultipleChoiceOption,
)
from pydantic import BaseModel, Field

from schemas.chatkit import (
    ActiveStatus,
    LockedStatus,
    NoticeEvent,
    ProgressUpdateEvent,
    StructuredInputItem,
    ThreadItemDoneEvent,
)
from workers.agents.failures import report_failure
from workers.agents.ports import ServiceDirectory, ToolContext, Turn

STOPPING_TOOLS = ("call_client_tool", "ask_user")
"""After these the turn ends: the page or the user answers with an event of its own."""

LOOK_UP_SECONDS = 10.0
"""Deadline of a look-up. The model is told of a miss and can say so; the turn goes on."""


class Question(BaseModel):
    """One question of a structured input."""

    id: str = Field(description="Short stable id of the question.", max_length=64)
    question: str = Field(description="The question as the user reads it.", max_length=500)
    options: list[str] = Field(default_factory=list, description="Choices; none asks for free text.", max_length=12)
    multiple: bool = Field(default=False, description="Whether several choices may be picked.")


@function_tool(failure_error_function=report_failure)
async def set_thread_title(wrapper: ToolContext, title: str) -> str:
    """Rename the conversation.

    Args:
        title: The new title, 1 to 120 characters.
    """
    title = " ".join(title.split())[:120]
    if not title:
        return "Not renamed: the title is empty."
    wrapper.context.thread.title = title
    return f"Renamed to {title!r}."


@function_tool(failure_error_function=report_failure)
async def set_thread_status(wrapper: ToolContext, status: Literal["active", "locked", "closed"], reason: str) -> str:
    """Open, lock or close the conversation for the user.

    Args:
        status: `locked` and `closed` keep the user from writing.
        reason: Shown in place of the composer's text; empty for `active`.
    """
    thread = wrapper.context.thread
    match status:
        case "active":
            thread.status = ActiveStatus()
        case "locked":
            thread.status = LockedStatus(reason=reason or None)
        case "closed":
            thread.status = ClosedStatus(reason=reason or None)
    return f"The conversation is {status}."


@function_tool(failure_error_function=report_failure)
async def show_notice(wrapper: ToolContext, message: str, level: Literal["info", "warning", "danger"]) -> str:
    """Show a short notice above the composer.

    Args:
        message: The text; Markdown is understood.
        level: How urgent it is.
    """
    await wrapper.context.stream(NoticeEvent(level=level, message=message))
    return "The notice is shown."


@function_tool(failure_error_function=report_failure)
async def show_progress(wrapper: ToolContext, text: str) -> str:
    """Tell the user what is being done right now.

    Args:
        text: A few words.
    """
    await wrapper.context.stream(ProgressUpdateEvent(text=text))
    return "Shown."


@function_tool(failure_error_function=report_failure)
async def ask_user(wrapper: ToolContext, questions: list[Question]) -> str:
    """Ask the user one or more questions. The turn ends here and goes on when the user has answered.

    Args:
        questions: What to ask.
    """
    context = wrapper.context
    item = StructuredInputItem(
        id=context.generate_id("message"),
        thread_id=context.thread.id,
        created_at=datetime.now(),  # noqa: DTZ005  # ChatKit's times are naive and local
        inputs=[_structured(question) for question in questions],
    )
    await context.stream(ThreadItemDoneEvent(item=item))
    return "The questions are shown."


# strict schemas allow no open objects, and a tool's arguments are one
@function_tool(failure_error_function=report_failure, strict_mode=False)
async def call_client_tool(wrapper: ToolContext, name: str, arguments: dict[str, Any]) -> str:
    """Run a tool in the user's page. The turn ends here and goes on when the page has answered.

    Args:
        name: Name of the page's tool.
        arguments: Its arguments.
    """
    wrapper.context.client_tool_call = ClientToolCall(name=name, arguments=arguments)
    return f"Asked the page to run {name!r}."


def look_up_record(services: ServiceDirectory) -> FunctionTool:
    """The look-up tool over a directory of services."""

    @function_tool(name_override="look_up_record", failure_error_function=report_failure, timeout=LOOK_UP_SECONDS)
    async def look_up(wrapper: ToolContext, kind: str, key: str) -> str:
        """Look up a record of the user: an order, an invoice, an account or a service.

        Args:
            kind: Kind of the record.
            key: Its number or name.
        """
        turn: Turn = wrapper.context.request_context
        await wrapper.context.stream(ProgressUpdateEvent(text=f"Looking up {kind} {key}"))
        record = await services.look_up(kind.lower(), key, tenant=turn.tenant, user=turn.user)
        if record is None:
            return json.dumps({"found": False, "kinds": list(services.kinds())})
        return json.dumps({"found": True, "kind": record.kind, "key": record.key, "facts": record.facts})

    return look_up


def _structured(question: Question) -> StructuredInput:
    if not question.options:
        return StructuredInputFreeform(id=question.id, question=question.question)
    options = [StructuredInputMultipleChoiceOption(value=option) for option in question.options]
    return StructuredInputMultipleChoice(
        id=question.id, question=question.question, options=options, multiple=question.multiple
    )
