"""Builders for the agents' tests: a thread in memory, a turn, and a run drained into its frames."""

import itertools
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from chatkit.agents import AgentContext
from chatkit.store import NotFoundError, Store, StoreItemType

from schemas.chatkit import (
    Attachment,
    Page,
    ThreadItem,
    ThreadItemDoneEvent,
    ThreadItemUpdatedEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    UserMessageItem,
    UserMessageTextContent,
)
from workers.agents.responder import AgentResponder
from workers.lanes.records import Owner

AT = datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001  # ChatKit's times are naive and local


@dataclass
class FakeTurn:
    """A turn as `workers.chat` describes it to the agents."""

    event_id: str = "evt_abc"
    attempt: int = 1
    queue: str = ""
    hops: int = 0
    agent: str | None = None
    tenant: str = "acme"
    user: str = "ada"
    session_id: str | None = None
    variables: dict[str, Any] = field(default_factory=dict)
    model: str | None = None
    traceparent: str | None = None
    journal: Any = None  # pydantic would build a validator of it
    joints: Any = None
    replaying: bool = False
    asked: tuple[Sequence[tuple[str, str]], str] | None = None
    usage: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def owner(self) -> Owner:
        return Owner(self.tenant, self.user)

    def id_scope(self, scope: str) -> AbstractContextManager[None]:
        return nullcontext()

    def ask_approval(self, calls: Sequence[tuple[str, str]], state: str) -> None:
        self.asked = (calls, state)

    async def next_call(self) -> None:
        """Every call may be made."""

    def add_usage(self, *, requests: int, input_tokens: int, output_tokens: int) -> None:
        self.usage.append((requests, input_tokens, output_tokens))


class MemoryStore(Store[FakeTurn]):
    """A thread's items in a list; ids count up, as the SQL store's do."""

    def __init__(self) -> None:
        self.items: list[ThreadItem] = []
        self._numbers = itertools.count(1)

    def generate_item_id(self, item_type: StoreItemType, thread: ThreadMetadata, context: FakeTurn) -> str:
        return f"{item_type}_{context.event_id}_{next(self._numbers)}"

    async def load_thread_items(
        self, thread_id: str, after: str | None, limit: int, order: str, context: FakeTurn
    ) -> Page[ThreadItem]:
        return Page(data=list(reversed(self.items))[:limit])

    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: FakeTurn) -> None:
        self.items.append(item)

    async def load_thread(self, thread_id: str, context: FakeTurn) -> ThreadMetadata:
        raise NotImplementedError

    async def save_thread(self, thread: ThreadMetadata, context: FakeTurn) -> None:
        raise NotImplementedError

    async def save_attachment(self, attachment: Attachment, context: FakeTurn) -> None:
        raise NotImplementedError

    async def load_attachment(self, attachment_id: str, context: FakeTurn) -> Attachment:
        raise NotImplementedError

    async def delete_attachment(self, attachment_id: str, context: FakeTurn) -> None:
        raise NotImplementedError

    async def load_threads(self, limit: int, after: str | None, order: str, context: FakeTurn) -> Page[ThreadMetadata]:
        raise NotImplementedError

    async def save_item(self, thread_id: str, item: ThreadItem, context: FakeTurn) -> None:
        raise NotImplementedError

    async def load_item(self, thread_id: str, item_id: str, context: FakeTurn) -> ThreadItem:
        for item in self.items:
            if item.id == item_id:
                return item
        raise NotFoundError(item_id)

    async def delete_thread(self, thread_id: str, context: FakeTurn) -> None:
        raise NotImplementedError

    async def delete_thread_item(self, thread_id: str, item_id: str, context: FakeTurn) -> None:
        raise NotImplementedError


def new_context(turn: FakeTurn | None = None) -> AgentContext[FakeTurn]:
    thread = ThreadMetadata(id="thr_1", created_at=AT)
    return AgentContext(thread=thread, store=MemoryStore(), request_context=turn or FakeTurn())


def user_says(text: str, number: int = 1) -> UserMessageItem:
    return UserMessageItem.model_validate(
        {
            "id": f"msg_user_{number}",
            "thread_id": "thr_1",
            "created_at": AT,
            "content": [UserMessageTextContent(text=text)],
            "inference_options": {},
        }
    )


async def answer(
    responder: AgentResponder,
    text: str,
    context: AgentContext[Any] | None = None,
    *,
    before: Sequence[ThreadItem] = (),
    active_agent: str | None = None,
) -> list[ThreadStreamEvent]:
    """Every event of the answer to one message."""
    context = context or new_context()
    stream = responder.respond(context, [*before, user_says(text)], active_agent)
    return [event async for event in stream]


async def failing(
    responder: AgentResponder, context: AgentContext[Any] | None = None
) -> tuple[list[ThreadStreamEvent], Exception]:
    """What was shown of an answer, and the error that ended it."""
    seen: list[ThreadStreamEvent] = []
    try:
        async for event in responder.respond(context or new_context(), [user_says("hi")], None):
            seen.append(event)  # noqa: PERF401  # what came before the failure counts
    except Exception as error:  # noqa: BLE001  # whatever it is, the test looks at it
        return seen, error
    raise AssertionError("the turn did not fail")


def text_of(events: Sequence[ThreadStreamEvent]) -> str:
    """The text of the finished messages, one line each."""
    done = [event.item for event in events if isinstance(event, ThreadItemDoneEvent)]
    return "\n".join(part.text for item in done if item.type == "assistant_message" for part in item.content)


def streamed_text_of(events: Sequence[ThreadStreamEvent]) -> str:
    """The text as it was streamed, delta by delta."""
    updates = [event.update for event in events if isinstance(event, ThreadItemUpdatedEvent)]
    return "".join(update.delta for update in updates if update.type == "assistant_message.content_part.text_delta")


def types_of(events: Sequence[ThreadStreamEvent]) -> list[str]:
    return [event.type for event in events]
