"""The session store as workers ask it."""

from collections.abc import Collection

from workers.errors import StateAwayError
from workers.lanes.connection import STATE_ERRORS
from workers.sessions.store import SessionStore


class AskedSessions:
    """Implements `workers.policies.session.Sessions`."""

    def __init__(self, store: SessionStore) -> None:
        self._store = store

    async def revoked(self, session_ids: Collection[str]) -> set[str]:
        """Which of these are revoked."""
        try:
            return await self._store.revoked(session_ids)
        except STATE_ERRORS as error:
            raise StateAwayError("the sessions cannot be asked", kind=type(error).__name__) from None
