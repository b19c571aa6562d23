"""A conversation for tests: turns over a real database, frames in memory, an answer that the test scripts."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from chatkit.agents import AgentContext

from schemas.chatkit import (
    AssistantMessageContent,
    AssistantMessageItem,
    Thread,
    ThreadItem,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemUpdatedEvent,
    ThreadStreamEvent,
    UserMessageItem,
    stream_event_adapter,
)
from schemas.events import Event
from schemas.outcome import Outcome
from tests.builders import delivery_of
from workers.chat.context import TurnContext
from workers.chat.database import Database
from workers.chat.partial import Shown, shown_by
from workers.chat.reads import Reads
from workers.chat.server import ReadServer
from workers.chat.store import SqlStore
from workers.chat.turn import TurnHandler
from workers.policies.delivery import Delivery, Lease, StopSignal

Answer = Callable[[AgentContext[TurnContext], Sequence[ThreadItem]], AsyncIterator[ThreadStreamEvent]]
WORDS = ("one ", "two ", "three")


async def say_three_words(
    context: AgentContext[TurnContext], items: Sequence[ThreadItem]
) -> AsyncIterator[ThreadStreamEvent]:
    """An answer in three deltas."""
    item = AssistantMessageItem(
        id=context.generate_id("message"),
        thread_id=context.thread.id,
        created_at=datetime.now(),  # noqa: DTZ005  # as ChatKit does
        content=[AssistantMessageContent(text="")],
    )
    yield ThreadItemAddedEvent(item=item)
    for word in WORDS:
        delta = {"type": "assistant_message.content_part.text_delta", "content_index": 0, "delta": word}
        yield ThreadItemUpdatedEvent.model_validate(
            {"type": "thread.item.updated", "item_id": item.id, "update": delta}
        )
    done = item.model_copy(update={"content": [AssistantMessageContent(text="".join(WORDS))]})
    yield ThreadItemDoneEvent(item=done)


@dataclass
class MemoryFrames:
    """Frames of all events, as their streams would hold them. `before_frame` may raise in the place of a frame."""

    streams: dict[str, list[bytes]] = field(default_factory=dict)
    before_frame: Callable[[str, int], Awaitable[None]] | None = None

    def open(self, delivery: Delivery) -> "OneStream":
        return OneStream(self, delivery.lease.event_id)

    async def shown(self, delivery: Delivery) -> list[bytes]:
        return list(self.streams.get(delivery.lease.event_id, []))

    def of(self, event: Event) -> list[bytes]:
        return self.streams.setdefault(event.event_id, [])


@dataclass
class OneStream:
    frames: MemoryFrames
    event_id: str

    async def send(self, frame: bytes) -> None:
        stream = self.frames.streams.setdefault(self.event_id, [])
        if self.frames.before_frame is not None:
            await self.frames.before_frame(self.event_id, len(stream))
        stream.append(frame)

    async def flush(self) -> None:
        return None


@dataclass
class ScriptedResponder:
    """Answers as the test says; `seen` are the items that each run was given."""

    answer: Answer = say_three_words
    seen: list[list[ThreadItem]] = field(default_factory=list)

    async def respond(
        self, agent_context: AgentContext[TurnContext], items: Sequence[ThreadItem], active_agent: str | None
    ) -> AsyncIterator[ThreadStreamEvent]:
        self.seen.append(list(items))
        async for event in self.answer(agent_context, items):
            yield event


class Conversation:
    """Runs events one after another, each under a larger epoch, as a lane would."""

    def __init__(self, database: Database, tenant: str) -> None:
        self.database, self.tenant = database, tenant
        self.frames = MemoryFrames()
        self.responder = ScriptedResponder()
        self.turns = TurnHandler(database, self.responder, self.frames, longest=timedelta(seconds=20))
        self.reads = Reads(database)
        self.epoch = 0

    def delivery(self, event: Event, *, epoch: int | None = None, stop: StopSignal | None = None) -> Delivery:
        """The next delivery of an event."""
        self.epoch += 1
        lease = Lease(event.lane, event.event_id, "w1", f"t{self.epoch}", epoch or self.epoch)
        next_frame = len(self.frames.of(event)) + 1
        return delivery_of(event, lease=lease, next_frame=next_frame, stop=stop or StopSignal())

    async def run(self, event: Event) -> Outcome:
        return await self.turns(self.delivery(event))

    async def read(self, type_: str, *, user: str = "u1", tenant: str | None = None, **params: Any) -> Any:
        """A request that the gateway answers by itself."""
        import pydantic_core

        request = pydantic_core.to_json({"type": type_, "params": params})
        event_id = f"evt_read{self.epoch}"
        answer = await self.reads.answer(request, tenant=tenant or self.tenant, user=user, event_id=event_id)
        return pydantic_core.from_json(answer)

    async def items(self, thread_id: str) -> list[dict[str, Any]]:
        """All items that the thread's user sees, oldest first."""
        page = await self.read("items.list", thread_id=thread_id, order="asc", limit=100)
        return list(page["data"])

    def screen(self, event: Event) -> Shown:
        """What a client shows after all frames of the event."""
        return shown_by(self.frames.of(event), ReadServer(SqlStore(self.database)))


def text_of(item: ThreadItem) -> str:
    match item:
        case AssistantMessageItem():
            return "".join(part.text for part in item.content)
        case UserMessageItem():
            return "".join(part.text for part in item.content)
        case _:
            return item.type


def frames_of(stream: Sequence[bytes]) -> list[ThreadStreamEvent]:
    return [stream_event_adapter().validate_json(frame) for frame in stream]


__all__ = ["WORDS", "Conversation", "MemoryFrames", "ScriptedResponder", "Thread", "frames_of", "text_of"]
