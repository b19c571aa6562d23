"""A model provider on loopback: speaks the Responses API to the official client, keeps a journal, fails on demand.

It runs in a thread with a loop of its own, so synchronous tests and worker processes can use it alike:

    with FakeProvider() as provider:
        provider.plan(Tool("look_up_record", {"kind": "order", "key": "1042"}), Text("It is on its way."))
        settings = Settings(openai_base_url=provider.base_url, openai_api_key="sk-test")
"""

import asyncio
import json
import math
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from tests.provider_limits import ProviderLimits

Json = dict[str, Any]


@dataclass(frozen=True)
class Text:
    """A message, streamed word by word."""

    text: str


@dataclass(frozen=True)
class Tool:
    """A tool call, or a handoff (`transfer_to_…`); `say` is text in front of it in the same response."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    say: str = ""


@dataclass(frozen=True)
class Status:
    """An HTTP error."""

    status: int
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    message: str = "The prompt was: SECRET PROMPT"


@dataclass(frozen=True)
class Hang:
    """Silence after some deltas, until the client goes away."""

    after_deltas: int = 0


@dataclass(frozen=True)
class Cut:
    """The connection breaks after some deltas; `clean` ends the stream as if nothing were missing."""

    after_deltas: int = 2
    clean: bool = False


@dataclass(frozen=True)
class Failed:
    """The stream ends with `response.failed`, or with an `error` event."""

    code: str
    after_deltas: int = 1
    message: str = "SECRET PROMPT"
    as_error_event: bool = False


@dataclass(frozen=True)
class Incomplete:
    """The stream ends with `response.incomplete`."""

    reason: str = "max_output_tokens"


@dataclass(frozen=True)
class Garbage:
    """A stream whose data is no JSON."""


Step = Garbage | Text | Tool | Status | Hang | Cut | Failed | Incomplete


@dataclass(frozen=True)
class ProviderCall:
    """One request for a response, as it came in."""

    at: float
    body: Json
    authorization: str
    step: Step

    @property
    def tools(self) -> list[str]:
        return [tool.get("name", "") for tool in self.body.get("tools", [])]


def default_answer(body: Json) -> Step:
    """What is said when nothing is planned: hand orders off, look them up, and repeat everything else."""
    text = ""
    called: list[str] = []
    for item in body["input"] if isinstance(body["input"], list) else [{"role": "user", "content": body["input"]}]:
        if item.get("role") == "user":
            content = item["content"]
            text = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
            called = []
        elif item.get("type") == "function_call":
            called.append(item["name"])
    tools = [tool.get("name", "") for tool in body.get("tools", [])]
    if "order" in text:
        transfer = "transfer_to_service_orchestrator_agent"
        if transfer in tools and transfer not in called:
            return Tool(transfer)
        if "look_up_record" in tools and "look_up_record" not in called:
            return Tool("look_up_record", {"kind": "order", "key": "1042"})
        return Text("Your order 1042 is shipped.")
    return Text(f"You said: {text}")


class FakeProvider:
    """The server. `answer` decides what is said once the planned steps are used up; it sees the request's body."""

    def __init__(
        self,
        answer: Callable[[Json], Step] = default_answer,
        *,
        delay_seconds: float = 0.0,
        limits: ProviderLimits | None = None,
    ) -> None:
        self.limits = limits
        self.calls: list[ProviderCall] = []
        self.answer = answer
        self.delay_seconds = delay_seconds
        self.open_streams = 0
        self._plan: deque[Step] = deque()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake-provider", daemon=True)
        self._server: asyncio.Server | None = None
        self._port = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def plan(self, *steps: Step) -> Self:
        """Answer the next calls with these, in order."""
        self._plan.extend(steps)
        return self

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        me = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not me]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await _read_request(reader)) is not None:
                path, headers, body = request
                if not path.endswith("/responses"):
                    _send_json(writer, 404, {"error": {"message": "no such path", "code": "not_found"}}, {})
                else:
                    await self._respond(reader, writer, headers, json.loads(body))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has left, or the test has ended
        finally:
            writer.close()

    async def _respond(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: Mapping[str, str], body: Json
    ) -> None:
        step = self._plan.popleft() if self._plan else self.answer(body)
        self.calls.append(ProviderCall(time.monotonic(), body, headers.get("authorization", ""), step))
        number = len(self.calls)
        if self.limits is not None and (wait := self.limits.take()):
            after = {"retry-after-ms": str(math.ceil(wait * 1000)), **self.limits.headers()}
            step = Status(429, code="rate_limit_exceeded", headers=after)
        if isinstance(step, Status):
            error = {"message": step.message, "type": step.code, "code": step.code, "param": None}
            _send_json(writer, step.status, {"error": error}, step.headers)
            return
        self.open_streams += 1
        try:
            await self._stream(reader, writer, step, number)
        finally:
            self.open_streams -= 1

    async def _stream(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, step: Step, number: int
    ) -> None:
        told = self.limits.headers() if self.limits is not None else {"x-ratelimit-remaining-requests": "99"}
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
            + b"".join(f"{name}: {value}\r\n".encode() for name, value in told.items())
            + b"x-request-id: req_%d\r\n\r\n" % number
        )
        deltas = 0
        limit = step.after_deltas if isinstance(step, Hang | Cut | Failed) else None
        for event in _events(step, number):
            if event["type"] == "response.output_text.delta":
                if limit is not None and deltas >= limit:
                    break
                deltas += 1
                await asyncio.sleep(self.delay_seconds)
            _send_chunk(writer, f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
            await writer.drain()
        if isinstance(step, Garbage):
            _send_chunk(writer, b"event: response.output_text.delta\ndata: {SECRET PROMPT\n\n")
        if isinstance(step, Hang):
            await reader.read()  # b"" when the client gives up
            return
        if isinstance(step, Cut) and not step.clean:
            await asyncio.sleep(0.05)  # let what was sent arrive, so that the break comes in the middle of the answer
            writer.transport.abort()
            return
        if isinstance(step, Failed | Incomplete):
            event = _ending(step, number)
            _send_chunk(writer, f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
        writer.write(b"0\r\n\r\n")


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes] | None:
    head = await reader.readline()
    if not head:
        return None
    path = head.split()[1].decode()
    headers: dict[str, str] = {}
    while (line := (await reader.readline()).strip()) != b"":
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    return path, headers, await reader.readexactly(int(headers.get("content-length", 0)))


def _send_json(writer: asyncio.StreamWriter, status: int, body: Json, headers: Mapping[str, str]) -> None:
    payload = json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Fake", "content-type: application/json", f"content-length: {len(payload)}"]
    lines += ["x-request-id: req_fake", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode() + payload)


def _send_chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))


def _events(step: Step, number: int) -> Iterator[Json]:
    """The events of a response, numbered; a fault streams a message of ten words and never completes it."""
    for sequence, event in enumerate(_unnumbered(step, number)):
        yield {**event, "sequence_number": sequence}


def _unnumbered(step: Step, number: int) -> Iterator[Json]:
    yield {"type": "response.created", "response": _response(number, "in_progress", [])}
    yield {"type": "response.in_progress", "response": _response(number, "in_progress", [])}
    output: list[Json] = []
    text = step.text if isinstance(step, Text) else step.say if isinstance(step, Tool) else "broken " * 10
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


def _message_item(item_id: str, text: str | None, status: str) -> Json:
    content = [_part(text)] if text is not None else []
    return {"id": item_id, "type": "message", "role": "assistant", "status": status, "content": content}


def _part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _ending(step: Failed | Incomplete, number: int) -> Json:
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
