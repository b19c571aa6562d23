"""What agents ask for a session: they get its id and a handle, and never see a secret."""

from dataclasses import dataclass
from datetime import datetime

from schemas.sessions import Session
from workers.errors import StateAwayError
from workers.lanes.connection import STATE_ERRORS
from workers.lanes.records import Owner
from workers.sessions.deposits import SecretDeposits
from workers.sessions.ports import SessionProvider


@dataclass(frozen=True, slots=True)
class Issued:
    """A session whose secrets wait for its page, under the handle."""

    session_id: str
    expires_at: datetime
    handle: str


class SecretIssuer:
    """Makes and renews sessions, and deposits what they come with.

    Both methods raise TokenError (see `SessionProvider`), CallError (of OpenAI, where it hosts the sessions), and
    StateAwayError.
    """

    def __init__(self, sessions: SessionProvider, deposits: SecretDeposits) -> None:
        self._sessions, self._deposits = sessions, deposits

    async def start(self, owner: Owner, *, seed: str) -> Issued:
        """A new session; the same `seed` makes the same one again."""
        try:
            return await self._deposited(owner, await self._sessions.start(owner, seed=seed))
        except STATE_ERRORS as error:
            raise _away(error) from None

    async def renew(self, owner: Owner, session_id: str) -> Issued:
        """A new client secret for a session of the owner's."""
        try:
            return await self._deposited(owner, await self._sessions.renew(owner, session_id))
        except STATE_ERRORS as error:
            raise _away(error) from None

    async def _deposited(self, owner: Owner, session: Session) -> Issued:
        return Issued(session.session_id, session.expires_at, await self._deposits.put(owner, session))


def _away(error: Exception) -> StateAwayError:
    return StateAwayError("the sessions cannot be reached", kind=type(error).__name__)
