"""The SQL of approvals. Every write happens in a transaction of a turn, behind its fence."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, and_, delete, select, update

from workers.chat.tables import approvals
from workers.lanes.records import Owner


@dataclass(frozen=True, slots=True)
class Approval:
    """One question that a run waits with. `state` is None once the run has gone on to its end."""

    id: str
    state: str | None
    asked_at: datetime
    decided_by: str | None
    approved: bool | None

    def is_decided_elsewhere(self, event_id: str) -> bool:
        """Whether another event has the decision."""
        return self.decided_by is not None and self.decided_by != event_id


def ask(
    connection: Connection, insert: Any, owner: Owner, thread_id: str, event_id: str, asked: Approval, ttl: timedelta
) -> None:
    """Keep a question; a second attempt of its turn asks it anew. Those of the tenant that are too old go."""
    old = and_(approvals.c.tenant == owner.tenant, approvals.c.asked_at < asked.asked_at - ttl)
    connection.execute(delete(approvals).where(old))
    statement = insert(approvals).values(
        tenant=owner.tenant,
        id=asked.id,
        thread_id=thread_id,
        user_id=owner.user,
        event_id=event_id,
        state=asked.state,
        asked_at=asked.asked_at,
    )
    changed = {"state": statement.excluded.state, "asked_at": statement.excluded.asked_at}
    connection.execute(statement.on_conflict_do_update(index_elements=["tenant", "id"], set_=changed))


def find(connection: Connection, owner: Owner, thread_id: str, approval_id: str) -> Approval | None:
    """The question of this user in this thread; None: there is none such, or it is another's."""
    row = connection.execute(select(approvals).where(_own(owner, thread_id, approval_id))).first()
    if row is None:
        return None
    at = row.asked_at if row.asked_at.tzinfo else row.asked_at.replace(tzinfo=UTC)  # SQLite knows no zones
    approved = None if row.approved is None else bool(row.approved)
    return Approval(row.id, row.state, at, row.decided_by, approved)


def decide(
    connection: Connection, owner: Owner, thread_id: str, approval_id: str, event_id: str, *, approve: bool
) -> None:
    """Give the decision to an event, for good."""
    mine = _own(owner, thread_id, approval_id)
    values = {"decided_by": event_id, "approved": int(approve)}
    connection.execute(update(approvals).where(mine, approvals.c.decided_by.is_(None)).values(**values))


def forget_state(connection: Connection, owner: Owner, thread_id: str, approval_id: str) -> None:
    """The run has come to its end, and is needed no more."""
    connection.execute(update(approvals).where(_own(owner, thread_id, approval_id)).values(state=None))


def _own(owner: Owner, thread_id: str, approval_id: str) -> Any:
    return and_(
        approvals.c.tenant == owner.tenant,
        approvals.c.id == approval_id,
        approvals.c.thread_id == thread_id,
        approvals.c.user_id == owner.user,
    )
