"""Our own sessions: client secrets that any gateway checks by itself, refresh tokens that the store keeps."""

import logging
import time
from typing import assert_never

from schemas.sessions import Session
from workers.lanes.records import Owner
from workers.sessions.ids import is_session_id, new_session_id
from workers.sessions.records import NotRotated, Revoked, Rotated
from workers.sessions.refresh_tokens import RefreshToken
from workers.sessions.revocations import Revocations
from workers.sessions.store import SessionStore
from workers.sessions.tokens import TokenCode, TokenError, TokenMinter

log = logging.getLogger(__name__)


class OwnSessions:
    """Implements `SessionProvider`."""

    def __init__(self, store: SessionStore, minter: TokenMinter, revocations: Revocations | None = None) -> None:
        """`revocations` of this process learn at once what it revokes itself."""
        self._store, self._minter, self._revocations = store, minter, revocations

    async def start(self, owner: Owner, *, seed: str | None = None) -> Session:
        """A new session."""
        token = RefreshToken.new(new_session_id(owner, seed))
        ends = await self._store.start(owner, token)
        if ends is None:
            raise _refusal("revoked")
        log.info("session_started", extra={"session_id": token.session_id, "tenant": owner.tenant})
        session = self._minter.mint(owner.user, owner.tenant, token.session_id, until=ends)
        return session.model_copy(update={"refresh_token": token.text})

    async def refresh(self, refresh_token: str) -> Session:
        """A new client secret, and the successor of the refresh token."""
        token = RefreshToken.parse(refresh_token)
        answer = await self._store.rotate(token)
        if not isinstance(answer, Rotated):
            if answer == "reused":  # somebody has a copy
                log.warning("refresh_token_reused", extra={"session_id": token.session_id})
                self._note([token.session_id])
            raise _refusal(answer)
        owner = answer.owner
        session = self._minter.mint(owner.user, owner.tenant, token.session_id, until=answer.ends)
        return session.model_copy(update={"refresh_token": answer.successor.text})

    async def renew(self, owner: Owner, session_id: str) -> Session:
        """A new client secret of a session that goes on."""
        answer = await self._store.renew(owner, session_id) if is_session_id(session_id) else "unknown"
        if isinstance(answer, str):
            raise _refusal(answer)
        return self._minter.mint(owner.user, owner.tenant, session_id, until=answer)

    async def end(self, session_id: str) -> None:
        """Revoke a session. What is no id of ours names none."""
        if is_session_id(session_id):
            await self._store.revoke([session_id])
            self._note([session_id])
            log.info("session_revoked", extra={"session_id": session_id})

    async def end_all(self, owner: Owner) -> None:
        """Revoke every session of a user."""
        async for session_ids in self._store.revoke_all(owner.tenant, owner.user):
            self._note(session_ids)
            log.info("sessions_revoked", extra={"tenant": owner.tenant, "count": len(session_ids)})

    def _note(self, session_ids: list[str]) -> None:
        if self._revocations is not None:
            now = time.time()
            self._revocations.add(Revoked(session_id, now) for session_id in session_ids)


def _refusal(reason: NotRotated) -> TokenError:
    match reason:
        case "invalid":
            return TokenError(TokenCode.INVALID, "the refresh token is not valid")
        case "reused":
            return TokenError(TokenCode.REVOKED, "the refresh token was spent before: its session is over")
        case "revoked":
            return TokenError(TokenCode.REVOKED, "the session was ended; sign in again")
        case "unknown":
            return TokenError(TokenCode.REAUTHENTICATE, "the session has come to its end; sign in again")
        case _:
            assert_never(reason)
