"""One turn: the request through the ChatKit server, its frames to the clients, its items to the store."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from datetime import timedelta
from functools import partial

from chatkit.server import NonStreamingResult
from chatkit.store import NotFoundError as StoreNotFoundError

from schemas.chatkit import (
    STREAMING_REQUESTS,
    ClientEffectEvent,
    HiddenContextItem,
    ProgressUpdateEvent,
    SDKHiddenContextItem,
    ThreadItemDoneEvent,
    ThreadItemRemovedEvent,
    UserMessageItem,
    frame_of,
)
from schemas.events import CREATE, PREFIX, Event
from schemas.outcome import Cancelled, CancelReason, Done, Outcome, Released, ReleaseReason
from workers.cancellation import take_cancellation
from workers.chat.context import TurnContext
from workers.chat.database import Database
from workers.chat.fence import AnsweredError
from workers.chat.joints import joined_events
from workers.chat.journal import TurnJournal
from workers.chat.partial import Shown, keep_partial, shown_by, updated_frame
from workers.chat.ports import (
    NO_ACTIONS,
    NO_HANDLERS,
    ActionHandlers,
    EventHandlers,
    Frames,
    FrameSource,
    Responder,
    Transcriber,
)
from workers.chat.server import ReadServer, WorkerChatServer
from workers.chat.sign_in_lock import is_locked, lock
from workers.chat.store import SqlStore
from workers.chat.timing import TurnTimes
from workers.chat.unit_of_work import TurnStore, empty_thread
from workers.errors import (
    AuthenticationError,
    CancelRequestedError,
    DatabaseError,
    HandedOverError,
    NotFoundError,
    PermanentError,
    TransientError,
)
from workers.lanes.records import Owner
from workers.policies.delivery import Delivery
from workers.routing import NOWHERE, Route
from workers.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

APPROVAL_TTL = timedelta(days=7)
DATA, END = b"data: ", b"\n\n"
STREAM_ERROR = b'{"type":"error","code":"stream.error"'
FINAL = b'"allow_retry":false'
ONCE_SHOWN = (
    b'{"type":"thread.created"',
    b'{"type":"stream_options"',
    b'{"type":"thread.item.done"',
    b'{"type":"thread.item.removed"',
)
"""Frames that a second attempt may make again though nothing is replayed."""
UNFIT = "the request does not fit the thread"
CANCELLED_TEXT = "The user cancelled the stream. Stop responding to the prior request."
SIGN_IN = frame_of(ProgressUpdateEvent(icon="keys", text="Please sign in again: this message waits until you have."))
REAUTHENTICATE = "reauthenticate"
"""Name of the client effect that lets a page ask for a sign-in, in its own way."""
ASKED_BY_USER = frozenset({CancelReason.USER, CancelReason.INTERRUPTED})
STOPPED_TEXT = "The stream was stopped. Stop responding to the prior request."


class TurnHandler:
    """Runs a delivery. Failures are raised as `workers.errors`, for the policies to decide about.

    Args:
        database: where conversations are kept.
        responder: the agents.
        frames: the way to the clients.
        longest: how long a turn may take.
        actions: widget actions that code handles; the agents are told of all others.
        approval_ttl: how long a user may take to approve what an agent is about to do.
        transcriber: for `input.transcribe`; without one it is refused.
        route: which agent begins the turn, or which of `handlers` answers it.
        handlers: code that answers in place of agents, by name.
        on_stale: told, from any thread, the id of an event of which the store has refused a write.
        metrics: of the process.
    """

    def __init__(
        self,
        database: Database,
        responder: Responder,
        frames: FrameSource,
        *,
        longest: timedelta,
        actions: ActionHandlers = NO_ACTIONS,
        transcriber: Transcriber | None = None,
        approval_ttl: timedelta = APPROVAL_TTL,
        route: Callable[[Event], Route] = lambda _: NOWHERE,
        handlers: EventHandlers = NO_HANDLERS,
        on_stale: Callable[[str], None] = lambda _: None,
        metrics: Metrics | None = None,
    ) -> None:
        self._on_stale, self._approval_ttl = on_stale, approval_ttl
        self._route, self._handlers = route, handlers
        self._metrics = metrics or Metrics()
        self._database, self._frames = database, frames
        self._responder, self._actions, self._transcriber = responder, actions, transcriber
        self._longest_seconds = longest.total_seconds()
        self._player = ReadServer(SqlStore(database))

    async def __call__(self, delivery: Delivery) -> Outcome:
        event = delivery.event
        context = TurnContext(
            Owner(event.tenant, event.userid),
            event.event_id,
            attempt=delivery.attempt,
            traceparent=event.traceparent,
            queue=delivery.queue,
            hops=delivery.hops,
            agent=self._route(event).agent,
            stop=delivery.stop,
            session_id=event.sessionid,
            variables=event.data.get("metadata") or {},
            use=delivery.use,
        )
        if delivery.stop.reason is not None:
            return await self._stop(delivery, context)  # stopped while nobody ran it
        try:
            return await self._run(delivery, context)
        except HandedOverError as handed_over:
            return Released(ReleaseReason.HANDOFF, handed_over.queue)
        except (CancelRequestedError, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError):
                if delivery.stop.reason is None:
                    raise  # the worker drains, or the lease is lost: nothing is written, the event runs again
                take_cancellation()
            return await self._stop(delivery, context)

    async def _run(self, delivery: Delivery, context: TurnContext) -> Outcome:
        frames, times = self._frames.open(delivery), TurnTimes(delivery, self._metrics)
        try:
            async with asyncio.timeout(self._longest_seconds):
                await self._turn(delivery, context, frames, times)
        except Exception as error:
            # Whoever takes back what was shown must find all of it in the stream, and nothing may come after it.
            await frames.flush()
            if isinstance(error, TimeoutError):
                message = f"the turn took more than {self._longest_seconds:g} s"
                raise TransientError(message, kind="TurnTimeout") from None
            raise
        finally:
            times.end()
        return Done()

    async def _turn(self, delivery: Delivery, context: TurnContext, frames: Frames, times: TurnTimes) -> None:
        store = self._store(delivery, context)
        try:
            await self._open(delivery, store)
            shown = await self._shown(delivery)
            times.wait_for_text = shown is None or not shown.answer_ids
            context.journal = await self._journal(delivery, frames)
            context.join = partial(self._frames.join, delivery)
            await self._take_back(frames, store, context, delivery.event, shown)
            if shown is not None and shown.is_locked and store.stored is not None and not is_locked(store.stored):
                await frames.send(updated_frame(store.stored, self._player))  # a worker died before it could
            try:
                await self._answer(delivery.event, store, context, frames, shown, times)
            except AuthenticationError:
                await self._ask_to_sign_in(delivery.event, store, frames, shown)
                raise
            # The order: what clients are to see is in the stream before the store says that the event is answered.
            await frames.flush()
            await store.commit(final=True)
        except AnsweredError:
            if delivery.next_frame == 1:
                await self._show_stored(delivery.event, store, frames)

    def _store(self, delivery: Delivery, context: TurnContext) -> TurnStore:
        return TurnStore(self._database, context.owner, context.event_id, delivery.lease.epoch, self._on_stale)

    def _server(self, store: TurnStore, event: Event) -> WorkerChatServer:
        name = self._route(event).handler
        handler = partial(self._handlers[name], event) if name is not None else None
        return WorkerChatServer(store, self._responder, self._actions, self._transcriber, self._approval_ttl, handler)

    async def _open(self, delivery: Delivery, store: TurnStore) -> None:
        event = delivery.event
        create = event.type == CREATE
        if event.thread_id is None or (create and delivery.next_frame == 1):
            # Of an event that has shown nothing there is nothing to be found, since frames are shown before anything
            # of an answer is stored: the first commit, which is fenced as well, saves a transaction.
            return
        try:
            await store.open(event.thread_id, create=create)
        except StoreNotFoundError as error:
            raise NotFoundError(str(error)) from None

    async def _answer(
        self,
        event: Event,
        store: TurnStore,
        context: TurnContext,
        frames: Frames,
        shown: Shown | None,
        times: TurnTimes,
    ) -> None:
        """Drain the server. It swallows most errors of an answer: the context has them."""
        server = self._server(store, event)
        try:
            async with aclosing(server):
                result = await server.process(json.dumps(event.data), context)
                if isinstance(result, NonStreamingResult):
                    if shown is None:
                        await frames.send(result.json)
                else:
                    await _relay(result.json_events, context, frames, shown, times)
        except StoreNotFoundError as error:
            raise NotFoundError(str(error)) from None
        except (ValueError, NotImplementedError) as error:
            # ChatKit's word for a request that does not fit the thread; its text may hold what people wrote
            raise PermanentError(UNFIT, kind=type(error).__name__) from None
        context.raise_failure()

    async def _ask_to_sign_in(self, event: Event, store: TurnStore, frames: Frames, shown: Shown | None) -> None:
        """Ask in the chat, lock the composer, and let the page ask as well. Each later attempt only asks once more.

        The lock is stored before it is shown: a page that is loaded in between is locked until the turn goes on, as it
        should be. If it cannot be stored, it is not shown.
        """
        await frames.send(SIGN_IN)
        on_screen = shown is not None and shown.is_locked and store.stored is not None and is_locked(store.stored)
        if event.type.removeprefix(PREFIX) not in STREAMING_REQUESTS:
            return  # its one answer is JSON, and on no screen
        with suppress(DatabaseError):
            locked = await store.change_now(lock)
            if locked is not None and not on_screen:
                await frames.send(updated_frame(locked, self._player))
                await frames.send(frame_of(ClientEffectEvent(name=REAUTHENTICATE, data={"event_id": event.event_id})))

    async def _shown(self, delivery: Delivery) -> Shown | None:
        """What earlier attempts have shown; None when there was nothing."""
        if delivery.next_frame == 1:
            return None
        return shown_by(await self._frames.shown(delivery), self._player)

    async def _journal(self, delivery: Delivery, frames: Frames) -> TurnJournal:
        """The steps that earlier attempts have completed, and the place for those of this one."""
        entries = await self._frames.journal(delivery) if delivery.journaled else {}
        if entries:
            log.info("turn_resumed", extra={"event_id": delivery.event.event_id, "steps": len(entries)})
        return TurnJournal(entries, frames.keep)

    async def _take_back(
        self, frames: Frames, store: TurnStore, context: TurnContext, event: Event, shown: Shown | None
    ) -> None:
        """Remove what an earlier attempt showed of steps that it did not complete; the user's own message stays.

        What completed steps have shown stays on the screen. It is not in the store: the run makes these items anew from
        the journal, the same ones, and stores them with the rest.
        """
        if shown is None:
            return
        kept = context.journal.items if context.journal is not None else frozenset()
        for item_id in shown.answer_ids:
            if item_id in kept:
                store.view.expect((shown.done | shown.pending)[item_id])
                continue
            await frames.send(frame_of(ThreadItemRemovedEvent(item_id=item_id)))
            if event.thread_id is not None and store.view.get(item_id) is not None:
                await store.delete_thread_item(event.thread_id, item_id, context)
            shown.forget(item_id)

    async def _show_stored(self, event: Event, store: TurnStore, frames: Frames) -> None:
        """The answer is stored, but its stream is gone: events may be published again after the retention."""
        for item in await store.answer(str(event.thread_id)):
            said = isinstance(item, UserMessageItem) and event.type == CREATE  # by ChatKit, before the store was asked
            if not said and not isinstance(item, HiddenContextItem | SDKHiddenContextItem):
                await frames.send(self._player._serialize(ThreadItemDoneEvent(item=item)))  # noqa: SLF001  # as ChatKit
        await frames.flush()

    async def _stop(self, delivery: Delivery, context: TurnContext) -> Outcome:
        """Keep exactly what clients have seen of the answer, and tell the agents that it was stopped; or nothing of it
        and of its question, where it is rolled back: whoever settles the event has that removed from the screens."""
        reason, event = delivery.stop.reason or CancelReason.USER, delivery.event
        if event.thread_id is None or reason is CancelReason.THREAD_DELETED:
            return Cancelled(reason)
        store = self._store(delivery, context)
        with suppress(AnsweredError, StoreNotFoundError):  # it came to its end after all, or was never begun
            if reason is CancelReason.ROLLED_BACK:
                await store.roll_back(event.thread_id, create=event.type == CREATE)
                return Cancelled(reason)
            frames, journal = await asyncio.gather(self._frames.shown(delivery), self._frames.journal(delivery))
            shown = shown_by(frames, self._player)
            if reason is CancelReason.INTERRUPTED and event.type == CREATE and shown.created is None:
                await self._only_ask(event, store, context)
            else:
                note = CANCELLED_TEXT if reason in ASKED_BY_USER else STOPPED_TEXT
                await self._show_joined(journal, event.thread_id, shown, store, context)
                await keep_partial(store, event.thread_id, shown, context, note)
        return Cancelled(reason)

    async def _show_joined(
        self, journal: Mapping[str, bytes], thread_id: str, shown: Shown, store: TurnStore, context: TurnContext
    ) -> None:
        """Messages that had joined the turn, but came too late to be shown, are the thread's as well."""
        for _, event in joined_events(journal):
            message = await self._server(store, event).message_of(
                event, thread=empty_thread(thread_id), context=context
            )
            shown.done.setdefault(message.id, message)

    async def _only_ask(self, event: Event, store: TurnStore, context: TurnContext) -> None:
        """Make the thread that this event was to make, for the message that has interrupted it, without an answer."""
        thread = empty_thread(str(event.thread_id))
        await store.open(thread.id, create=True)
        if store.stored is None:
            await store.save_thread(thread, context)
        message = await self._server(store, event).message_of(event, thread=thread, context=context)
        await store.save_item(thread.id, message, context)
        await store.commit(final=True)


