"""`chatkit.session.start|refresh|end`: what `/v1/sessions` does, for services that talk to the queue.

A secret reaches only its owner: it is one frame of the event's own stream, which the gateway shows to the user that the
event speaks for and to services, and which is gone a minute after the event has ended
(`workers/lanes/scripts/ending.lua`). It stands nowhere else: not in the event, its record, a log or a dead letter.
"""

from contextlib import suppress
from typing import Literal

from schemas.chatkit import ClientEffectEvent, frame_of
from schemas.events import SESSION_PREFIX, Event
from schemas.outcome import Done, Dropped, DropReason
from schemas.sessions import Session
from workers.errors import CallError, PermanentError, StateAwayError
from workers.lanes.connection import STATE_ERRORS
from workers.lanes.records import Owner
from workers.policies.batch import LightResult
from workers.sessions.ids import belongs_to, is_session_id
from workers.sessions.ports import SessionProvider
from workers.sessions.tokens import TokenCode, TokenError

EFFECT = "session"
"""Name of the client effect whose data is a `Session`."""

NO_KEY = "no key to sign client secrets with: workers need CHATKIT_SIGNING_KEYS or CHATKIT_SECRET_KEY as well"


class SessionEvents:
    """Runs one of these events. It may be run again: a start makes the same session again.

    Args:
        sessions: None where this process has no key to sign client secrets with.
    """

    def __init__(self, sessions: SessionProvider | None) -> None:
        self._sessions = sessions

    async def __call__(self, event: Event) -> LightResult:
        """What came of it, and the frame with the secret."""
        if self._sessions is None:
            return PermanentError(NO_KEY, kind="NoSigningKey"), []
        owner, named = Owner(event.tenant, event.userid), event.data.get("session_id")
        try:
            match event.type.removeprefix(SESSION_PREFIX):
                case "start":
                    return _shown(await _started(self._sessions, owner, named, event.event_id))
                case "refresh":
                    return _shown(await self._sessions.renew(owner, str(named)))
                case _:
                    await _end(self._sessions, owner, named)
                    return Done(), []
        except TokenError as error:
            return Dropped(_why(error.code)), []
        except STATE_ERRORS as error:
            return StateAwayError("the sessions cannot be reached", kind=type(error).__name__), []
        except CallError as error:
            return error, []


async def _started(sessions: SessionProvider, owner: Owner, named: str | None, event_id: str) -> Session:
    """The session that a page comes back with, if it lives and is this user's; else a new one."""
    if named is not None:
        with suppress(TokenError):
            return await sessions.renew(owner, named)
    return await sessions.start(owner, seed=event_id)


async def _end(sessions: SessionProvider, owner: Owner, named: str | None) -> None:
    if named is None:
        await sessions.end_all(owner)
    elif not is_session_id(named) or belongs_to(named, owner):
        await sessions.end(named)


def _why(code: TokenCode) -> Literal[DropReason.SESSION_REVOKED, DropReason.SESSION_EXPIRED]:
    return DropReason.SESSION_REVOKED if code is TokenCode.REVOKED else DropReason.SESSION_EXPIRED


def _shown(session: Session) -> LightResult:
    return Done(), [frame_of(ClientEffectEvent(name=EFFECT, data=session.model_dump(mode="json")))]
