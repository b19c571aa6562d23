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
from chatkit.widgets import DynamicWidgetRoot
from pydantic import BaseModel, Field

from schemas.chatkit import (
    ActiveStatus,
    ClientEffectEvent,
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
async def get_turn_context(wrapper: ToolContext) -> str:
    """Look up what is being answered: the event, the user, and the thread's title and status. No arguments."""
    context = wrapper.context
    turn: Turn = context.request_context
    return json.dumps(
        {
            "event_id": turn.event_id,
            "attempt": turn.attempt,
            "tenant": turn.tenant,
            "user": turn.user,
            "thread": {
                "id": context.thread.id,
                "title": context.thread.title,
                "status": context.thread.status.type,
            },
        }
    )


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


# strict schemas allow no open objects, and an action's payload is one
@function_tool(failure_error_function=report_failure, strict_mode=False)
async def send_custom_action(wrapper: ToolContext, action_type: str, payload: dict[str, Any]) -> str:
    """Send a custom action to every page that has this conversation open.

    Args:
        action_type: Name of the effect that the page handles.
        payload: Data for it.
    """
    await wrapper.context.stream(ClientEffectEvent(name=action_type, data=payload))
    return f"Sent {action_type!r}."


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


@function_tool(failure_error_function=report_failure, strict_mode=False)
async def show_card(
    wrapper: ToolContext,
    title: str,
    lines: list[str],
    button_label: str | None = None,
    button_action: str | None = None,
    button_payload: dict[str, Any] | None = None,
) -> str:
    """Show a card with a title, lines of text and, if wanted, one button that sends an action back.

    Args:
        title: Heading of the card.
        lines: Paragraphs.
        button_label: Text of the button; no button when it is left out.
        button_action: Type of the action that the button sends.
        button_payload: Payload of that action.
    """
    children: list[dict[str, Any]] = [{"type": "Title", "value": title, "size": "sm"}]
    children += [{"type": "Text", "value": line} for line in lines]
    if button_label and button_action:
        action = {"type": button_action, "payload": button_payload or {}, "handler": "server"}
        children.append({"type": "Button", "label": button_label, "onClickAction": action})
    widget = DynamicWidgetRoot.model_validate({"type": "Card", "children": children})
    await wrapper.context.stream_widget(widget, copy_text="\n".join([title, *lines]))
    return "The card is shown."


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
