"""Tools for cards: widgets that stay in the conversation, and can be changed there later."""

from datetime import datetime
from typing import Any

from agents import FunctionTool, function_tool
from chatkit.store import NotFoundError
from chatkit.widgets import DynamicWidgetRoot

from schemas.actions import APPROVAL_PREFIX
from schemas.chatkit import ThreadItemDoneEvent, ThreadItemReplacedEvent, WidgetItem
from workers.agents.action_tools import refused
from workers.agents.failures import report_failure
from workers.agents.ports import ToolContext
from workers.allow_lists import ActionRules

MOST_LINES, MOST_CHARACTERS = 30, 2000


def card_tools(rules: ActionRules) -> list[FunctionTool]:
    """`show_card` and `update_card`, whose buttons send what the deployment allows."""
    return [_showing(rules), _updating(rules)]


def _showing(rules: ActionRules) -> FunctionTool:
    # strict schemas allow no open objects, and an action's payload is one
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
        widget = card(title, lines, button_label, button_action, button_payload or {}, rules)
        if isinstance(widget, str):
            return widget
        context = wrapper.context
        item = WidgetItem(
            id=context.generate_id("message"),
            thread_id=context.thread.id,
            created_at=datetime.now(),  # noqa: DTZ005  # ChatKit's times are naive and local
            widget=widget,
            copy_text="\n".join([title, *lines]),
        )
        await context.stream(ThreadItemDoneEvent(item=item))
        return f"The card is shown; its id is {item.id}."

    return show_card


def _updating(rules: ActionRules) -> FunctionTool:
    @function_tool(failure_error_function=report_failure, strict_mode=False)
    async def update_card(
        wrapper: ToolContext,
        card_id: str,
        title: str,
        lines: list[str],
        button_label: str | None = None,
        button_action: str | None = None,
        button_payload: dict[str, Any] | None = None,
    ) -> str:
        """Put another card in the place of one that was shown in this conversation.

        Args:
            card_id: Id of the card, as `show_card` gave it or as it stands in the conversation.
            title: Heading of the card.
            lines: Paragraphs.
            button_label: Text of the button; no button when it is left out.
            button_action: Type of the action that the button sends.
            button_payload: Payload of that action.
        """
        widget = card(title, lines, button_label, button_action, button_payload or {}, rules)
        if isinstance(widget, str):
            return widget
        shown = await _shown(wrapper, card_id)
        if shown is None:
            return "Not changed: card_id names no card of this conversation."
        changed = shown.model_copy(update={"widget": widget, "copy_text": "\n".join([title, *lines])})
        await wrapper.context.stream(ThreadItemReplacedEvent(item=changed))
        return "The card is changed."

    return update_card


def card(
    title: str,
    lines: list[str],
    label: str | None,
    action_type: str | None,
    payload: dict[str, Any],
    rules: ActionRules,
) -> DynamicWidgetRoot | str:
    """The widget, or why there is none, for the model."""
    if len(lines) > MOST_LINES or max(map(len, [title, *lines])) > MOST_CHARACTERS:
        return f"Refused: a card has at most {MOST_LINES} lines of {MOST_CHARACTERS} characters."
    children: list[dict[str, Any]] = [{"type": "Title", "value": title, "size": "sm"}]
    children += [{"type": "Text", "value": line} for line in lines]
    if label and action_type:
        if refusal := refused(action_type, payload, rules):
            return refusal
        action = {"type": action_type, "payload": payload, "handler": "server"}
        children.append({"type": "Button", "label": label, "onClickAction": action})
    return DynamicWidgetRoot.model_validate({"type": "Card", "children": children})


async def _shown(wrapper: ToolContext, card_id: str) -> WidgetItem | None:
    """A card of this thread."""
    context = wrapper.context
    if card_id.startswith(APPROVAL_PREFIX):
        return None  # what a user is asked to approve, and what was decided, is not for agents to change
    try:
        item = await context.store.load_item(context.thread.id, card_id, context.request_context)
    except NotFoundError:
        return None
    return item if isinstance(item, WidgetItem) else None
