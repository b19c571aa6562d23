"""The official ChatKit server inside the worker. The protocol is theirs; this says what an answer is made of."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from chatkit.agents import AgentContext
from chatkit.errors import BaseStreamError
from chatkit.server import ChatKitServer, NonStreamingResult, StreamingResult
from chatkit.types import (
    AudioInput,
    ThreadsAddUserMessageReq,
    ThreadsCreateReq,
    TranscriptionResult,
    is_streaming_req,
)

from schemas.actions import APPROVAL_DECIDE
from schemas.chatkit import (
    Action,
    HiddenContextItem,
    SyncCustomActionResponse,
    ThreadItem,
    ThreadItemDoneEvent,
    ThreadItemRemovedEvent,
    ThreadItemReplacedEvent,
    ThreadItemUpdatedEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    UserMessageItem,
    WidgetItem,
    request_adapter,
)
from schemas.events import Event
from workers.chat.approvals import Approvals
from workers.chat.context import TurnContext
from workers.chat.joints import Joints, joined_events
from workers.chat.ports import ActionHandlers, Responder, Transcriber
from workers.chat.sign_in_lock import is_locked, unlock
from workers.chat.store import AttachmentRecords, IdStore
from workers.chat.unit_of_work import TurnStore

Events = AsyncGenerator[ThreadStreamEvent, None]
Start = Callable[[], Awaitable[AsyncIterator[ThreadStreamEvent]]]
Handler = Callable[[ThreadMetadata, TurnContext], AsyncIterator[ThreadStreamEvent]]
"""Answers the one event of a turn."""

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

    def __init__(
        self,
        store: TurnStore,
        responder: Responder,
        actions: ActionHandlers,
        transcriber: Transcriber | None,
        approval_ttl: timedelta,
        handler: Handler | None = None,
    ) -> None:
        """`handler` answers in place of agents and actions."""
        super().__init__(store, AttachmentRecords())
        self._handler = handler
        self._turn_store = store
        self._approvals = Approvals(store, responder, approval_ttl)
        self._responder, self._actions, self._transcriber = responder, actions, transcriber
        self._streams: list[Events] = []

    async def aclose(self) -> None:
        """End what still answers: ChatKit's generators leave what they iterate to the garbage collector."""
        for stream in self._streams:
            await stream.aclose()

    def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: TurnContext
    ) -> AsyncIterator[ThreadStreamEvent]:
        """Stream the answer of the agents."""
        return self._keep(thread, lambda: self._answer(thread, input_user_message, context), context)

    def action(
        self,
        thread: ThreadMetadata,
        action: Action[str, Any],
        sender: WidgetItem | None,
        context: TurnContext,
    ) -> AsyncIterator[ThreadStreamEvent]:
        """Stream what the action's handler makes of it; without one the agents are told of it and answer."""
        return self._keep(thread, lambda: self._act(thread, action, sender, context), context)

    async def sync_action(
        self,
        thread: ThreadMetadata,
        action: Action[str, Any],
        sender: WidgetItem | None,
        context: TurnContext,
    ) -> SyncCustomActionResponse:
        """What the action's handler makes of its widget.

        Without a handler the widget stays as it is and the agents learn of the action with the next message: the page
        waits for this one answer, and would show nothing else of theirs.
        """
        if action.type == APPROVAL_DECIDE:
            raise NotImplementedError("what follows a decision is streamed")
        if self._handler is None and action.type not in self._actions:
            await self._note(thread, action, sender, context)
            return SyncCustomActionResponse(updated_item=sender)
        updated: ThreadItem | None = sender
        async for event in self.action(thread, action, sender, context):
            updated = await self._apply(event, thread, context) or updated
        context.raise_failure()
        return SyncCustomActionResponse(updated_item=updated)

    async def transcribe(self, audio_input: AudioInput, context: TurnContext) -> TranscriptionResult:
        """The text of what was said. Raises NotImplementedError: nobody listens here."""
        if self._transcriber is None:
            return await super().transcribe(audio_input, context)
        return TranscriptionResult(text=await self._transcriber(audio_input, context))

    async def handle_stream_cancelled(
        self, thread: ThreadMetadata, pending_items: list[ThreadItem], context: TurnContext
    ) -> None:
        """Nothing: a turn that is interrupted runs again, and what a user's cancel leaves is `TurnHandler`'s."""

    def _update_pending_items(self, pending_items: dict[str, ThreadItem], event: ThreadItemUpdatedEvent) -> None:
        """Nothing: ChatKit does it for the method above, with every piece of text (a twentieth of a turn's CPU)."""

    def _keep(self, thread: ThreadMetadata, start: Start, context: TurnContext) -> Events:
        """Remember the stream, to end it."""
        stream = self._kept(thread, start, context)
        self._streams.append(stream)
        return stream

    async def _kept(self, thread: ThreadMetadata, start: Start, context: TurnContext) -> Events:
        """An answer whose end is known: what is raised is kept, since ChatKit would make an error frame of it."""
        try:
            async with aclosing(await start()) as events:  # type: ignore[type-var]  # every async def with yield has it
                async for event in events:
                    if is_locked(thread) and not context.replaying:
                        await self._unlock(thread)
                    yield event
            if is_locked(thread):
                await self._unlock(thread)
            if (question := self._approvals.ask(thread, context)) is not None:
                yield question
        except BaseStreamError:
            context.error_is_told = True
            raise  # meant for the user: ChatKit shows it
        except Exception as error:  # noqa: BLE001  # the policies decide about it
            context.fail(error)

    async def _unlock(self, thread: ThreadMetadata) -> None:
        """The answer comes, so whoever had to sign in has done so: the composer is free. ChatKit tells clients."""
        await self._turn_store.change_now(unlock)
        unlock(thread)

    async def _answer(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: TurnContext
    ) -> AsyncIterator[ThreadStreamEvent]:
        """Ask the agents."""
        store = self._turn_store
        store.restore(thread)
        context.given = store.view.written()
        if input_user_message is not None:
            # The user's side is stored before the answer begins, so that a reload shows it. Nothing else is: a
            # client tool's output or a structured input must be found as it was, should this run be repeated.
            await store.commit()
        if self._handler is not None:
            return self._handler(thread, context)
        if context.join is not None and context.journal is not None:
            commit = store.commit if input_user_message is not None else _nothing
            build = partial(self.message_of, thread=thread, context=context)
            context.joints = Joints(context.journal.entries, context.join, build, commit)
        agent_context = AgentContext[TurnContext](thread=thread, store=store, request_context=context)
        return self._responder.respond(agent_context, self._asked(context), thread.metadata.get(AGENT_KEY))

    def _asked(self, context: TurnContext) -> list[ThreadItem]:
        """What the agents are to answer: the thread without what an earlier attempt has made of this answer. The run
        makes that anew from the journal, and would not fit it if it found it there."""
        made = set[str]()
        if context.journal is not None:
            joined = [event for _, event in joined_events(context.journal.entries)]
            made = {
                *context.journal.items,
                *(TurnContext(context.owner, e.event_id).next_id("message") for e in joined),
            }
        items = self._turn_store.view.recent(HISTORY + len(made))
        return [item for item in items if item.id not in made][-HISTORY:]

    async def message_of(self, event: Event, *, thread: ThreadMetadata, context: TurnContext) -> UserMessageItem:
        """The message of an event as ChatKit makes an item of it, with the id that it has wherever it is made."""
        request = request_adapter().validate_python(event.data)
        assert isinstance(request, ThreadsCreateReq | ThreadsAddUserMessageReq)  # noqa: S101  # asked of nothing else
        own = TurnContext(context.owner, event.event_id)
        return await self._build_user_message_item(request.params.input, thread, own)

    async def _act(
        self, thread: ThreadMetadata, action: Action[str, Any], sender: WidgetItem | None, context: TurnContext
    ) -> AsyncIterator[ThreadStreamEvent]:
        """Ask the action's handler; without one, tell the agents."""
        if action.type == APPROVAL_DECIDE:
            self._turn_store.restore(thread)
            return self._approvals.decide(thread, action.payload, sender, context)
        if self._handler is not None:
            return self._handler(thread, context)
        handler = self._actions.get(action.type)
        if handler is not None:
            return handler(thread, action, sender, context)
        await self._note(thread, action, sender, context)
        return await self._answer(thread, None, context)

    async def _note(
        self, thread: ThreadMetadata, action: Action[str, Any], sender: WidgetItem | None, context: TurnContext
    ) -> None:
        """Tell the agents of an action, as hidden context."""
        said = {"action": action.type, "payload": action.payload, "widget": sender.id if sender else None}
        item = HiddenContextItem(
            id=context.next_id("message"),
            thread_id=thread.id,
            created_at=datetime.now(),  # noqa: DTZ005  # ChatKit's times are naive and local
            # the payload is the page's word: a typed </HiddenContext> in it must not end the context
            content="The user chose an action: " + json.dumps(said).replace("<", "\\u003c"),
        )
        await self._turn_store.add_thread_item(thread.id, item, context)

    async def _apply(self, event: ThreadStreamEvent, thread: ThreadMetadata, context: TurnContext) -> ThreadItem | None:
        """Store what a stream would store; the item that the event shows."""
        match event:
            case ThreadItemDoneEvent() | ThreadItemReplacedEvent():
                await self.store.save_item(thread.id, event.item, context)
                return event.item
            case ThreadItemRemovedEvent():
                await self.store.delete_thread_item(thread.id, event.item_id, context)
            case _:
                pass  # only streams have somewhere to show it
        return None


async def _nothing() -> None:
    """What the request itself gave must be found as it was, should this run be repeated."""
