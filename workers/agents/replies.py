"""What an in-process model says, turned into the events that a Responses API streams.

Shared by the scripted model and by the doubles of `workers.testing`, so that both go through the whole SDK.
"""

import asyncio
import hashlib
import json
import re
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from agents import ModelResponse, Usage
from agents.items import TResponseInputItem
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseContentPartAddedEvent,
    ResponseContentPartDoneEvent,
    ResponseCreatedEvent,
    ResponseFunctionToolCall,
    ResponseOutputItemAddedEvent,
    ResponseOutputItemDoneEvent,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseStreamEvent,
    ResponseTextDeltaEvent,
    ResponseTextDoneEvent,
    ResponseUsage,
)
from openai.types.responses.response_usage import InputTokensDetails, OutputTokensDetails

WORD = re.compile(r"\S+\s*|\s+")


@dataclass(frozen=True, slots=True)
class Say:
    """A message, streamed piece by piece."""

    pieces: tuple[str, ...]

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call. A handoff is a call of its `transfer_to_…` tool."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


Reply = Say | Call


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response: its replies, and the ids and token counts that go with them."""

    replies: tuple[Reply, ...]
    model: str
    response_id: str
    input_tokens: int

    @classmethod
    def to(
        cls, input_: str | list[TResponseInputItem], replies: Iterable[Reply], *, model: str, instructions: str | None
    ) -> "Answer":
        """The answer to `input_`. The same input gives the same ids; a token is counted as four characters."""
        text = input_ if isinstance(input_, str) else json.dumps(input_, default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()[:24]
        return cls(tuple(replies), model, f"resp_{digest}", (len(text) + len(instructions or "")) // 4)

    def model_response(self) -> ModelResponse:
        """For a run without streaming."""
        usage = self._usage()
        return ModelResponse(
            output=[self._item(index, reply) for index, reply in enumerate(self.replies)],
            usage=Usage(
                requests=1,
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                total_tokens=usage.total_tokens,
            ),
            response_id=self.response_id,
        )

    async def stream(self, delay_seconds: float) -> AsyncIterator[ResponseStreamEvent]:
        """The events of the answer, with `delay_seconds` before each piece of text (0 still yields to the loop)."""
        yield ResponseCreatedEvent(type="response.created", response=self._response("in_progress"), sequence_number=0)
        number = 0
        for index, reply in enumerate(self.replies):
            events = self._said(index, reply) if isinstance(reply, Say) else self._called(index, reply)
            for event in events:
                if event.type == "response.output_text.delta":
                    await asyncio.sleep(delay_seconds)
                number += 1
                event.sequence_number = number
                yield event
        yield ResponseCompletedEvent(
            type="response.completed", response=self._response("completed"), sequence_number=number + 1
        )

    def _said(self, index: int, reply: Say) -> Iterable[ResponseStreamEvent]:
        item_id = self._item_id(index)
        at: dict[str, Any] = {"output_index": index, "sequence_number": 0}
        part: dict[str, Any] = {"item_id": item_id, "content_index": 0, **at}
        opened = ResponseOutputMessage(id=item_id, type="message", role="assistant", status="in_progress", content=[])
        yield ResponseOutputItemAddedEvent(type="response.output_item.added", item=opened, **at)
        yield ResponseContentPartAddedEvent(type="response.content_part.added", part=_text(""), **part)
        for piece in reply.pieces:
            yield ResponseTextDeltaEvent(type="response.output_text.delta", delta=piece, logprobs=[], **part)
        yield ResponseTextDoneEvent(type="response.output_text.done", text=reply.text, logprobs=[], **part)
        yield ResponseContentPartDoneEvent(type="response.content_part.done", part=_text(reply.text), **part)
        yield ResponseOutputItemDoneEvent(type="response.output_item.done", item=self._item(index, reply), **at)

    def _called(self, index: int, reply: Call) -> Iterable[ResponseStreamEvent]:
        item = self._item(index, reply)
        at: dict[str, Any] = {"output_index": index, "sequence_number": 0}
        yield ResponseOutputItemAddedEvent(type="response.output_item.added", item=item, **at)
        yield ResponseOutputItemDoneEvent(type="response.output_item.done", item=item, **at)

    def _item(self, index: int, reply: Reply) -> ResponseOutputMessage | ResponseFunctionToolCall:
        item_id = self._item_id(index)
        if isinstance(reply, Say):
            return ResponseOutputMessage(
                id=item_id, type="message", role="assistant", status="completed", content=[_text(reply.text)]
            )
        arguments = json.dumps(dict(reply.arguments))
        return ResponseFunctionToolCall(
            id=item_id, call_id=f"call_{item_id}", type="function_call", name=reply.name, arguments=arguments
        )

    def _item_id(self, index: int) -> str:
        return f"item_{self.response_id.removeprefix('resp_')}_{index}"

    def _response(self, status: Literal["in_progress", "completed"]) -> Response:
        done = status == "completed"
        return Response.model_construct(
            id=self.response_id,
            created_at=time.time(),
            model=self.model,
            object="response",
            status=status,
            output=[self._item(index, reply) for index, reply in enumerate(self.replies)] if done else [],
            usage=self._usage() if done else None,
            parallel_tool_calls=False,
            tool_choice="auto",
            tools=[],
        )

    def _usage(self) -> ResponseUsage:
        output = sum(len(reply.pieces) if isinstance(reply, Say) else 10 for reply in self.replies)
        return ResponseUsage(
            input_tokens=self.input_tokens,
            input_tokens_details=InputTokensDetails(cached_tokens=0, cache_write_tokens=0),
            output_tokens=output,
            output_tokens_details=OutputTokensDetails(reasoning_tokens=0),
            total_tokens=self.input_tokens + output,
        )


def words(text: str) -> Say:
    """A message that is streamed word by word."""
    return Say(tuple(WORD.findall(text)))


def _text(text: str) -> ResponseOutputText:
    return ResponseOutputText(type="output_text", text=text, annotations=[], logprobs=[])
