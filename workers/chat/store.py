"""The ChatKit Store over SQL, one statement per call: for reads, and for batches that share a transaction."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from chatkit.store import AttachmentStore, Store, StoreItemType
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.chatkit import (
    Attachment,
    AttachmentCreateParams,
    FileAttachment,
    Page,
    ThreadItem,
    ThreadMetadata,
)
from schemas.events import thread_id_of
from workers.chat import rows
from workers.chat.context import TurnContext
from workers.chat.database import Database


class Transactions(Protocol):
    """Where the store gets its connections: a transaction per call, or one for all."""

    def read(self) -> AbstractAsyncContextManager[AsyncConnection]: ...

    def write(self) -> AbstractAsyncContextManager[AsyncConnection]: ...


class OneTransaction:
    """Every call on the same connection, inside somebody else's transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        yield self._connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        yield self._connection


class IdStore(Store[TurnContext]):
    """Ids derived from the event."""

    def generate_thread_id(self, context: TurnContext) -> str:
        return thread_id_of(context.event_id)

    def generate_item_id(self, item_type: StoreItemType, thread: ThreadMetadata, context: TurnContext) -> str:
        return context.next_id(item_type)


class SqlStore(IdStore):
    """Rows of the owner. Outside of turns nothing but a thread's title is ever changed of a thread or an item."""

    def __init__(self, database: Database, transactions: Transactions | None = None) -> None:
        self._insert = database.insert
        self._transactions = transactions or database

    async def load_thread(self, thread_id: str, context: TurnContext) -> ThreadMetadata:
        async with self._transactions.read() as connection:
            return await rows.load_thread(connection, context.owner, thread_id)

    async def save_thread(self, thread: ThreadMetadata, context: TurnContext) -> None:
        """Only the title: a turn may be writing the rest."""
        async with self._transactions.write() as connection:
            await rows.set_title(connection, context.owner, thread.id, thread.title or "")

    async def load_threads(
        self, limit: int, after: str | None, order: str, context: TurnContext
    ) -> Page[ThreadMetadata]:
        async with self._transactions.read() as connection:
            return await rows.list_threads(connection, context.owner, after, limit, order)

    async def load_thread_items(
        self, thread_id: str, after: str | None, limit: int, order: str, context: TurnContext
    ) -> Page[ThreadItem]:
        async with self._transactions.read() as connection:
            await rows.load_thread(connection, context.owner, thread_id)
            return await rows.list_items(connection, context.owner, thread_id, after, limit, order)

    async def load_item(self, thread_id: str, item_id: str, context: TurnContext) -> ThreadItem:
        async with self._transactions.read() as connection:
            return await rows.load_item(connection, context.owner, thread_id, item_id)

    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: TurnContext) -> None:
        await self.save_item(thread_id, item, context)

    async def save_item(self, thread_id: str, item: ThreadItem, context: TurnContext) -> None:
        async with self._transactions.write() as connection:
            await rows.load_thread(connection, context.owner, thread_id)
            row = rows.ItemRow(item, context.event_id)
            await rows.write_items(connection, self._insert, context.owner, thread_id, [row])

    async def delete_thread_item(self, thread_id: str, item_id: str, context: TurnContext) -> None:
        async with self._transactions.write() as connection:
            await rows.delete_items(connection, context.owner, thread_id, [item_id])

    async def delete_thread(self, thread_id: str, context: TurnContext) -> None:
        async with self._transactions.write() as connection:
            await rows.delete_thread(connection, context.owner, thread_id)

    async def save_attachment(self, attachment: Attachment, context: TurnContext) -> None:
        async with self._transactions.write() as connection:
            await rows.save_attachment(connection, self._insert, context.owner, attachment)

    async def load_attachment(self, attachment_id: str, context: TurnContext) -> Attachment:
        async with self._transactions.read() as connection:
            return await rows.load_attachment(connection, context.owner, attachment_id)

    async def delete_attachment(self, attachment_id: str, context: TurnContext) -> None:
        async with self._transactions.write() as connection:
            await rows.delete_attachment(connection, context.owner, attachment_id)


class AttachmentRecords(AttachmentStore[TurnContext]):
    """Attachments by their metadata: the bytes are for a service of the deployment's own."""

    async def create_attachment(self, input: AttachmentCreateParams, context: TurnContext) -> Attachment:  # noqa: A002  # the SDK's name
        return FileAttachment(id=context.next_id("attachment"), name=input.name, mime_type=input.mime_type)

    async def delete_attachment(self, attachment_id: str, context: TurnContext) -> None:
        """There are no bytes to delete; the metadata is the store's."""
