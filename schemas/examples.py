"""One event of every type, as a page or a service sends it: for the generated documents, for tests, for trying out."""

from copy import deepcopy
from typing import Any

from schemas.catalogue import PREFIX, is_request, may_lack_data
from schemas.events import ACTION_SEND, SESSION_PREFIX, UI_PREFIX

THREAD_ID = "thr_kqz5w2mhrvd6y3tpn4xcb7ufae"

_INPUT = {
    "content": [{"type": "input_text", "text": "Where is my order 4711?"}],
    "attachments": [],
    "inference_options": {},
}
_ACTION = {"type": "order.show", "payload": {"order": "4711"}}

REQUEST_PARAMS: dict[str, dict[str, Any]] = {
    "attachments.create": {"name": "receipt.pdf", "size": 48_213, "mime_type": "application/pdf"},
    "attachments.delete": {"attachment_id": "atc_1"},
    "input.transcribe": {"audio_base64": "UklGRg==", "mime_type": "audio/webm;codecs=opus"},
    "items.feedback": {"thread_id": THREAD_ID, "item_ids": ["msg_1"], "kind": "positive"},
    "items.list": {"thread_id": THREAD_ID, "limit": 20, "order": "desc"},
    "threads.add_client_tool_output": {"thread_id": THREAD_ID, "result": {"confirmed": True}},
    "threads.add_structured_input": {
        "thread_id": THREAD_ID,
        "item_id": "sip_1",
        "input": {"status": "answered", "answers": {"size": {"values": ["M"]}}},
    },
    "threads.add_user_message": {"thread_id": THREAD_ID, "input": _INPUT},
    "threads.create": {"input": _INPUT},
    "threads.custom_action": {"thread_id": THREAD_ID, "item_id": "wig_1", "action": _ACTION},
    "threads.delete": {"thread_id": THREAD_ID},
    "threads.get_by_id": {"thread_id": THREAD_ID},
    "threads.list": {"limit": 20, "order": "desc"},
    "threads.retry_after_item": {"thread_id": THREAD_ID, "item_id": "msg_1"},
    "threads.sync_custom_action": {"thread_id": THREAD_ID, "item_id": "wig_1", "action": _ACTION},
    "threads.update": {"thread_id": THREAD_ID, "title": "Order 4711"},
}

OTHER_DATA: dict[str, dict[str, Any]] = {
    UI_PREFIX + "ready": {"session_id": "ses_1"},
    UI_PREFIX + "error": {"session_id": "ses_1", "error": {"name": "TypeError", "message": "network error"}},
    UI_PREFIX + "effect": {"name": "confetti", "data": {"seconds": 2}},
    UI_PREFIX + "deeplink": {"name": "order", "data": {"id": "4711"}},
    UI_PREFIX + "log": {"name": "composer.submit", "data": {}},
    UI_PREFIX + "response.start": {"threadId": THREAD_ID},
    UI_PREFIX + "response.end": {"threadId": THREAD_ID},
    UI_PREFIX + "history.open": {},
    UI_PREFIX + "history.close": {},
    UI_PREFIX + "thread.change": {"threadId": None},
    UI_PREFIX + "thread.load.start": {"threadId": THREAD_ID},
    UI_PREFIX + "thread.load.end": {"threadId": THREAD_ID},
    UI_PREFIX + "tool.change": {"toolId": "search"},
    SESSION_PREFIX + "start": {},
    SESSION_PREFIX + "refresh": {"session_id": "ses_1"},
    SESSION_PREFIX + "end": {"session_id": "ses_1"},
    ACTION_SEND: {"thread_id": THREAD_ID, "effect": {"name": "order_shipped", "data": {"order": "4711"}}},
}


def example_data(type_: str) -> dict[str, Any]:
    """Data of an event of the type, the caller's own. Raises KeyError for a type that has no example yet: write one."""
    if is_request(type_):
        name = type_.removeprefix(PREFIX)
        return {"type": name, "params": deepcopy(REQUEST_PARAMS[name]), "metadata": {}}
    return deepcopy(OTHER_DATA[type_])


def example_event(type_: str) -> dict[str, Any]:
    """An event of the type in structured mode."""
    event = {
        "specversion": "1.0",
        "id": f"example-{type_.removeprefix(PREFIX)}",
        "source": "/shop/web",
        "type": type_,
        "time": "2026-11-23T12:00:00Z",
        "tenant": "acme",
        "userid": "u1",
        "data": example_data(type_),
    }
    if may_lack_data(type_) and not event["data"]:
        del event["data"]
    return event
