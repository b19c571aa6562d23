"""The card that asks for a consent, and what becomes of it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from chatkit.widgets import DynamicWidgetRoot

from schemas.actions import APPROVAL_DECIDE
from schemas.chatkit import WidgetItem

QUESTION = "May this be done?"
APPROVED, REJECTED, TOO_OLD = "Approved.", "Rejected.", "It was not decided in time."

Calls = Sequence[tuple[str, str]]
"""Name and arguments of each call, for people to read."""


def asking_card(approval_id: str, thread_id: str, calls: Calls, at: datetime) -> WidgetItem:
    """The card with its two buttons. Its item has the id of the approval."""
    children: list[dict[str, Any]] = [_title(QUESTION)]
    for name, arguments in calls:
        children.append(_text(name.replace("_", " "), weight="semibold"))
        children += [_text(line) for line in arguments.split("\n") if line]
    children.append(_button("Approve", approval_id, approve=True))
    children.append(_button("Reject", approval_id, approve=False))
    copied = "\n".join([QUESTION, *(f"{name}\n{arguments}" for name, arguments in calls)])
    return WidgetItem(id=approval_id, thread_id=thread_id, created_at=at, widget=_card(children), copy_text=copied)


def decided_card(item: WidgetItem, decision: str) -> WidgetItem:
    """The same card without its buttons, and with what was decided."""
    shown = item.widget.model_dump(mode="json", exclude_none=True).get("children", [])
    kept = [child for child in shown if child.get("type") != "Button" and child.get("value") not in DECISIONS]
    return item.model_copy(update={"widget": _card([*kept, _text(decision, weight="semibold")])})


DECISIONS = frozenset({APPROVED, REJECTED, TOO_OLD})


def _card(children: Sequence[dict[str, Any]]) -> DynamicWidgetRoot:
    return DynamicWidgetRoot.model_validate({"type": "Card", "children": list(children)})


def _title(text: str) -> dict[str, Any]:
    return {"type": "Title", "value": text, "size": "sm"}


def _text(text: str, **style: str) -> dict[str, Any]:
    return {"type": "Text", "value": text, **style}


def _button(label: str, approval_id: str, *, approve: bool) -> dict[str, Any]:
    action = {"type": APPROVAL_DECIDE, "payload": {"approval": approval_id, "approve": approve}, "handler": "server"}
    return {"type": "Button", "label": label, "style": "primary" if approve else "secondary", "onClickAction": action}
