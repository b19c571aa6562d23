"""The SQL of attachments' metadata. Every statement names the owner, so nobody reads or changes another's rows."""

from typing import Any

from chatkit.store import NotFoundError
from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, Connection, and_, delete, select

from schemas.chatkit import Attachment
from workers.chat.tables import attachments
from workers.lanes.records import Owner

ATTACHMENT: TypeAdapter[Attachment] = TypeAdapter(Attachment)


def save_attachment(connection: Connection, insert: Any, owner: Owner, attachment: Attachment) -> None:
    """Upsert an attachment's metadata. Raises NotFoundError: the id is another user's."""
    statement = insert(attachments).values(
        tenant=owner.tenant,
        id=attachment.id,
        user_id=owner.user,
        thread_id=attachment.thread_id,
        body=ATTACHMENT.dump_json(attachment).decode(),
    )
    saved = connection.execute(
        statement.on_conflict_do_update(
            index_elements=["tenant", "id"],
            set_={"body": statement.excluded.body, "thread_id": statement.excluded.thread_id},
            where=attachments.c.user_id == owner.user,
        )
    )
    if saved.rowcount == 0:
        raise NotFoundError(f"no attachment {attachment.id}")


def load_attachment(connection: Connection, owner: Owner, attachment_id: str) -> Attachment:
    """Raises NotFoundError."""
    body = connection.execute(select(attachments.c.body).where(_owned(owner, attachment_id))).scalar()
    if body is None:
        raise NotFoundError(f"no attachment {attachment_id}")
    return ATTACHMENT.validate_json(body)


def delete_attachment(connection: Connection, owner: Owner, attachment_id: str) -> None:
    """A missing one is no error."""
    connection.execute(delete(attachments).where(_owned(owner, attachment_id)))


def _owned(owner: Owner, attachment_id: str) -> ColumnElement[bool]:
    return and_(
        attachments.c.tenant == owner.tenant, attachments.c.id == attachment_id, attachments.c.user_id == owner.user
    )
