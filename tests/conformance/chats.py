"""A chat for the conformance tests: the turn handler over a real database, scripted answers, recorded frames."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from chatkit.agents import AgentContext

from schemas.chatkit import (
    AssistantMessageContent,
    AssistantMessageItem,
    ThreadItem,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemRemovedEvent,
    ThreadItemReplacedEvent,
    ThreadItemUpdatedEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    UserMessageItem,
    stream_event_adapter,
)
from schemas.events import Event
from schemas.outcome import CancelReason, Done, Outcome
from tests.builders import create_event, delivery_of
from workers.chat.context import TurnContext
from workers.chat.database import Database
from workers.chat.light import LightHandler
from workers.chat.ports import ActionHandler, EventHandler, Transcriber
from workers.chat.reads import Reads
from workers.chat.store import SqlStore
from workers.chat.turn import TurnHandler
from workers.lanes.records import JournalStep, Owner
from workers.policies.delivery import Delivery, Lease, StopSignal
from workers.routing import Route

AT = datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001  # ChatKit's times are naive and local

Context = AgentContext[TurnContext]
Step = Callable[[Context], AsyncGenerator[ThreadStreamEvent, None]]
"""One answer."""


class ScriptedResponder:
    """Answers with its steps in turn, and remembers what it was asked. Without steps it says "answer"."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.asked: list[list[ThreadItem]] = []
        self.agents: list[str | None] = []

    async def respond(
        self, agent_context: Context, items: Sequence[ThreadItem], active_agent: str | None
    ) -> AsyncGenerator[ThreadStreamEvent, None]:
        self.asked.append(list(items))
        self.agents.append(active_agent)
        step = self.steps.pop(0) if self.steps else says("answer")
        async for event in step(agent_context):
            yield event

    async def resume(
        self, agent_context: Context, state: str, *, approve: bool
    ) -> AsyncGenerator[ThreadStreamEvent, None] | None:
        return None


class Recorder:
    """Keeps the frames of each event, of all its attempts: an answer's whole stream."""

    def __init__(self) -> None:
        self.streams: dict[str, list[bytes]] = defaultdict(list)
        self.journals: dict[str, dict[str, bytes]] = defaultdict(dict)
        self.before_frame: Callable[[str, int, bytes], Awaitable[None]] | None = None
        """Gets event id, number of frames so far, and the frame; may raise in its place."""
        self.before_commit: Callable[[], None] | None = None
        """May raise when all frames of an answer are shown, and nothing of it is stored."""

    def open(self, delivery: Delivery) -> "RecordedFrames":
        return RecordedFrames(self, delivery.event.event_id)

    async def shown(self, delivery: Delivery) -> list[bytes]:
        return list(self.streams[delivery.event.event_id])

    async def journal(self, delivery: Delivery) -> dict[str, bytes]:
        return dict(self.journals[delivery.event.event_id])

    async def keep(self, event_id: str, step: JournalStep) -> bool:
        self.journals[event_id][step.name] = step.entry
        return True

    async def join(self, delivery: Delivery, step: str) -> dict[str, bytes]:
        """Nothing waits to steer a turn."""
        return {}


class RecordedFrames:
    """The frames of one attempt."""

    def __init__(self, recorder: Recorder, event_id: str) -> None:
        self._recorder, self._event_id = recorder, event_id

    async def send(self, frame: bytes) -> None:
        stream = self._recorder.streams[self._event_id]
        if self._recorder.before_frame is not None:
            await self._recorder.before_frame(self._event_id, len(stream), frame)
        stream.append(frame)

    async def keep(self, step: JournalStep) -> bool:
        return await self._recorder.keep(self._event_id, step)

    def when_shown(self, tell: Callable[[], None]) -> None:
        tell()

    async def flush(self) -> None:
        """Every frame is kept at once."""
        if self._recorder.before_commit is not None:
            self._recorder.before_commit()


