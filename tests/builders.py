"""Builders of what tests need again and again."""

import uuid
from datetime import UTC, datetime
from typing import Any

from schemas.events import Event, parse_event
from workers.ends import Ends
from workers.lanes.lanes import Lanes
from workers.lanes.ports import Waker
from workers.policies.delivery import Delivery, Lease

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def request_event(type_: str, params: dict[str, Any], **attributes: Any) -> Event:
    """An event of a ChatKit request."""
    return parse_event(
        {
            "specversion": "1.0",
            "id": uuid.uuid4().hex,
            "source": "/tests",
            "type": f"chatkit.{type_}",
            "userid": "u1",
            "data": {"type": type_, "params": params},
            **attributes,
        }
    )


def user_input(text: str) -> dict[str, Any]:
    return {"content": [{"type": "input_text", "text": text}], "attachments": [], "inference_options": {}}


def create_event(text: str = "hello", **attributes: Any) -> Event:
    """`threads.create` with one user message."""
    return request_event("threads.create", {"input": user_input(text)}, **attributes)


def message_event(
    thread_id: str,
    text: str = "and then?",
    *,
    double_text: str | None = None,
    debounce: float | None = None,
    **attributes: Any,
) -> Event:
    """`threads.add_user_message`."""
    type_, params = "threads.add_user_message", {"thread_id": thread_id, "input": user_input(text)}
    asked = {"double_text": double_text, "debounce": debounce}
    if metadata := {name: value for name, value in asked.items() if value is not None}:
        attributes["data"] = {"type": type_, "params": params, "metadata": metadata}
    return request_event(type_, params, **attributes)


def feedback_event(thread_id: str, item_id: str = "msg_1", **attributes: Any) -> Event:
    """`items.feedback`: an event that needs no model."""
    params = {"thread_id": thread_id, "item_ids": [item_id], "kind": "positive"}
    return request_event("items.feedback", params, **attributes)


def delivery_of(event: Event, **changes: Any) -> Delivery:
    """A delivery as the first worker gets it."""
    fields: dict[str, Any] = {
        "event": event,
        "lease": Lease(event.lane, event.event_id, owner="w1", token="t1", epoch=1),
        "attempt": 1,
        "deaths": 1,
        "acceptance": 1,
        "next_frame": 1,
        "accepted_at": NOW,
        **changes,
    }
    return Delivery(**fields)


def no_floods(lanes: Lanes, waker: Waker) -> Ends:
    """What follows an end where no number of dead letters is a flood."""
    return Ends(lanes.pauses, lanes.floods, lanes.sign_ins, waker, flood_ratio=2, flood_least=1)
