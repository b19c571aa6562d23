"""The SQL of the conversation store. Every statement names the owner, so nobody reads or changes another's rows."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chatkit.store import NotFoundError
from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, Connection, Table, and_, delete, exists, select, update

from schemas.chatkit import Attachment, Page, ThreadItem, ThreadMetadata
from workers.chat.context import Owner
from workers.chat.tables import attachments, items, threads

ITEM: TypeAdapter[ThreadItem] = TypeAdapter(ThreadItem)
ATTACHMENT: TypeAdapter[Attachment] = TypeAdapter(Attachment)


@dataclass(frozen=True, slots=True)
class ItemRow:
    """An item to be written, and the event that wrote it."""

    item: ThreadItem
    event_id: str


def owned_thread(owner: Owner, thread_id: str | ColumnElement[str]) -> ColumnElement[bool]:
    """The thread, if it is the owner's."""
    return and_(threads.c.tenant == owner.tenant, threads.c.id == thread_id, threads.c.user_id == owner.user)


def _items_of(owner: Owner, thread_id: str) -> ColumnElement[bool]:
    return and_(
        items.c.tenant == owner.tenant,
        items.c.thread_id == thread_id,
        exists().where(owned_thread(owner, thread_id)),
    )


def load_thread(connection: Connection, owner: Owner, thread_id: str) -> ThreadMetadata:
    """Raises NotFoundError: no such thread, or not the owner's."""
    row = (connection.execute(select(threads.c.body, threads.c.title).where(owned_thread(owner, thread_id)))).first()
    if row is None:
        raise NotFoundError(f"no thread {thread_id}")
    return thread_of(row.body, row.title)


def thread_of(body: str, title: str | None) -> ThreadMetadata:
    return ThreadMetadata.model_validate(json.loads(body) | {"title": title})


def thread_values(owner: Owner, thread: ThreadMetadata, epoch: int) -> dict[str, Any]:
    """The row of a thread."""
    body = thread.model_dump_json(include=set(ThreadMetadata.model_fields) - {"title"})
    return {
        "tenant": owner.tenant,
        "id": thread.id,
        "user_id": owner.user,
        "title": thread.title,
        "body": body,
        "epoch": epoch,
    }


def list_threads(
    connection: Connection, owner: Owner, after: str | None, limit: int, order: str
) -> Page[ThreadMetadata]:
    """A page of the owner's threads, in the order in which they were made."""
    mine = and_(threads.c.tenant == owner.tenant, threads.c.user_id == owner.user)
    query = select(threads.c.id, threads.c.body, threads.c.title).where(mine)
    if after is not None:
        start = select(threads.c.seq).where(owned_thread(owner, after)).scalar_subquery()
        query = query.where(threads.c.seq > start if order == "asc" else threads.c.seq < start)
    query = query.order_by(threads.c.seq.asc() if order == "asc" else threads.c.seq.desc()).limit(limit + 1)
    rows = (connection.execute(query)).all()
    data = [thread_of(row.body, row.title) for row in rows[:limit]]
    more = len(rows) > limit
    return Page(data=data, has_more=more, after=data[-1].id if more and data else None)


def list_items(
    connection: Connection, owner: Owner, thread_id: str, after: str | None, limit: int, order: str
) -> Page[ThreadItem]:
    """A page of a thread's items, in the order in which they were first written."""
    query = select(items.c.body).where(_items_of(owner, thread_id))
    if after is not None:
        start = select(items.c.seq).where(_items_of(owner, thread_id), items.c.id == after).scalar_subquery()
        query = query.where(items.c.seq > start if order == "asc" else items.c.seq < start)
    query = query.order_by(items.c.seq.asc() if order == "asc" else items.c.seq.desc()).limit(limit + 1)
    bodies = (connection.execute(query)).scalars().all()
    data = [ITEM.validate_json(body) for body in bodies[:limit]]
    more = len(bodies) > limit
    return Page(data=data, has_more=more, after=data[-1].id if more and data else None)


def load_item(connection: Connection, owner: Owner, thread_id: str, item_id: str) -> ThreadItem:
    """Raises NotFoundError."""
    query = select(items.c.body).where(_items_of(owner, thread_id), items.c.id == item_id)
    body = (connection.execute(query)).scalar()
    if body is None:
        raise NotFoundError(f"no item {item_id}")
    return ITEM.validate_json(body)