async def _relay(
    stream: AsyncGenerator[bytes, None], context: TurnContext, frames: Frames, shown: Shown | None, times: TurnTimes
) -> None:
    """Show the frames as they come, but for those that an earlier attempt has shown."""
    async with aclosing(stream) as chunks:
        async for chunk in chunks:
            frame = chunk[len(DATA) : -len(END)]
            if frame.startswith(STREAM_ERROR) and not context.error_is_told:
                context.raise_failure()
                if FINAL in frame:
                    raise PermanentError(UNFIT, kind="WrongItem")
                raise RuntimeError("ChatKit ended the stream with an error of its own")
            if not _was_shown(frame, shown, replaying=context.replaying):
                await frames.send(frame)
                if times.wait_for_text:
                    times.look(frame, frames)


def _was_shown(frame: bytes, shown: Shown | None, *, replaying: bool) -> bool:
    """Whether an earlier attempt has shown this: the thread's creation, the user's message, and what its steps made.

    A step is in the journal only if all its frames are in the stream. An item of it may have been taken back since,
    by a dead letter that was redriven: that one is shown again.
    """
    if not replaying and (shown is None or not frame.startswith(ONCE_SHOWN)):
        return False
    event = json.loads(frame)
    match event["type"]:
        case "thread.created":
            return shown is not None and shown.created is not None
        case "stream_options":
            return shown is not None and shown.has_options
        case "thread.item.added" | "thread.item.done" | "thread.item.replaced":
            return _is_on_screen(event["item"]["id"], shown, replaying=replaying)
        case "thread.item.updated":
            return _is_on_screen(event["item_id"], shown, replaying=replaying)
        case "thread.item.removed":
            if shown is not None:
                shown.forget(event["item_id"])
            return False
        case _:
            return replaying


def _is_on_screen(item_id: str, shown: Shown | None, *, replaying: bool) -> bool:
    if shown is None:
        return False
    return item_id in shown.done or (replaying and (item_id in shown.pending or item_id in shown.replaced))
