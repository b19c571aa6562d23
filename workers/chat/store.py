"""The ChatKit Store over SQL, for everything that is no turn."""

from chatkit.store import AttachmentStore, Store, StoreItemType
from sqlalchemy import Connection

from schemas.chatkit import (
    Attachment,
    AttachmentCreateParams,
    FileAttachment,
    Page,
    ThreadItem,
    ThreadMetadata,
)
from schemas.events import thread_id_of
from workers.chat import attachment_rows, rows
from workers.chat.context import TurnContext
from workers.chat.database import Database

MAX_PAGE = 100
"""Rows that one request gets at most, however many it asks for."""


class IdStore(Store[TurnContext]):
    """Ids derived from the event."""

    def generate_thread_id(self, context: TurnContext) -> str:
        return thread_id_of(context.event_id)

    def generate_item_id(self, item_type: StoreItemType, thread: ThreadMetadata, context: TurnContext) -> str:
        return context.next_id(item_type)


class SqlStore(IdStore):
    """Rows of the owner, a transaction per call. Outside of turns nothing but a title is ever changed of a thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load_thread(self, thread_id: str, context: TurnContext) -> ThreadMetadata:
        return await self._database.read(lambda connection: rows.load_thread(connection, context.owner, thread_id))

    async def save_thread(self, thread: ThreadMetadata, context: TurnContext) -> None:
        """Only the title: a turn may be writing the rest."""
        title = thread.title or ""
        await self._database.write(lambda connection: rows.set_title(connection, context.owner, thread.id, title))

    async def load_threads(
        self, limit: int, after: str | None, order: str, context: TurnContext
    ) -> Page[ThreadMetadata]:
        return await self._database.read(
            lambda connection: rows.list_threads(connection, context.owner, after, bounded(limit), order)
        )

    async def load_thread_items(
        self, thread_id: str, after: str | None, limit: int, order: str, context: TurnContext
    ) -> Page[ThreadItem]:
        def read(connection: Connection) -> Page[ThreadItem]:
            rows.load_thread(connection, context.owner, thread_id)
            return rows.list_items(connection, context.owner, thread_id, after, bounded(limit), order)

        return await self._database.read(read)

    async def load_item(self, thread_id: str, item_id: str, context: TurnContext) -> ThreadItem:
        return await self._database.read(
            lambda connection: rows.load_item(connection, context.owner, thread_id, item_id)
        )

    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: TurnContext) -> None:
        await self.save_item(thread_id, item, context)

    async def save_item(self, thread_id: str, item: ThreadItem, context: TurnContext) -> None:
        def write(connection: Connection) -> None:
            rows.load_thread(connection, context.owner, thread_id)
            row = rows.ItemRow(item, context.event_id)
            rows.write_items(connection, self._database.insert, context.owner, thread_id, [row])

        await self._database.write(write)

    async def delete_thread_item(self, thread_id: str, item_id: str, context: TurnContext) -> None:
        await self._database.write(
            lambda connection: rows.delete_items(connection, context.owner, thread_id, [item_id])
        )

    async def delete_thread(self, thread_id: str, context: TurnContext) -> None:
        await self._database.write(lambda connection: rows.delete_thread(connection, context.owner, thread_id))

    async def save_attachment(self, attachment: Attachment, context: TurnContext) -> None:
        insert = self._database.insert
        await self._database.write(
            lambda connection: attachment_rows.save_attachment(connection, insert, context.owner, attachment)
        )

    async def load_attachment(self, attachment_id: str, context: TurnContext) -> Attachment:
        return await self._database.read(
            lambda connection: attachment_rows.load_attachment(connection, context.owner, attachment_id)
        )

    async def delete_attachment(self, attachment_id: str, context: TurnContext) -> None:
        await self._database.write(
            lambda connection: attachment_rows.delete_attachment(connection, context.owner, attachment_id)
        )


class AttachmentRecords(AttachmentStore[TurnContext]):
    """Attachments by their metadata: the bytes are for a service of the deployment's own."""

    async def create_attachment(self, input: AttachmentCreateParams, context: TurnContext) -> Attachment:  # noqa: A002  # the SDK's name
        return FileAttachment(
            id=context.next_id("attachment"),
            name=input.name,
            mime_type=input.mime_type,
            metadata={"size_bytes": input.size},  # ours: clients do not get it back
        )

    async def delete_attachment(self, attachment_id: str, context: TurnContext) -> None:
        """There are no bytes to delete; the metadata is the store's."""


def bounded(limit: int) -> int:
    """The size of a page, whatever a client asks for."""
    return max(1, min(limit, MAX_PAGE))
