"""Session: what was sent in a session that has been revoked meanwhile is not run. One that merely came to its end
is."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from schemas.outcome import Dropped, DropReason, Outcome
from workers.policies.compose import Handler
from workers.policies.delivery import Delivery


class Sessions(Protocol):
    """What is known of sessions, by whoever knows it all."""

    async def revoked(self, session_ids: Collection[str]) -> set[str]:
        """Which of these are revoked. Raises StateAwayError: nobody can be asked."""
        ...


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """Asks before each run, however long the event has waited. If nobody can be asked, it is not run: it fails
    closed."""

    sessions: Sessions

    async def __call__(self, delivery: Delivery, call_next: Handler) -> Outcome:
        session_id = delivery.event.sessionid
        if session_id is not None and await self.sessions.revoked([session_id]):
            return Dropped(DropReason.SESSION_REVOKED)
        return await call_next(delivery)
