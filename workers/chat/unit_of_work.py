"""The store of one turn: reads once, buffers what is written, commits in few transactions, fenced by the epoch.

A transaction costs more than a millisecond of CPU, and a turn that fails must leave nothing half done behind.
"""

from typing import Any

from chatkit.store import NotFoundError
from sqlalchemy import Connection, and_, select, update

from schemas.chatkit import Attachment, Page, ThreadItem, ThreadMetadata
from workers.chat import rows
from workers.chat.context import Owner, TurnContext
from workers.chat.database import Database
from workers.chat.store import IdStore
from workers.chat.tables import threads, turns
from workers.errors import LeaseLostError

WINDOW = 500
"""Items of a thread that a turn reads at its beginning. Older ones are read page by page when asked for."""


class AnsweredError(Exception):
    """The final answer of this event is stored already: there is nothing to run."""


class TurnStore(IdStore):
    """The thread of one turn, as the turn sees it."""

    def __init__(self, database: Database, owner: Owner, event_id: str, epoch: int) -> None:
        self._database = database
        self._owner, self._event_id, self._epoch = owner, event_id, epoch
        self._thread: ThreadMetadata | None = None
        self._saved: ThreadMetadata | None = None
        self._items: dict[str, ThreadItem] = {}
        self._window_is_all = True
        self._made_before = False
        self._written: dict[str, None] = {}
        self._deleted: dict[str, None] = {}
        self._attachments: dict[str, Attachment] = {}

    async def open(self, thread_id: str, *, create: bool) -> None:
        """Claim the thread for this turn's epoch, and read it.

        Args:
            thread_id: the thread.
            create: the turn makes the thread, unless an earlier attempt has.

        Raises:
            AnsweredError: an earlier attempt has stored the answer.
            LeaseLostError: a later attempt has claimed the thread.
            NotFoundError: no such thread, or not the owner's.
        """
        page = await self._database.write(lambda connection: self._open(connection, thread_id, create=create))
        if page is None or self._saved is None:
            return
        self._thread = self._saved.model_copy(deep=True)
        self._made_before = create
        self._items = {item.id: item for item in reversed(page.data)}
        self._window_is_all = not page.has_more

    async def commit(self, *, final: bool = False) -> None:
        """Write what is buffered, in one transaction; `final` marks the event as answered.

        Raises:
            LeaseLostError: a later attempt has claimed the thread, or it is gone. Nothing is written.
        """
        thread = self._thread
        if thread is None:
            return
        await self._database.write(lambda connection: self._write(connection, thread, final=final))
        self._saved = thread.model_copy(deep=True)
        self._written.clear()
        self._deleted.clear()
        self._attachments.clear()

    def recent_items(self, limit: int) -> list[ThreadItem]:
        """The last items of the thread, oldest first."""
        return list(self._items.values())[-limit:]

    def has(self, item_id: str) -> bool:
        """Whether the thread holds the item, as the turn sees it."""
        return item_id in self._items

    async def load_thread(self, thread_id: str, context: TurnContext) -> ThreadMetadata:
        return self._own(thread_id)

    async def save_thread(self, thread: ThreadMetadata, context: TurnContext) -> None:
        if self._made_before:
            self._made_before = False  # ChatKit makes it anew; what an earlier attempt made of it stays
            return
        fields = {name: getattr(thread, name) for name in ThreadMetadata.model_fields}
        self._thread = ThreadMetadata.model_construct(**fields).model_copy(deep=True)

    def restore(self, thread: ThreadMetadata) -> None:
        """Give ChatKit's object of the thread what earlier attempts have made of it."""
        if self._saved is not None:
            for name in ("title", "status", "metadata", "allowed_image_domains"):
                setattr(thread, name, getattr(self._saved.model_copy(deep=True), name))

    async def load_threads(
        self, limit: int, after: str | None, order: str, context: TurnContext
    ) -> Page[ThreadMetadata]:
        return await self._database.read(
            lambda connection: rows.list_threads(connection, self._owner, after, limit, order)
        )

    async def load_thread_items(
        self, thread_id: str, after: str | None, limit: int, order: str, context: TurnContext
    ) -> Page[ThreadItem]:
        self._own(thread_id)
        ids = list(self._items)
        if order == "desc":
            ids.reverse()
        if after in self._items:
            ids = ids[ids.index(after) + 1 :]
        elif after is not None:
            ids = []
        if not self._window_is_all and (order == "asc" or len(ids) <= limit):
            return await self._database.read(
                lambda connection: rows.list_items(connection, self._owner, thread_id, after, limit, order)
            )
        data = [self._items[id_] for id_ in ids[:limit]]
        more = len(ids) > limit
        return Page(data=data, has_more=more, after=data[-1].id if more and data else None)

    async def load_item(self, thread_id: str, item_id: str, context: TurnContext) -> ThreadItem:
        self._own(thread_id)
        if item_id in self._items:
            return self._items[item_id]
        if self._window_is_all or item_id in self._deleted:
            raise NotFoundError(f"no item {item_id}")
        return await self._database.read(lambda connection: rows.load_item(connection, self._owner, thread_id, item_id))

    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: TurnContext) -> None:
        await self.save_item(thread_id, item, context)

    async def save_item(self, thread_id: str, item: ThreadItem, context: TurnContext) -> None:
        self._own(thread_id)
        self._items[item.id] = item
        self._written[item.id] = None
        self._deleted.pop(item.id, None)

    async def delete_thread_item(self, thread_id: str, item_id: str, context: TurnContext) -> None:
        self._own(thread_id)
        self._items.pop(item_id, None)
        self._written.pop(item_id, None)
        self._deleted[item_id] = None

    async def delete_thread(self, thread_id: str, context: TurnContext) -> None:
        raise NotImplementedError("a turn does not delete its thread")

    async def save_attachment(self, attachment: Attachment, context: TurnContext) -> None:
        self._attachments[attachment.id] = attachment

    async def load_attachment(self, attachment_id: str, context: TurnContext) -> Attachment:
        if attachment_id in self._attachments:
            return self._attachments[attachment_id]
        return await self._database.read(
            lambda connection: rows.load_attachment(connection, self._owner, attachment_id)
        )

    async def delete_attachment(self, attachment_id: str, context: TurnContext) -> None:
        raise NotImplementedError("a turn does not delete attachments")

    def _own(self, thread_id: str) -> ThreadMetadata:
        if self._thread is None or self._thread.id != thread_id:
            raise NotFoundError(f"no thread {thread_id}")
        return self._thread

    def _open(self, connection: Connection, thread_id: str, *, create: bool) -> Page[ThreadItem] | None:
        """One transaction: is it answered, is the thread ours, and what is in it."""
        answered = select(turns.c.thread_id).where(
            turns.c.tenant == self._owner.tenant, turns.c.event_id == self._event_id
        )
        if connection.execute(answered).first() is not None:
            raise AnsweredError(self._event_id)
        if not self._claim(connection, thread_id, missing_ok=create):
            return None
        self._saved = rows.load_thread(connection, self._owner, thread_id)
        return rows.list_items(connection, self._owner, thread_id, None, WINDOW, "desc")

    def _write(self, connection: Connection, thread: ThreadMetadata, *, final: bool) -> None:
        """One transaction: the thread first, which is the fence, then what hangs on it."""
        insert = self._database.insert
        self._write_thread(connection, thread)
        rows.delete_items(connection, self._owner, thread.id, list(self._deleted))
        written = [rows.ItemRow(self._items[id_], self._event_id) for id_ in self._written]
        rows.write_items(connection, insert, self._owner, thread.id, written)
        for attachment in self._attachments.values():
            rows.save_attachment(connection, insert, self._owner, attachment)
        if final:
            mark = insert(turns).values(tenant=self._owner.tenant, event_id=self._event_id, thread_id=thread.id)
            connection.execute(mark.on_conflict_do_nothing())

    def _claim(self, connection: Connection, thread_id: str, *, missing_ok: bool) -> bool:
        """Lock the thread's row and raise its epoch; False if there is no such thread yet."""
        mine = and_(rows.owned_thread(self._owner, thread_id), threads.c.epoch <= self._epoch)
        claimed = connection.execute(update(threads).where(mine).values(epoch=self._epoch))
        if claimed.rowcount:
            return True
        row = (
            connection.execute(
                select(threads.c.user_id).where(threads.c.tenant == self._owner.tenant, threads.c.id == thread_id)
            )
        ).first()
        if row is not None and row.user_id == self._owner.user:
            raise LeaseLostError(f"{self._event_id}: another worker has claimed the thread")
        if row is None and missing_ok:
            return False
        raise NotFoundError(f"no thread {thread_id}")

    def _write_thread(self, connection: Connection, thread: ThreadMetadata) -> None:
        """Lock the row, require that the thread is still this turn's, and write what the turn has changed of it."""
        values = rows.thread_values(self._owner, thread, self._epoch)
        if self._saved is None:
            statement = self._database.insert(threads).values(**values)
            fence = and_(threads.c.user_id == self._owner.user, threads.c.epoch <= self._epoch)
            changed = {"body": statement.excluded.body, "epoch": statement.excluded.epoch}
            written = connection.execute(
                statement.on_conflict_do_update(index_elements=["tenant", "id"], set_=changed, where=fence)
            )
        else:
            changes: dict[str, Any] = {"epoch": self._epoch}
            if thread != self._saved:
                changes["body"] = values["body"]
            if thread.title != self._saved.title:
                changes["title"] = thread.title  # else it may have been renamed by hand meanwhile
            fence = and_(rows.owned_thread(self._owner, thread.id), threads.c.epoch == self._epoch)
            written = connection.execute(update(threads).where(fence).values(**changes))
        if written.rowcount == 0:
            raise LeaseLostError(f"{self._event_id}: another worker has claimed the thread, or it was deleted")
