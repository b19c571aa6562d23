"""The store of one turn: reads once, buffers what is written, commits in few transactions, fenced by the epoch.

A transaction costs CPU, and a turn that fails must leave nothing half done behind.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

from chatkit.store import NotFoundError
from sqlalchemy import Connection

from schemas.chatkit import Attachment, Page, ThreadItem, ThreadMetadata
from workers.chat import attachment_rows, fence, rows
from workers.chat.context import TurnContext
from workers.chat.database import Database
from workers.chat.sign_in_lock import unlock
from workers.chat.store import IdStore
from workers.chat.view import ThreadView
from workers.errors import LeaseLostError
from workers.lanes.records import Owner

T = TypeVar("T")

Beside = Callable[[Connection, Any], None]
"""A write in a transaction; gets the dialect's `insert` as well."""

WINDOW = 100
"""Items of a thread that a turn reads at its beginning, and older ones at a time when they are asked for."""


def empty_thread(thread_id: str) -> ThreadMetadata:
    """A thread of which nothing is known but its id."""
    return ThreadMetadata(id=thread_id, created_at=datetime.now())  # noqa: DTZ005  # ChatKit's times are naive and local


class TurnStore(IdStore):
    """The thread of one turn, as the turn sees it."""

    def __init__(
        self,
        database: Database,
        owner: Owner,
        event_id: str,
        epoch: int,
        on_stale: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`on_stale` is told of each refused write, in whatever thread it was tried."""
        self._database, self._on_stale = database, on_stale
        self._owner, self._event_id, self._epoch = owner, event_id, epoch
        self._thread: ThreadMetadata | None = None
        self._saved: ThreadMetadata | None = None
        self._made_before = False
        self._attachments: dict[str, Attachment] = {}
        self._beside: list[Beside] = []
        self.view = ThreadView()

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
        opened = await self._database.write(lambda connection: self._open(connection, thread_id, create=create))
        if opened is None:
            return
        self._saved, window = opened
        self._thread = self._saved.model_copy(deep=True)
        self._made_before = create
        self.view.take(window)

    async def commit(self, *, final: bool = False) -> None:
        """Write what is buffered, in one transaction; `final` marks the event as answered.

        Raises:
            AnsweredError: the thread was not opened, and an earlier run has stored the answer.
            LeaseLostError: a later attempt has claimed the thread, or it is gone. Nothing is written.
        """
        thread = self._thread
        if thread is None:
            return
        await self._database.write(lambda connection: self._write(connection, thread, final=final))
        self._saved = thread.model_copy(deep=True)
        self._attachments.clear()
        self._beside.clear()
        self.view.committed()

    def with_commit(self, write: Beside) -> None:
        """Have this written in the transaction of the next commit, behind its fence."""
        self._beside.append(write)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Read what is no item, as it is stored."""
        return await self._database.read(work)

    async def roll_back(self, thread_id: str, *, create: bool) -> None:
        """Take back all that this event has put into the thread, and mark it as answered, even if it had been.

        What it has changed of the thread itself or of older items stays so. `create`: the thread stays, or is made
        empty: whoever rolls back is about to speak in it.

        Raises:
            LeaseLostError: a later attempt has claimed the thread.
            NotFoundError: it is another user's.
        """
        await self._database.write(lambda connection: self._roll_back(connection, thread_id, create=create))

    @property
    def stored(self) -> ThreadMetadata | None:
        """The thread as the database has it; None: not yet. Not to be changed."""
        return self._saved

    async def change_now(self, change: Callable[[ThreadMetadata], None]) -> ThreadMetadata | None:
        """Write a change of the thread alone, at once; what else is buffered stays so. Gives the thread as it is
        stored.

        None: it is not stored yet, and nothing was done. Raises LeaseLostError.
        """
        if self._saved is None:
            return None
        before, changed = self._saved, self._saved.model_copy(deep=True)
        change(changed)
        if changed != before:
            await self._database.write(
                lambda connection: fence.change_thread(connection, self._owner, before, changed, self._epoch)
            )
            self._saved = changed
        if self._thread is not None:
            change(self._thread)
        return changed

    async def answer(self, thread_id: str) -> list[ThreadItem]:
        """What this event has put into the thread by now, oldest first."""
        return await self._database.read(
            lambda connection: rows.items_of_event(connection, self._owner, thread_id, self._event_id)
        )

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
            saved = self._saved.model_copy(deep=True)
            for name in ThreadMetadata.model_fields:
                setattr(thread, name, getattr(saved, name))

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
        while not self.view.covers(after, limit, order):
            await self._read_older(thread_id)
        return self.view.page(after, limit, order)

    async def load_item(self, thread_id: str, item_id: str, context: TurnContext) -> ThreadItem:
        self._own(thread_id)
        if (item := self.view.get(item_id)) is not None:
            return item
        if not self.view.may_hold(item_id):
            raise NotFoundError(f"no item {item_id}")
        return await self._database.read(lambda connection: rows.load_item(connection, self._owner, thread_id, item_id))

    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: TurnContext) -> None:
        await self.save_item(thread_id, item, context)

    async def save_item(self, thread_id: str, item: ThreadItem, context: TurnContext) -> None:
        self._own(thread_id)
        if self.view.get(item.id) is None and self.view.may_hold(item.id):
            await self._find(thread_id, item.id)  # an old item is changed where it stands
        self.view.put(item)

    async def delete_thread_item(self, thread_id: str, item_id: str, context: TurnContext) -> None:
        self._own(thread_id)
        self.view.remove(item_id)

    async def delete_thread(self, thread_id: str, context: TurnContext) -> None:
        raise NotImplementedError("a turn does not delete its thread")

    async def save_attachment(self, attachment: Attachment, context: TurnContext) -> None:
        self._attachments[attachment.id] = attachment

    async def load_attachment(self, attachment_id: str, context: TurnContext) -> Attachment:
        if attachment_id in self._attachments:
            return self._attachments[attachment_id]
        return await self._database.read(
            lambda connection: attachment_rows.load_attachment(connection, self._owner, attachment_id)
        )

    async def delete_attachment(self, attachment_id: str, context: TurnContext) -> None:
        raise NotImplementedError("a turn does not delete attachments")

    def _own(self, thread_id: str) -> ThreadMetadata:
        if self._thread is None or self._thread.id != thread_id:
            raise NotFoundError(f"no thread {thread_id}")
        return self._thread

    async def _find(self, thread_id: str, item_id: str) -> None:
        """Read back to an item, if the thread has it."""
        try:
            await self._database.read(lambda connection: rows.load_item(connection, self._owner, thread_id, item_id))
        except NotFoundError:
            return
        while self.view.get(item_id) is None and not self.view.is_all:
            await self._read_older(thread_id)

    async def _read_older(self, thread_id: str) -> None:
        first = self.view.first_seq
        older = await self._database.read(
            lambda connection: rows.items_before(connection, self._owner, thread_id, first, WINDOW)
        )
        self.view.take(older)

    def _open(
        self, connection: Connection, thread_id: str, *, create: bool
    ) -> tuple[ThreadMetadata, rows.Window] | None:
        """One transaction: is it answered, is the thread ours, and what is in it."""
        fence.check_unanswered(connection, self._owner, self._event_id)
        with self._told_of_refusal():
            claimed = fence.claim(connection, self._owner, thread_id, self._epoch, missing_ok=create)
        if not claimed:
            return None
        thread = rows.load_thread(connection, self._owner, thread_id)
        return thread, rows.items_before(connection, self._owner, thread_id, None, WINDOW)

    def _roll_back(self, connection: Connection, thread_id: str, *, create: bool) -> None:
        """One transaction, fenced like every other."""
        insert = self._database.insert
        with self._told_of_refusal():
            if fence.claim(connection, self._owner, thread_id, self._epoch, missing_ok=True):
                thread = rows.load_thread(connection, self._owner, thread_id)
                changed = thread.model_copy(deep=True)
                unlock(changed)
                fence.change_thread(connection, self._owner, thread, changed, self._epoch)
                rows.delete_items_of(connection, self._owner, thread_id, self._event_id)
            elif create:
                fence.create_thread(connection, insert, self._owner, empty_thread(thread_id), self._epoch)
            else:
                return
        fence.mark_answered(connection, insert, self._owner, self._event_id, thread_id)

    def _write(self, connection: Connection, thread: ThreadMetadata, *, final: bool) -> None:
        """One transaction: the thread first, which is the fence, then what hangs on it."""
        insert = self._database.insert
        with self._told_of_refusal():
            if self._saved is None:
                fence.check_unanswered(connection, self._owner, self._event_id)
                fence.create_thread(connection, insert, self._owner, thread, self._epoch)
            else:
                fence.change_thread(connection, self._owner, self._saved, thread, self._epoch)
        rows.delete_items(connection, self._owner, thread.id, self.view.deleted())
        written = [rows.ItemRow(item, self._event_id) for item in self.view.written()]
        rows.write_items(connection, insert, self._owner, thread.id, written)
        for attachment in self._attachments.values():
            attachment_rows.save_attachment(connection, insert, self._owner, attachment)
        for write in self._beside:
            write(connection, insert)
        if final:
            fence.mark_answered(connection, insert, self._owner, self._event_id, thread.id)

    @contextmanager
    def _told_of_refusal(self) -> Iterator[None]:
        """Where the refusal happens, since a turn that has lost its lease may not wait for the answer any more."""
        try:
            yield
        except LeaseLostError:
            self._on_stale(self._event_id)
            raise
