"""The steps of a turn as its journal keeps them: a model's whole response, and what a tool gave back and showed."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from agents import Handoff, Tool
from agents.items import TResponseInputItem
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseOutputItem,
    ResponseOutputItemAddedEvent,
    ResponseOutputItemDoneEvent,
    ResponseOutputMessage,
    ResponseReasoningItem,
    ResponseReasoningSummaryTextDoneEvent,
    ResponseStreamEvent,
)
from pydantic import BaseModel
from pydantic_core import to_json

from schemas.chatkit import ThreadStreamEvent, stream_event_adapter

JOINED = "s"
"""Begins the names of entries that are messages of the user."""


def response_step(number: int) -> str:
    """Name of the step in which the model gave its response of this number, from 0."""
    return f"r{number}"


def tool_step(response: int, call_id: str) -> str:
    """Name of the step in which a tool ran that the response had called."""
    return f"t{response}:{call_id}"


def begun_step(response: int, call_id: str) -> str:
    """Name of the mark that says that this tool may have taken effect, though it gave nothing back."""
    return f"b{response}:{call_id}"


def steps_from(number: int, steps: Iterable[str]) -> list[str]:
    """Those of the steps that belong to the response of this number or to later ones, but for messages of the user."""
    return [step for step in steps if step[0] != JOINED and int(step[1:].partition(":")[0]) >= number]


def fingerprint(input_: str | list[TResponseInputItem]) -> str:
    """What a response answers. One that answers something else than is asked now is of another run."""
    return hashlib.sha256(to_json(input_, fallback=str)).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class ResponseStep:
    """A response that was received to its end, and what it answered."""

    asked: str
    response: Response

    def to_json(self) -> bytes:
        # the model's own servers and doubles do not always send what their types say
        response = self.response.model_dump(mode="json", exclude_unset=True, warnings=False)
        return json.dumps({"asked": self.asked, "response": response}).encode()

    @classmethod
    def of(cls, entry: bytes) -> "ResponseStep":
        kept = json.loads(entry)
        return cls(kept["asked"], Response.construct(**kept["response"]))

    def fits(self, asked: str, tools: Sequence[Tool], handoffs: Sequence[Handoff[Any, Any]]) -> bool:
        """Whether this run would ask the same, and still has every tool that the response calls."""
        known = {tool.name for tool in tools} | {handoff.tool_name for handoff in handoffs}
        called = {item.name for item in self.response.output if item.type == "function_call"}
        return self.asked == asked and called <= known

    def shown(self) -> Iterator[ResponseStreamEvent]:
        """The events that make the items of the response, without the pieces in which its text once came."""
        for index, item in enumerate(self.response.output):
            yield ResponseOutputItemAddedEvent.construct(
                type="response.output_item.added", item=_opened(item), output_index=index, sequence_number=0
            )
            yield from _thoughts(index, item)
            yield ResponseOutputItemDoneEvent.construct(
                type="response.output_item.done", item=item, output_index=index, sequence_number=0
            )

    def completed(self) -> ResponseCompletedEvent:
        """The end of the response, for the run to act on. What it cost is paid already."""
        paid = self.response.model_copy(update={"usage": None})
        return ResponseCompletedEvent.construct(type="response.completed", response=paid, sequence_number=0)


def _opened(item: ResponseOutputItem) -> ResponseOutputItem:
    return item.model_copy(update={"content": []}) if isinstance(item, ResponseOutputMessage) else item


def _thoughts(index: int, item: ResponseOutputItem) -> Iterator[ResponseStreamEvent]:
    if isinstance(item, ResponseReasoningItem):
        for place, part in enumerate(item.summary):
            yield ResponseReasoningSummaryTextDoneEvent.construct(
                type="response.reasoning_summary_text.done",
                item_id=item.id,
                output_index=index,
                summary_index=place,
                sequence_number=0,
                text=part.text,
            )


@dataclass(frozen=True, slots=True)
class ToolStep:
    """A tool call that gave something back.

    Args:
        output: what the model is told. Of the SDK's `ToolOutput…` the object that stands for it.
        events: what the tool showed.
        thread: what it changed of the thread (title, status, metadata), as JSON.
        client_call: the client tool that it asked the page to run: name and arguments.
    """

    output: Any
    events: Sequence[ThreadStreamEvent] = ()
    thread: dict[str, Any] | None = None
    client_call: dict[str, Any] | None = None

    def to_json(self) -> bytes:
        kept = {
            "output": _plain(self.output),
            "events": [stream_event_adapter().dump_python(event, mode="json") for event in self.events],
            "thread": self.thread,
            "client_call": self.client_call,
        }
        return json.dumps(kept).encode()

    @classmethod
    def of(cls, entry: bytes) -> "ToolStep":
        kept = json.loads(entry)
        events = [stream_event_adapter().validate_python(event) for event in kept["events"]]
        return cls(kept["output"], events, kept["thread"], kept["client_call"])


def _plain(output: Any) -> Any:
    """What JSON can hold of an output; anything else is text, which the SDK would make of it."""
    if isinstance(output, list):
        return [_plain(part) for part in output]
    if isinstance(output, BaseModel):
        return output.model_dump(mode="json")
    try:
        return output if output == json.loads(json.dumps(output)) else str(output)
    except (TypeError, ValueError):
        return str(output)
