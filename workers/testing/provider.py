"""A model provider on loopback: speaks the Responses API to the official client, keeps a journal, fails on demand.

It runs in a thread with a loop of its own, so synchronous tests and worker processes can use it alike:

    with FakeProvider() as provider:
        provider.plan(Tool("look_up_record", {"kind": "order", "key": "1042"}), Text("It is on its way."))
        settings = Settings(openai_base_url=provider.base_url, openai_api_key="sk-test")
"""

import asyncio
import json
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Self

from workers.testing.provider_limits import ProviderLimits
from workers.testing.provider_steps import Cut, Failed, Garbage, Hang, Incomplete, Late, Status, Step, Text, Tool
from workers.testing.provider_wire import Json, ending_of, events_of


@dataclass(frozen=True)
class ProviderCall:
    """One request for a response, as it came in."""

    at: float
    body: Json
    authorization: str
    step: Step
    path: str = "/v1/responses"

    @property
    def tools(self) -> list[str]:
        return [tool.get("name", "") for tool in self.body.get("tools", [])]


@dataclass(frozen=True)
class Asked:
    """What a request is about: the last words of the user, and which tools were called since."""

    text: str
    called: tuple[str, ...]
    tools: tuple[str, ...]

    @classmethod
    def of(cls, body: Json) -> Self:
        """Read it out of a request."""
        text = ""
        called: list[str] = []
        for item in body["input"] if isinstance(body["input"], list) else [{"role": "user", "content": body["input"]}]:
            if item.get("role") == "user":
                text, called = text_of(item), []
            elif item.get("type") == "function_call":
                called.append(item["name"])
        return cls(text, tuple(called), tuple(tool.get("name", "") for tool in body.get("tools", [])))

    def may_call(self, tool: str) -> bool:
        """Whether it is offered and was not called yet."""
        return tool in self.tools and tool not in self.called


def text_of(item: Json) -> str:
    """The words of a message of the input."""
    content = item["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def default_answer(body: Json) -> Step:
    """What is said when nothing is planned: hand orders off, look them up, and repeat everything else."""
    asked = Asked.of(body)
    if "order" not in asked.text:
        return Text(f"You said: {asked.text}")
    if asked.may_call("transfer_to_service_orchestrator_agent"):
        return Tool("transfer_to_service_orchestrator_agent")
    if asked.may_call("look_up_record"):
        return Tool("look_up_record", {"kind": "order", "key": "1042"})
    return Text("Your order 1042 is shipped.")


Watch = Callable[[ProviderCall, Literal["began", "ended"]], None]
"""Told of each call, on the provider's thread; must not wait."""


class FakeProvider:
    """The server. `answer` decides what is said once the planned steps are used up; it sees the request's body."""

    def __init__(
        self,
        answer: Callable[[Json], Step] = default_answer,
        *,
        delay_seconds: float = 0.0,
        limits: ProviderLimits | None = None,
        watch: Watch = lambda _call, _what: None,
    ) -> None:
        self.limits = limits
        self._watch = watch
        self.calls: list[ProviderCall] = []
        self.answer = answer
        self.delay_seconds = delay_seconds
        self.headers: Mapping[str, str] = {"x-ratelimit-remaining-requests": "99"}
        self.says_usage = True
        self.open_streams = 0
        self.ended: list[float] = []
        """When each stream came to its end."""
        self._plan: deque[Step] = deque()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake-provider", daemon=True)
        self._server: asyncio.Server | None = None
        self._port = 0

    @property
    def port(self) -> int:
        """Where it listens, once it has been entered."""
        return self._port

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables of a worker that asks it."""
        return {"OPENAI_BASE_URL": self.base_url, "OPENAI_API_KEY": "sk-of-no-value"}

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
        if self._server is not None:
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
                    await self._respond(reader, writer, path, headers, json.loads(body))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has left, or the test has ended
        finally:
            writer.close()

    async def _respond(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        path: str,
        headers: Mapping[str, str],
        body: Json,
    ) -> None:
        step = self._plan.popleft() if self._plan else self.answer(body)
        call = ProviderCall(time.monotonic(), body, headers.get("authorization", ""), step, path)
        self.calls.append(call)
        number = len(self.calls)
        self._watch(call, "began")
        try:
            await self._say(reader, writer, body, step, number)
        finally:
            self._watch(call, "ended")

    async def _say(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: Json, step: Step, number: int
    ) -> None:
        if isinstance(step, Late):
            await asyncio.sleep(step.seconds)
            step = step.then
        if self.limits is not None and (wait := self.limits.take()):
            after = {"retry-after-ms": str(math.ceil(wait * 1000)), **self.limits.headers()}
            step = Status(429, code="rate_limit_exceeded", headers=after)
        if isinstance(step, Status):
            error = {"message": step.message, "type": step.code, "code": step.code, "param": None}
            _send_json(writer, step.status, {"error": error}, step.headers)
            return
        if isinstance(step, Text) and not body.get("stream"):
            [*_, completed] = events_of(step, number)
            _send_json(writer, 200, completed["response"], self.headers)
            return
        self.open_streams += 1
        try:
            await self._stream(reader, writer, step, number)
        finally:
            self.open_streams -= 1

    async def _stream(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, step: Step, number: int
    ) -> None:
        told = self.limits.headers() if self.limits is not None else self.headers
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
            + b"".join(f"{name}: {value}\r\n".encode() for name, value in told.items())
            + b"x-request-id: req_%d\r\n\r\n" % number
        )
        deltas = 0
        limit = step.after_deltas if isinstance(step, Hang | Cut | Failed) else None
        for event in events_of(step, number):
            if event["type"] == "response.output_text.delta":
                if limit is not None and deltas >= limit:
                    break
                deltas += 1
                await asyncio.sleep(self.delay_seconds)
            if event["type"] == "response.completed" and not self.says_usage:
                event["response"]["usage"] = None
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
            event = ending_of(step, number)
            _send_chunk(writer, f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
        writer.write(b"0\r\n\r\n")
        self.ended.append(time.monotonic())


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
