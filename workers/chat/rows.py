"""The SQL of threads and items. Every statement names the owner, so nobody reads or changes another's rows."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chatkit.store import NotFoundError
from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, Connection, and_, delete, exists, select, update

from schemas.chatkit import Page, ThreadItem, ThreadMetadata
from workers.chat.tables import approvals, attachments, feedback, items, threads
from workers.lanes.records import Owner

ITEM: TypeAdapter[ThreadItem] = TypeAdapter(ThreadItem)
THREAD_BODY = set(ThreadMetadata.model_fields) - {"title"}


@dataclass(frozen=True, slots=True)
class ItemRow:
    """An item to be written, and the event that wrote it."""

    item: ThreadItem
    event_id: str


@dataclass(frozen=True, slots=True)
class Window:
    """A run of a thread's items, oldest first, up to some place in it."""

    items: list[ThreadItem]
    first_seq: int | None
    """The place of the first one; None when there is none."""
    reaches_start: bool


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


def is_anothers(connection: Connection, owner: Owner, thread_id: str) -> bool:
    """Whether there is such a thread, and it is another user's."""
    query = select(threads.c.user_id).where(threads.c.tenant == owner.tenant, threads.c.id == thread_id)
    return connection.execute(query).scalar() not in (None, owner.user)


def thread_of(body: str, title: str | None) -> ThreadMetadata:
    return ThreadMetadata.model_validate(json.loads(body) | {"title": title})


def thread_values(owner: Owner, thread: ThreadMetadata, epoch: int) -> dict[str, Any]:
    """The row of a thread."""
    body = thread.model_dump_json(include=THREAD_BODY)
    return {
        "tenant": owner.tenant,
        "id": thread.id,
        "user_id": owner.user,
        "title": storable(thread.title) if thread.title is not None else None,
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


def items_before(connection: Connection, owner: Owner, thread_id: str, seq: int | None, limit: int) -> Window:
    """The last items of a thread, those before the place `seq` if it is given."""
    query = select(items.c.seq, items.c.body).where(_items_of(owner, thread_id))
    if seq is not None:
        query = query.where(items.c.seq < seq)
    found = connection.execute(query.order_by(items.c.seq.desc()).limit(limit)).all()
    read = [ITEM.validate_json(row.body) for row in reversed(found)]
    return Window(read, found[-1].seq if found else None, reaches_start=len(found) < limit)


def items_of_event(connection: Connection, owner: Owner, thread_id: str, event_id: str) -> list[ThreadItem]:
    """The items that an event has made, oldest first."""
    query = select(items.c.body).where(_items_of(owner, thread_id), items.c.event_id == event_id)
    return [ITEM.validate_json(body) for body in connection.execute(query.order_by(items.c.seq)).scalars()]


def stored_ids(connection: Connection, owner: Owner, thread_id: str, ids: Sequence[str]) -> set[str]:
    """Those of the ids that are items of the thread."""
    query = select(items.c.id).where(_items_of(owner, thread_id), items.c.id.in_(ids))
    return set(connection.execute(query).scalars())


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


def delete_items_of(connection: Connection, owner: Owner, thread_id: str, event_id: str) -> None:
    """Delete what an event has put into the thread."""
    connection.execute(delete(items).where(_items_of(owner, thread_id), items.c.event_id == event_id))


def set_title(connection: Connection, owner: Owner, thread_id: str, title: str) -> None:
    """Change the title and nothing else: a turn may be writing the rest. Raises NotFoundError."""
    statement = update(threads).where(owned_thread(owner, thread_id)).values(title=storable(title))
    changed = connection.execute(statement)
    if changed.rowcount == 0:
        raise NotFoundError(f"no thread {thread_id}")


def delete_thread(connection: Connection, owner: Owner, thread_id: str) -> None:
    """Delete a thread and what hangs on it. Deleting it twice is no error, deleting another's does nothing.

    The marks of its answered events stay: a late redelivery of one must not make the thread again.
    """
    for table in (items, feedback, attachments, approvals):
        mine = and_(table.c.tenant == owner.tenant, table.c.thread_id == thread_id)
        connection.execute(delete(table).where(mine, exists().where(owned_thread(owner, thread_id))))
    connection.execute(delete(threads).where(owned_thread(owner, thread_id)))


def storable(text: str) -> str:
    """PostgreSQL's text holds every character but NUL. (In JSON it is escaped.)"""
    return text.replace("\0", "")
