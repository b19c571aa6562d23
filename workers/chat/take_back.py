"""Taking back what was shown of an answer that does not come, so that the screen shows what is stored."""

from schemas.chatkit import ThreadItemRemovedEvent, frame_of
from workers.chat import rows
from workers.chat.database import Database
from workers.chat.partial import shown_by
from workers.chat.ports import FrameSource
from workers.chat.server import ReadServer
from workers.chat.store import SqlStore
from workers.lanes.records import Owner
from workers.policies.delivery import Delivery


class TakeBack:
    """Compares the stream of an event that is given up with the store. Its last worker may have died before either."""

    def __init__(self, database: Database, frames: FrameSource) -> None:
        self._database, self._frames = database, frames
        self._player = ReadServer(SqlStore(database))

    async def __call__(self, delivery: Delivery) -> list[bytes]:
        """Frames that remove each item that was shown and is not stored.

        Raises:
            DatabaseError: the database is away.
            RedisError, OSError: the state is away.
        """
        event = delivery.event
        thread_id = event.thread_id
        shown = shown_by(await self._frames.shown(delivery), self._player)
        ids = [*shown.done, *shown.pending]
        if thread_id is None or not ids:
            return []
        owner = Owner(event.tenant, event.userid)
        stored = await self._database.read(lambda connection: rows.stored_ids(connection, owner, thread_id, ids))
        return [frame_of(ThreadItemRemovedEvent(item_id=item_id)) for item_id in ids if item_id not in stored]