class Chat:
    """Runs events as a worker does, attempt after attempt, and looks at what became of them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.responder, self.recorder = ScriptedResponder(), Recorder()
        self.actions: dict[str, ActionHandler] = {}
        self.transcriber: Transcriber | None = None
        self.approval_ttl = timedelta(days=7)
        self.route: Callable[[Event], Route] = lambda _: Route()
        self.handlers: dict[str, EventHandler] = {}
        self.light, self.reads = LightHandler(database), Reads(database)
        self.store = SqlStore(database)
        self._epochs = iter(range(1, 1_000_000))

    def delivery(self, event: Event, *, epoch: int | None = None, **changes: Any) -> Delivery:
        """The next delivery of an event: a new lease, and the frames of earlier attempts counted."""
        lease = Lease(event.lane, event.event_id, owner="w1", token="t1", epoch=epoch or next(self._epochs))
        next_frame = len(self.recorder.streams[event.event_id]) + 1
        journaled = bool(self.recorder.journals[event.event_id])
        fields = {"lease": lease, "next_frame": next_frame, "journaled": journaled}
        return delivery_of(event, **(fields | changes))

    def handler(self, *, longest: timedelta = timedelta(seconds=30)) -> TurnHandler:
        return TurnHandler(
            self.database,
            self.responder,
            self.recorder,
            longest=longest,
            actions=self.actions,
            transcriber=self.transcriber,
            approval_ttl=self.approval_ttl,
            route=self.route,
            handlers=self.handlers,
        )

    async def run(self, event: Event, **changes: Any) -> Outcome:
        """Deliver an event once."""
        return await self.handler()(self.delivery(event, **changes))

    async def thread(self, text: str = "hello", **attributes: Any) -> Event:
        """A thread with one question and its answer."""
        event = create_event(text, **attributes)
        assert await self.run(event) == Done()
        return event

    def frames(self, event: Event) -> list[ThreadStreamEvent]:
        """What clients were shown of an event, through all attempts."""
        return [stream_event_adapter().validate_json(frame) for frame in self.recorder.streams[event.event_id]]

    async def items(self, event: Event) -> list[ThreadItem]:
        """What is stored of the event's thread, hidden items included, oldest first."""
        page = await self.store.load_thread_items(str(event.thread_id), None, 100, "asc", context_of(event))
        return page.data

    async def kinds(self, event: Event) -> list[str]:
        return [item.type for item in await self.items(event)]

    async def stored_thread(self, event: Event) -> ThreadMetadata:
        return await self.store.load_thread(str(event.thread_id), context_of(event))

    def screen(self, event: Event) -> list[str]:
        """What is on the screen of a client that plays all frames: the texts of the items, in order."""
        screen: dict[str, str] = {}
        for frame in self.frames(event):
            match frame:
                case ThreadItemAddedEvent() | ThreadItemDoneEvent() | ThreadItemReplacedEvent():
                    screen[frame.item.id] = text_of(frame.item)
                case ThreadItemUpdatedEvent():
                    screen[frame.item_id] += getattr(frame.update, "delta", "")  # what else is updated has no text
                case ThreadItemRemovedEvent():
                    del screen[frame.item_id]  # a KeyError: what was not on the screen cannot be removed
                case _:
                    pass
        return list(screen.values())

    async def ask(self, type_: str, params: dict[str, Any], *, tenant: str = "default", user: str = "u1") -> Any:
        """What the gateway answers to a request."""
        request = json.dumps({"type": type_, "params": params}).encode()
        return json.loads(await self.reads.answer(request, tenant=tenant, user=user, event_id="evt_read"))


def context_of(event: Event) -> TurnContext:
    return TurnContext(Owner(event.tenant, event.userid), event.event_id)


def message(context: Context, text: str, *, item_id: str | None = None) -> AssistantMessageItem:
    return AssistantMessageItem(
        id=item_id or context.generate_id("message"),
        thread_id=context.thread.id,
        created_at=AT,
        content=[AssistantMessageContent(text=text)] if text else [],
    )


def says(text: str, *, then: Exception | None = None) -> Step:
    """Stream a message word by word and finish it; `then` fails after it."""

    async def step(context: Context) -> AsyncGenerator[ThreadStreamEvent, None]:
        async for event in begins(text)(context):
            yield event
            item_id = getattr(event, "item_id", None) or event.item.id  # type: ignore[union-attr]  # one of the two
        yield ThreadItemDoneEvent(item=message(context, text, item_id=item_id))
        if then is not None:
            raise then

    return step


def begins(text: str, *, then: Exception | None = None) -> Step:
    """Stream the words of a message that is never finished; `then` fails."""

    async def step(context: Context) -> AsyncGenerator[ThreadStreamEvent, None]:
        item = message(context, "")
        yield ThreadItemAddedEvent(item=item)
        for word in text.split(" "):
            yield delta(item.id, word if text.startswith(word) else f" {word}")
        if then is not None:
            raise then

    return step


def delta(item_id: str, text: str) -> ThreadItemUpdatedEvent:
    update = {"type": "assistant_message.content_part.text_delta", "content_index": 0, "delta": text}
    return ThreadItemUpdatedEvent.model_validate({"item_id": item_id, "update": update})


def shows(*items: ThreadItem) -> Step:
    """Show finished items."""

    async def step(context: Context) -> AsyncGenerator[ThreadStreamEvent, None]:
        for item in items:
            item.thread_id = context.thread.id
            yield ThreadItemDoneEvent(item=item)

    return step


def fails(error: Exception) -> Step:
    """Fail before anything is shown."""

    async def step(_: Context) -> AsyncGenerator[ThreadStreamEvent, None]:
        if error is not None:
            raise error
        yield  # pragma: no cover

    return step


def text_of(item: ThreadItem) -> str:
    """The text of a message, the type of anything else."""
    match item:
        case UserMessageItem() | AssistantMessageItem():
            return "".join(part.text for part in item.content)
        case _:
            return item.type


def texts(items: Sequence[ThreadItem]) -> list[str]:
    """The texts of the messages."""
    return [text_of(item) for item in items if isinstance(item, UserMessageItem | AssistantMessageItem)]


def dying_at(k: int, stop: StopSignal | None = None) -> Any:
    """Cancel the turn, once, in the place of its k-th frame: with `stop` the user does it, else the worker dies."""
    died = False

    async def die(_: str, count: int, __: bytes) -> None:
        nonlocal died
        if count == k and not died:
            died = True
            if stop is not None:
                stop.reason = CancelReason.USER
            raise asyncio.CancelledError

    return die
