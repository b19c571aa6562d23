"""Taking back what was shown of an answer that does not come, so that the screen shows what is stored."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from chatkit.store import NotFoundError
from sqlalchemy import Connection

from schemas.chatkit import ThreadItem, ThreadItemRemovedEvent, ThreadItemReplacedEvent, ThreadMetadata, frame_of
from schemas.events import Event
from workers.chat import fence, rows
from workers.chat.database import Database
from workers.chat.fence import AnsweredError
from workers.chat.partial import Shown, shown_by, updated_frame
from workers.chat.ports import FrameSource
from workers.chat.server import ReadServer
from workers.chat.sign_in_lock import is_locked, unlock
from workers.chat.store import SqlStore
from workers.chat.unit_of_work import TurnStore
from workers.lanes.records import Owner
from workers.policies.delivery import Delivery, LastLook


@dataclass(frozen=True, slots=True)
class _Stored:
    """What the database has of an event and its thread."""

    answered: bool
    thread: ThreadMetadata | None
    item_ids: frozenset[str]
    replaced: Sequence[ThreadItem] = ()


class TakeBack:
    """Compares the stream of an event that is given up with the store. Its last worker may have died before either."""

    def __init__(self, database: Database, frames: FrameSource) -> None:
        self._database, self._frames = database, frames
        self._player = ReadServer(SqlStore(database))

    async def __call__(self, delivery: Delivery) -> LastLook:
        """Frames that remove what was shown and is not stored, show what was changed as it is stored, and free the
        composer if it was locked; and whether the event is answered after all.

        Raises:
            DatabaseError: the database is away.
            LeaseLostError: a later attempt has claimed the thread.
            RedisError, OSError: the state is away.
        """
        event = delivery.event
        thread_id = event.thread_id
        frames = await self._frames.shown(delivery) if thread_id is not None else ()
        if thread_id is None or not frames:
            return LastLook()
        shown = shown_by(frames, self._player)
        ids, owner = [*shown.done, *shown.pending], Owner(event.tenant, event.userid)
        stored = await self._database.read(lambda connection: _look(connection, owner, event, thread_id, shown))
        gone = [item_id for item_id in ids if item_id not in stored.item_ids]
        removed = [frame_of(ThreadItemRemovedEvent(item_id=item_id)) for item_id in gone]
        if stored.thread is None:
            return LastLook(removed, stored.answered)
        before = [self._player._serialize(ThreadItemReplacedEvent(item=item)) for item in stored.replaced]  # noqa: SLF001  # as ChatKit
        unlocked = await self._unlocked(delivery, stored.thread, shown)
        return LastLook([*removed, *before, *unlocked], stored.answered)

    async def _unlocked(self, delivery: Delivery, thread: ThreadMetadata, shown: Shown) -> list[bytes]:
        """The event waits for no sign-in any more, and so does its thread."""
        if is_locked(thread):
            event = delivery.event
            owner = Owner(event.tenant, event.userid)
            store = TurnStore(self._database, owner, event.event_id, delivery.lease.epoch)
            with suppress(AnsweredError, NotFoundError):  # whoever has come before has unlocked it, or deleted it
                await store.open(thread.id, create=False)
                await store.change_now(unlock)
            unlock(thread)
        return [updated_frame(thread, self._player)] if shown.is_locked else []


def _look(connection: Connection, owner: Owner, event: Event, thread_id: str, shown: Shown) -> _Stored:
    answered = fence.is_answered(connection, owner, event.event_id)
    item_ids = frozenset(rows.stored_ids(connection, owner, thread_id, [*shown.done, *shown.pending]))
    try:
        thread = rows.load_thread(connection, owner, thread_id)
    except NotFoundError:
        return _Stored(answered, None, item_ids)
    replaced = rows.stored_ids(connection, owner, thread_id, list(shown.replaced))
    items = [rows.load_item(connection, owner, thread_id, item_id) for item_id in replaced]
    return _Stored(answered, thread, item_ids, items)