def write_items(connection: Connection, insert: Any, owner: Owner, thread_id: str, rows: Sequence[ItemRow]) -> None:
    """Upsert items; the first write gives each its place. The caller has made sure of the thread's owner."""
    if not rows:
        return
    statement = insert(items)
    statement = statement.on_conflict_do_update(
        index_elements=["tenant", "thread_id", "id"], set_={"body": statement.excluded.body}
    )
    values = [
        {
            "tenant": owner.tenant,
            "thread_id": thread_id,
            "id": row.item.id,
            "event_id": row.event_id,
            "body": ITEM.dump_json(row.item).decode(),
        }
        for row in rows
    ]
    connection.execute(statement, values)


def delete_items(connection: Connection, owner: Owner, thread_id: str, item_ids: Sequence[str]) -> None:
    """Delete items; missing ones are no error."""
    if item_ids:
        connection.execute(delete(items).where(_items_of(owner, thread_id), items.c.id.in_(item_ids)))


def set_title(connection: Connection, owner: Owner, thread_id: str, title: str) -> None:
    """Change the title and nothing else: a turn may be writing the rest. Raises NotFoundError."""
    changed = connection.execute(update(threads).where(owned_thread(owner, thread_id)).values(title=title))
    if changed.rowcount == 0:
        raise NotFoundError(f"no thread {thread_id}")


def delete_thread(connection: Connection, owner: Owner, thread_id: str) -> None:
    """Delete a thread with its items. Deleting it twice is no error, deleting another's does nothing."""
    connection.execute(delete(items).where(_items_of(owner, thread_id)))
    connection.execute(delete(threads).where(owned_thread(owner, thread_id)))


def save_attachment(connection: Connection, insert: Any, owner: Owner, attachment: Attachment) -> None:
    """Upsert an attachment's metadata. Raises NotFoundError: the id is another user's."""
    statement = insert(attachments).values(
        tenant=owner.tenant, id=attachment.id, user_id=owner.user, body=ATTACHMENT.dump_json(attachment).decode()
    )
    saved = connection.execute(
        statement.on_conflict_do_update(
            index_elements=["tenant", "id"],
            set_={"body": statement.excluded.body},
            where=attachments.c.user_id == owner.user,
        )
    )
    if saved.rowcount == 0:
        raise NotFoundError(f"no attachment {attachment.id}")


def load_attachment(connection: Connection, owner: Owner, attachment_id: str) -> Attachment:
    """Raises NotFoundError."""
    query = select(attachments.c.body).where(_owned_attachment(owner, attachment_id))
    body = (connection.execute(query)).scalar()
    if body is None:
        raise NotFoundError(f"no attachment {attachment_id}")
    return ATTACHMENT.validate_json(body)


def delete_attachment(connection: Connection, owner: Owner, attachment_id: str) -> None:
    """A missing one is no error."""
    connection.execute(delete(attachments).where(_owned_attachment(owner, attachment_id)))


def _owned_attachment(owner: Owner, attachment_id: str) -> ColumnElement[bool]:
    return and_(
        attachments.c.tenant == owner.tenant, attachments.c.id == attachment_id, attachments.c.user_id == owner.user
    )


def upsert(
    connection: Connection,
    insert: Any,
    table: Table,
    keys: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    *,
    only_of: str | None = None,
) -> None:
    """Write rows in one statement; of rows with the same key the last one stays.

    Args:
        connection: in a write transaction.
        insert: the dialect's.
        table: where to.
        keys: its primary key.
        rows: all with the same columns.
        only_of: a column that must agree with the row that is there, else the row is left as it is.
    """
    if not rows:
        return
    statement = insert(table)
    changed = {name: statement.excluded[name] for name in rows[0] if name not in keys}
    where = None if only_of is None else table.c[only_of] == statement.excluded[only_of]
    latest = {tuple(row[key] for key in keys): row for row in rows}
    connection.execute(
        statement.on_conflict_do_update(index_elements=list(keys), set_=changed, where=where), list(latest.values())
    )
