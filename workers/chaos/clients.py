"""Clients of a run: each follows one event over SSE, the way its habit is, and records all that it is given."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum

import httpx

from workers.chaos.records import Ended, Frame, Left, Sink
from workers.chaos.settings import SERVICE_KEY

SERVICE = {"Authorization": f"Bearer {SERVICE_KEY}"}
READ_SECONDS = 8.0
"""Of silence, after which a client tries another gateway."""

AGAIN_SECONDS = (0.05, 0.25)
SLOW_SECONDS = 0.02


class Habit(StrEnum):
    """How a client reads."""

    STEADY = "steady"
    RECONNECTING = "reconnecting"
    """Drops its connection every few frames and goes on after the last one, at whatever gateway."""
    SLOW = "slow"
    """Takes its time over each frame."""
    LEAVING = "leaving"
    """Goes away after some frames, for good."""


@dataclass(slots=True)
class ServerSentEvent:
    """One event of a stream, as it builds up line by line."""

    name: str = ""
    id: str | None = None
    data: list[str] = field(default_factory=list)

    def take(self, line: str) -> bool:
        """Add a line; True when the event is complete."""
        key, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match key:
            case "event":
                self.name = value
            case "id":
                self.id = value
            case "data":
                self.data.append(value)
            case _:
                pass
        return not line and bool(self.data)


@dataclass(slots=True)
class Client:
    """Follows one event until it ends.

    Args:
        name: of the client.
        event_id: what it follows.
        gateways: addresses; it starts at any and changes when something breaks.
        habit: how it reads.
        recorder: gets every frame.
        http: shared by all clients.
        chance: where it draws its pauses from.
    """

    name: str
    event_id: str
    gateways: Sequence[str]
    habit: Habit
    recorder: Sink
    http: httpx.AsyncClient
    chance: random.Random
    last_id: str | None = None
    ended: bool = False
    _left: bool = False

    async def follow(self) -> None:
        """Read until the end has come, over as many connections as it takes. Cancel it to give up."""
        try:
            while not self.ended and not self._left:
                with suppress(httpx.HTTPError):  # gone, or broken: somewhere else, from where we were
                    await self._connect()
                if not self.ended:
                    await asyncio.sleep(self.chance.uniform(*AGAIN_SECONDS))
        finally:
            if not self.ended:
                self.recorder.write(Left(self.name, self.event_id, time.time(), meant=self._left))

    async def _connect(self) -> None:
        headers = SERVICE | ({"Last-Event-ID": self.last_id} if self.last_id else {})
        url = f"{self.chance.choice(self.gateways)}/v1/events/{self.event_id}/stream"
        async with self.http.stream("GET", url, headers=headers, timeout=READ_SECONDS) as answer:
            if answer.status_code != httpx.codes.OK:
                return  # 404: not accepted yet
            stay = self.chance.randint(3, 25)
            async for event in server_sent_events(answer.aiter_lines()):
                self._take(event)
                stay -= 1
                if self.ended or (stay <= 0 and self._goes()):
                    return
                if self.habit is Habit.SLOW:
                    await asyncio.sleep(SLOW_SECONDS)

    def _goes(self) -> bool:
        self._left = self.habit is Habit.LEAVING
        return self.habit in (Habit.RECONNECTING, Habit.LEAVING)

    def _take(self, event: ServerSentEvent) -> None:
        data, now = "\n".join(event.data), time.time()
        if event.name == "end":
            end = json.loads(data)
            self.recorder.write(Ended(self.name, self.event_id, now, end["state"], end["reason"]))
            self.ended = True
            return
        self.last_id = event.id or self.last_id
        self.recorder.write(Frame(self.name, self.event_id, now, event.id, data))


async def server_sent_events(lines: AsyncIterator[str]) -> AsyncIterator[ServerSentEvent]:
    """The complete events of a stream; comments and what is cut off are left out."""
    event = ServerSentEvent()
    async for line in lines:
        if event.take(line):
            yield event
            event = ServerSentEvent()
