"""The steps of a fake provider as the events that the Responses API streams."""

import json
import re
from collections.abc import Iterator
from typing import Any

from workers.testing.provider_steps import Failed, Incomplete, Refusal, Step, Text, Tool

Json = dict[str, Any]

CUT_WORD = "broken "
"""What the model says, again and again, in an answer that does not come to its end."""


def events_of(step: Step, number: int) -> Iterator[Json]:
    """The events of a response, numbered; a fault streams a message of ten words and never completes it."""
    for sequence, event in enumerate(_unnumbered(step, number)):
        yield {**event, "sequence_number": sequence}


def _unnumbered(step: Step, number: int) -> Iterator[Json]:
    yield {"type": "response.created", "response": _response(number, "in_progress", [])}
    yield {"type": "response.in_progress", "response": _response(number, "in_progress", [])}
    output: list[Json] = []
    if isinstance(step, Refusal):
        yield from _refusal(step, output)
        yield {"type": "response.completed", "response": _response(number, "completed", output)}
        return
    text = step.text if isinstance(step, Text) else step.say if isinstance(step, Tool) else CUT_WORD * 10
    if text:
        item_id = f"msg_provider_{number}"
        yield from _message(item_id, text)
        output.append(_message_item(item_id, text, "completed"))
    if isinstance(step, Tool):
        item = {
            "id": f"fc_provider_{number}",
            "type": "function_call",
            "call_id": f"call_provider_{number}",
            "name": step.name,
            "arguments": json.dumps(dict(step.arguments)),
            "status": "completed",
        }
        at = {"output_index": len(output)}
        opened = {**item, "arguments": "", "status": "in_progress"}
        yield {"type": "response.output_item.added", "item": opened, **at}
        arguments = {"item_id": item["id"], "name": item["name"], **at}
        yield {"type": "response.function_call_arguments.delta", "delta": item["arguments"], **arguments}
        yield {"type": "response.function_call_arguments.done", "arguments": item["arguments"], **arguments}
        yield {"type": "response.output_item.done", "item": item, **at}
        output.append(item)
    if isinstance(step, Text | Tool):
        yield {"type": "response.completed", "response": _response(number, "completed", output)}


def _message(item_id: str, text: str) -> Iterator[Json]:
    at = {"output_index": 0}
    part = {"item_id": item_id, "content_index": 0, **at}
    yield {"type": "response.output_item.added", "item": _message_item(item_id, None, "in_progress"), **at}
    yield {"type": "response.content_part.added", "part": _part(""), **part}
    for piece in re.findall(r"\S+\s*|\s+", text):
        yield {"type": "response.output_text.delta", "delta": piece, "logprobs": [], **part}
    yield {"type": "response.output_text.done", "text": text, "logprobs": [], **part}
    yield {"type": "response.content_part.done", "part": _part(text), **part}
    yield {"type": "response.output_item.done", "item": _message_item(item_id, text, "completed"), **at}


def _refusal(step: Refusal, output: list[Json]) -> Iterator[Json]:
    item_id, at = "msg_refusal", {"output_index": 0}
    part = {"item_id": item_id, "content_index": 0, **at}
    yield {"type": "response.output_item.added", "item": _message_item(item_id, None, "in_progress"), **at}
    yield {"type": "response.content_part.added", "part": {"type": "refusal", "refusal": ""}, **part}
    yield {"type": "response.refusal.delta", "delta": step.text, **part}
    yield {"type": "response.refusal.done", "refusal": step.text, **part}
    item = {**_message_item(item_id, None, "completed"), "content": [{"type": "refusal", "refusal": step.text}]}
    yield {"type": "response.output_item.done", "item": item, **at}
    output.append(item)


def _message_item(item_id: str, text: str | None, status: str) -> Json:
    content = [_part(text)] if text is not None else []
    return {"id": item_id, "type": "message", "role": "assistant", "status": status, "content": content}


def _part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def ending_of(step: Failed | Incomplete, number: int) -> Json:
    if isinstance(step, Incomplete):
        response = {**_response(number, "incomplete", []), "incomplete_details": {"reason": step.reason}}
        return {"type": "response.incomplete", "response": response, "sequence_number": 99}
    if step.as_error_event:
        return {"type": "error", "code": step.code, "message": step.message, "param": None, "sequence_number": 99}
    error = {"code": step.code, "message": step.message}
    response = {**_response(number, "failed", []), "error": error}
    return {"type": "response.failed", "response": response, "sequence_number": 99}


def _response(number: int, status: str, output: list[Json]) -> Json:
    usage = {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 20,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 120,
    }
    return {
        "id": f"resp_provider_{number}",
        "object": "response",
        "created_at": 1_760_000_000,
        "model": "gpt-4.1",
        "status": status,
        "output": output,
        "usage": usage if status == "completed" else None,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "error": None,
        "incomplete_details": None,
    }
