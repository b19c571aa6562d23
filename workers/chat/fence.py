"""The SQL by which a stale worker writes nothing: every write of a turn locks the thread's row and compares its epoch.

A turn claims its thread with the epoch of its lease, which is higher than that of any lease before it.
"""

from typing import Any

from chatkit.store import NotFoundError
from sqlalchemy import Connection, and_, select, update

from schemas.chatkit import ThreadMetadata
from workers.chat.rows import owned_thread, thread_values
from workers.chat.tables import threads, turns
from workers.errors import LeaseLostError
from workers.lanes.records import Owner


class AnsweredError(Exception):
    """The final answer of this event is stored already: there is nothing to run."""


def is_answered(connection: Connection, owner: Owner, event_id: str) -> bool:
    """Whether the final answer of this event is stored."""
    mine = and_(turns.c.tenant == owner.tenant, turns.c.event_id == event_id)
    return connection.execute(select(turns.c.thread_id).where(mine)).first() is not None


def check_unanswered(connection: Connection, owner: Owner, event_id: str) -> None:
    """Raises AnsweredError."""
    if is_answered(connection, owner, event_id):
        raise AnsweredError(event_id)


def mark_answered(connection: Connection, insert: Any, owner: Owner, event_id: str, thread_id: str) -> None:
    """Say that the event need not run again."""
    mark = insert(turns).values(tenant=owner.tenant, event_id=event_id, thread_id=thread_id)
    connection.execute(mark.on_conflict_do_nothing())


def claim(connection: Connection, owner: Owner, thread_id: str, epoch: int, *, missing_ok: bool) -> bool:
    """Lock the thread's row and raise its epoch; False if there is no such thread, and there need be none.

    Raises:
        LeaseLostError: a later turn has claimed it.
        NotFoundError: no such thread, or not the owner's.
    """
    mine = and_(owned_thread(owner, thread_id), threads.c.epoch <= epoch)
    if connection.execute(update(threads).where(mine).values(epoch=epoch)).rowcount:
        return True
    named = and_(threads.c.tenant == owner.tenant, threads.c.id == thread_id)
    row = connection.execute(select(threads.c.user_id).where(named)).first()
    if row is not None and row.user_id == owner.user:
        raise LeaseLostError(f"another worker has claimed the thread {thread_id}")
    if row is None and missing_ok:
        return False
    raise NotFoundError(f"no thread {thread_id}")


def create_thread(connection: Connection, insert: Any, owner: Owner, thread: ThreadMetadata, epoch: int) -> None:
    """Write the row of a new thread and claim it; an earlier attempt may have made it. Raises LeaseLostError."""
    statement = insert(threads).values(**thread_values(owner, thread, epoch))
    mine = and_(threads.c.user_id == owner.user, threads.c.epoch <= epoch)
    changed = {"body": statement.excluded.body, "epoch": statement.excluded.epoch}
    written = connection.execute(
        statement.on_conflict_do_update(index_elements=["tenant", "id"], set_=changed, where=mine)
    )
    _check_written(written.rowcount, thread.id)


def change_thread(
    connection: Connection, owner: Owner, before: ThreadMetadata, thread: ThreadMetadata, epoch: int
) -> None:
    """Lock the row of a claimed thread, and write what the turn has changed of it. Raises LeaseLostError."""
    values = thread_values(owner, thread, epoch)
    changes: dict[str, Any] = {"epoch": epoch}
    if thread != before:
        changes["body"] = values["body"]
    if thread.title != before.title:
        changes["title"] = values["title"]  # else it may have been renamed by hand meanwhile
    mine = and_(owned_thread(owner, thread.id), threads.c.epoch == epoch)
    _check_written(connection.execute(update(threads).where(mine).values(**changes)).rowcount, thread.id)


def _check_written(count: int, thread_id: str) -> None:
    if count == 0:
        raise LeaseLostError(f"another worker has claimed the thread {thread_id}, or it was deleted")
