"""What the pages of a session said last, for agents and operators. A page that is loaded again says it anew."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, select

from schemas.records import PageState
from workers.chat.database import Database
from workers.chat.tables import sessions
from workers.lanes.records import Owner


class PageStates:
    """Reads them. Raises DatabaseError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, owner: Owner, session_id: str | None) -> PageState | None:
        """The state of a user's session; of a page that names none it is kept under the user's name."""
        states = await self._named(owner.tenant, [session_id or owner.user, owner.user])
        own = [state for state in states if state.user == owner.user]
        return max(own, key=lambda state: state.session_id == session_id, default=None)

    async def find(self, tenant: str, session_id: str) -> PageState | None:
        """The state of a session, whoever's it is."""
        return next(iter(await self._named(tenant, [session_id])), None)

    async def _named(self, tenant: str, ids: Sequence[str]) -> list[PageState]:
        def read(connection: Connection) -> list[PageState]:
            query = select(sessions).where(sessions.c.tenant == tenant, sessions.c.id.in_(ids))
            return [_state_of(row) for row in connection.execute(query).all()]

        return await self._database.read(read)


def _state_of(row: Any) -> PageState:
    seen: datetime | None = row.last_seen
    return PageState(
        session_id=row.id,
        tenant=row.tenant,
        user=row.user_id,
        ready=bool(row.ready),
        open_thread_id=row.open_thread_id or None,
        last_event=row.last_event,
        last_error=row.last_error,
        # SQLite keeps no zone
        last_seen_at=seen.replace(tzinfo=UTC) if seen is not None and seen.tzinfo is None else seen,
    )
