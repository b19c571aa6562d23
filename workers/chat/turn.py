"""One turn: the request through the ChatKit server, its frames to the clients, its items to the store."""

import asyncio
import json
from contextlib import aclosing
from datetime import datetime, timedelta

from chatkit.server import NonStreamingResult
from chatkit.store import NotFoundError as StoreNotFoundError

from schemas.chatkit import SDKHiddenContextItem, ThreadItemRemovedEvent, UserMessageItem
from schemas.events import Event
from schemas.outcome import Cancelled, CancelReason, Done, Outcome
from workers.chat.context import Owner, TurnContext
from workers.chat.database import Database
from workers.chat.partial import Shown, has_text, shown_by
from workers.chat.ports import Frames, FrameSource, Responder
from workers.chat.server import ReadServer, WorkerChatServer
from workers.chat.store import SqlStore
from workers.chat.unit_of_work import AnsweredError, TurnStore
from workers.errors import CancelRequestedError, NotFoundError, PermanentError, TransientError
from workers.policies.delivery import Delivery

DATA, END = b"data: ", b"\n\n"
STREAM_ERROR = b'{"type":"error","code":"stream.error"'
CANCELLED_TEXT = "The user cancelled the stream. Stop responding to the prior request."


class TurnHandler:
    """Runs a delivery. Failures are raised as `workers.errors`, for the policies to decide about."""

    def __init__(self, database: Database, responder: Responder, frames: FrameSource, *, longest: timedelta) -> None:
        self._database, self._responder, self._frames = database, responder, frames
        self._longest_seconds = longest.total_seconds()
        self._player = ReadServer(SqlStore(database))

    async def __call__(self, delivery: Delivery) -> Outcome:
        event = delivery.event
        context = TurnContext(
            Owner(event.tenant, event.userid), event.event_id, attempt=delivery.attempt, stop=delivery.stop
        )
        store = TurnStore(self._database, context.owner, event.event_id, delivery.lease.epoch)
        try:
            async with asyncio.timeout(self._longest_seconds):
                return await self._run(delivery, context, store)
        except (CancelRequestedError, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError):
                if delivery.stop.reason is None:
                    raise  # the worker drains, or the lease is lost: nothing is written, the event runs again
                _uncancel()
            return await self._stop(delivery, context, store)
        except TimeoutError:
            raise TransientError(f"the turn took more than {self._longest_seconds:g} s", kind="TurnTimeout") from None

    async def _run(self, delivery: Delivery, context: TurnContext, store: TurnStore) -> Outcome:
        try:
            await self._open(delivery, store)
        except AnsweredError:
            return Done()  # every frame was in the stream before the answer was stored
        frames = self._frames.open(delivery)
        shown = await self._shown(delivery)
        await self._take_back(frames, store, context, delivery.event, shown)
        await self._answer(delivery.event, WorkerChatServer(store, self._responder), context, frames, shown)
        # The order: what clients are to see is in the stream before the store says that the event is answered.
        await frames.flush()
        await store.commit(final=True)
        return Done()

    async def _open(self, delivery: Delivery, store: TurnStore) -> None:
        event = delivery.event
        create = event.type == "chatkit.threads.create"
        if event.thread_id is None or (create and delivery.next_frame == 1):
            # Of an event that has shown nothing there is nothing to be found, since frames are shown before anything
            # of an answer is stored: the first commit, which is fenced as well, saves a transaction.
            return
        try:
            await store.open(event.thread_id, create=create)
        except StoreNotFoundError as error:
            raise NotFoundError(str(error)) from None

    async def _answer(
        self, event: Event, server: WorkerChatServer, context: TurnContext, frames: Frames, shown: Shown | None
    ) -> None:
        """Drain the server. It swallows most errors of an answer: the context has them."""
        try:
            result = await server.process(json.dumps(event.data), context)
            if isinstance(result, NonStreamingResult):
                context.raise_failure()
                await frames.send(result.json)
                return
            async with aclosing(result.json_events) as chunks:
                async for chunk in chunks:
                    frame = chunk[len(DATA) : -len(END)]
                    if frame.startswith(STREAM_ERROR):
                        context.raise_failure()
                        raise RuntimeError("ChatKit ended the stream with an error of its own")
                    if shown is None or not _was_shown(frame, shown):
                        await frames.send(frame)
        except StoreNotFoundError as error:
            raise NotFoundError(str(error)) from None
        except (ValueError, NotImplementedError) as error:
            # ChatKit's word for a request that does not fit the thread; it names ids, not text
            raise PermanentError("the request does not fit the thread", kind=type(error).__name__) from None
        context.raise_failure()

    async def _shown(self, delivery: Delivery) -> Shown | None:
        """What earlier attempts have shown; None when there was nothing."""
        if delivery.next_frame == 1:
            return None
        return shown_by(await self._frames.shown(delivery), self._player)

    async def _take_back(
        self, frames: Frames, store: TurnStore, context: TurnContext, event: Event, shown: Shown | None
    ) -> None:
        """Remove what an earlier attempt showed of its answer; the user's own message stays."""
        for item_id in shown.live if shown else ():
            item = shown.done.get(item_id) if shown else None
            if isinstance(item, UserMessageItem):
                continue
            removal = ThreadItemRemovedEvent(item_id=item_id)
            await frames.send(removal.model_dump_json(exclude_none=True).encode())
            if event.thread_id is not None and store.has(item_id):
                await store.delete_thread_item(event.thread_id, item_id, context)

    async def _stop(self, delivery: Delivery, context: TurnContext, store: TurnStore) -> Outcome:
        """The user stopped it: keep exactly what clients have seen of the answer, and tell the agents of the stop."""
        reason = delivery.stop.reason or CancelReason.USER
        thread_id = delivery.event.thread_id
        if thread_id is None or reason is not CancelReason.USER:
            return Cancelled(reason)
        shown = shown_by(await self._frames.shown(delivery), self._player)
        partial = TurnStore(self._database, context.owner, delivery.event.event_id, delivery.lease.epoch)
        try:
            await partial.open(thread_id, create=shown.thread is not None)
        except (AnsweredError, StoreNotFoundError):
            return Cancelled(reason)
        if shown.thread is not None:
            await partial.save_thread(shown.thread, context)
        for item in [*shown.replaced.values(), *shown.done.values(), *filter(has_text, shown.pending.values())]:
            await partial.save_item(thread_id, item, context)
        mark = SDKHiddenContextItem(
            id=context.next_id("sdk_hidden_context"),
            thread_id=thread_id,
            created_at=datetime.now(),  # noqa: DTZ005  # ChatKit's times are naive and local
            content=CANCELLED_TEXT,
        )
        await partial.save_item(thread_id, mark, context)
        await partial.commit(final=True)
        return Cancelled(reason)


def _was_shown(frame: bytes, shown: Shown) -> bool:
    """Whether an earlier attempt has shown this: the thread's creation and the user's message are said once."""
    if frame.startswith(b'{"type":"thread.created"'):
        return shown.thread is not None
    if frame.startswith(b'{"type":"thread.item.done"'):
        item = json.loads(frame)["item"]
        return item["type"] == "user_message" and item["id"] in shown.done
    return False


def _uncancel() -> None:
    """The cancellation was understood; what is left to do must not be cut short by `asyncio.timeout`."""
    task = asyncio.current_task()
    if task is not None:
        while task.cancelling():
            task.uncancel()
