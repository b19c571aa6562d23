"""The official ChatKit server inside the worker. The protocol is theirs; this says what an answer is made of."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import datetime
from typing import Any

from chatkit.agents import AgentContext
from chatkit.errors import BaseStreamError
from chatkit.server import ChatKitServer, NonStreamingResult, StreamingResult
from chatkit.types import is_streaming_req

from schemas.chatkit import (
    Action,
    HiddenContextItem,
    SyncCustomActionResponse,
    ThreadItem,
    ThreadMetadata,
    ThreadStreamEvent,
    UserMessageItem,
    WidgetItem,
    request_adapter,
)
from workers.chat.context import TurnContext
from workers.chat.ports import Responder
from workers.chat.store import AttachmentRecords, IdStore
from workers.chat.unit_of_work import TurnStore

HISTORY = 100
"""Items of the thread that the agents get to see, the last ones."""

AGENT_KEY = "agent"
"""Where the thread's metadata keeps who answered last."""


class CachedServer(ChatKitServer[TurnContext]):
    """ChatKit's server, but for its building a new validator for each request: that takes milliseconds."""

    async def process(
        self, request: str | bytes | bytearray, context: TurnContext
    ) -> StreamingResult | NonStreamingResult:
        """What the base class does."""
        parsed = request_adapter().validate_json(request)
        if is_streaming_req(parsed):
            return StreamingResult(self._process_streaming(parsed, context))
        return NonStreamingResult(await self._process_non_streaming(parsed, context))


class ReadServer(CachedServer):
    """What needs no answer: reads, titles, attachments' metadata, deletion."""

    def __init__(self, store: IdStore) -> None:
        super().__init__(store, AttachmentRecords())

    def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: TurnContext
    ) -> AsyncIterator[ThreadStreamEvent]:
        raise NotImplementedError("turns run in workers")


class WorkerChatServer(CachedServer):
    """One turn over the store of that turn. Whatever ends the answer is kept on the context for the policies."""

    def __init__(self, store: TurnStore, responder: Responder) -> None:
        super().__init__(store, AttachmentRecords())
        self._turn_store = store
        self._responder = responder

    async def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: TurnContext
    ) -> AsyncIterator[ThreadStreamEvent]:
        """Stream the answer of the agents."""
        store = self._turn_store
        try:
            store.restore(thread)
            if input_user_message is not None:
                # The user's side is stored before the answer begins, so that a reload shows it. Nothing else is: a
                # client tool's output or a structured input must be found as it was, should this run be repeated.
                await store.commit()
            agent_context = AgentContext[TurnContext](thread=thread, store=store, request_context=context)
            answer = self._responder.respond(agent_context, store.recent_items(HISTORY), thread.metadata.get(AGENT_KEY))
            async with aclosing(answer) as events:  # type: ignore[type-var]  # a generator, as every async def with yield
                async for event in events:
                    yield event
        except BaseStreamError:
            raise  # meant for the user: ChatKit shows it
        except Exception as error:  # noqa: BLE001  # ChatKit would make an error frame of it; the policies decide
            context.fail(error)

    async def action(
        self,
        thread: ThreadMetadata,
        action: Action[str, Any],
        sender: WidgetItem | None,
        context: TurnContext,
    ) -> AsyncIterator[ThreadStreamEvent]:
        """Tell the agents what the user did in a widget, and stream what they make of it."""
        text = f"The user chose the action {action.type!r} with the payload {json.dumps(action.payload)}"
        item = HiddenContextItem(
            id=context.next_id("message"),
            thread_id=thread.id,
            created_at=datetime.now(),  # noqa: DTZ005  # ChatKit's times are naive and local
            content=f"{text} in the widget {sender.id}." if sender else f"{text}.",
        )
        await self._turn_store.add_thread_item(thread.id, item, context)
        async for event in self.respond(thread, None, context):
            yield event

    async def sync_action(
        self,
        thread: ThreadMetadata,
        action: Action[str, Any],
        sender: WidgetItem | None,
        context: TurnContext,
    ) -> SyncCustomActionResponse:
        """Note the action in the conversation; the widget stays as it is."""
        async for _ in self.action(thread, action, sender, context):
            pass
        context.raise_failure()
        return SyncCustomActionResponse(updated_item=sender)

    async def handle_stream_cancelled(
        self, thread: ThreadMetadata, pending_items: list[ThreadItem], context: TurnContext
    ) -> None:
        """Nothing: a turn that is interrupted runs again, and what a user's cancel leaves is `TurnHandler`'s."""
