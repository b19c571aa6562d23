"""What makes, keeps alive and ends sessions: ours, or those that OpenAI hosts."""

from typing import Protocol

from schemas.sessions import Session
from workers.lanes.records import Owner


class SessionProvider(Protocol):
    """Client secrets for users that a service vouches for."""

    async def start(self, owner: Owner, *, seed: str | None = None) -> Session:
        """A new session.

        Args:
            owner: whom the service vouches for.
            seed: of an event that may be run again: it makes the same session again, not another one.
        """
        ...

    async def refresh(self, refresh_token: str) -> Session:
        """A new client secret for whoever has the refresh token, which is spent for its successor.

        Raises:
            TokenError: it is none, it was spent before, or its session has come to its end.
        """
        ...

    async def renew(self, owner: Owner, session_id: str) -> Session:
        """A new client secret for a session of a user that a service vouches for; no refresh token is spent.

        Raises:
            TokenError: the session has come to its end, or is not this user's.
        """
        ...

    async def end(self, session_id: str) -> None:
        """Revoke a session. Once more, and one that is not there, is success."""
        ...

    async def end_all(self, owner: Owner) -> None:
        """Revoke every session of a user."""
        ...
