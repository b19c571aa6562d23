"""A client that follows an event as a page does: over whatever gateway answers, with `Last-Event-ID`, to its end."""

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.deployment import SERVICE
from tests.unit.gateway.parsing import ServerEvent, parse_sse

PAUSE_SECONDS = 0.1


@dataclass
class Viewer:
    """What one client saw of one event."""

    gateways: Callable[[], Sequence[str]]
    """The addresses that a load balancer would know now."""
    event_id: str
    frames: list[ServerEvent] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    end: dict[str, Any] | None = None
    connections: int = 0
    retries: list[int] = field(default_factory=list)
    """Those of streams that were let go of."""

    async def watch(self, within: float = 60) -> "Viewer":
        """Follow it to its end."""
        async with asyncio.timeout(within), httpx.AsyncClient(timeout=20) as http:
            while self.end is None:
                addresses = self.gateways()
                address = addresses[self.connections % len(addresses)]
                self.connections += 1
                with suppress(httpx.TransportError):
                    await self._follow(http, address)
                if self.end is None:
                    await asyncio.sleep(PAUSE_SECONDS)
        return self

    async def _follow(self, http: httpx.AsyncClient, address: str) -> None:
        headers = SERVICE | ({"Last-Event-ID": str(self.frames[-1].id)} if self.frames else {})
        async with http.stream("GET", f"{address}/v1/events/{self.event_id}/stream", headers=headers) as answer:
            if answer.status_code >= 500 or answer.status_code == 404:  # 404: it has not been accepted yet
                return
            assert answer.status_code == 200, answer.status_code
            received = ""
            async for chunk in answer.aiter_text():
                received += chunk
                whole, separator, received = received.rpartition("\n\n")
                self._take(whole + separator)

    def _take(self, blocks: str) -> None:
        for event in parse_sse(blocks.encode()):
            if event.event == "end":
                self.end = json.loads(event.data)
            elif event.id is not None:
                self.frames.append(event)
                self.times.append(time.monotonic())
        last = blocks.rstrip("\n").rpartition("\n")[2]
        if last.startswith("retry: ") and blocks.count("\n\n") == 1:
            self.retries.append(int(last.removeprefix("retry: ")))

    @property
    def longest_pause(self) -> float:
        """Between two frames, in seconds."""
        return max((later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False)), default=0.0)

    def check_ids(self) -> None:
        """Strictly increasing and without a gap, from the first one, over every reconnect."""
        numbers = [int(str(frame.id).rpartition("-")[2]) for frame in self.frames]
        assert numbers == list(range(1, len(numbers) + 1))

    @property
    def answer(self) -> str:
        return answer_of(frame.data for frame in self.frames)


def answer_of(frames: Iterable[str | bytes]) -> str:
    """The text as a page assembles it: what was streamed, without what was taken back. Each message that is finished
    must say the same as its own deltas, so that no word is missing and none is there twice."""
    messages: dict[str, str] = {}
    for frame in frames:
        match json.loads(frame):
            case {"type": "thread.item.updated", "item_id": item, "update": {"delta": delta}}:
                messages[item] = messages.get(item, "") + delta
            case {"type": "thread.item.removed", "item_id": item}:
                messages.pop(item, None)
            case {"type": "thread.item.done", "item": {"type": "assistant_message", "id": item, "content": parts}}:
                text = "".join(part["text"] for part in parts)
                assert messages.setdefault(item, text) == text
    return "\n".join(messages.values())
