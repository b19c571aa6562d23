"""Sessions that OpenAI hosts, for pages that talk to its workflows instead of to this system.

Client secrets come from `client.beta.chatkit.sessions`, and only OpenAI takes them. A hosted session has no refresh
token: the page asks its own service for another session when the client secret has expired.
"""

from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import NoReturn, TypeVar

import openai
from openai import AsyncOpenAI
from openai.types.beta.chatkit import ChatSession, ChatSessionWorkflowParam

from schemas.events import DEFAULT_TENANT
from schemas.sessions import Session
from workers.errors import AuthenticationError, CallError, PermanentError, QuotaError, RateLimitedError, TransientError
from workers.lanes.records import Owner
from workers.sessions.tokens import TokenCode, TokenError

LONGEST = timedelta(seconds=10)
"""How long one call may take."""

T = TypeVar("T")


class HostedSessions:
    """Implements `SessionProvider`.

    Args:
        client: made with `max_retries=0`: whoever asks for a session asks again.
        workflow: id of the workflow that the sessions are for.
        lifetime: of a client secret.
    """

    def __init__(self, client: AsyncOpenAI, workflow: str, lifetime: timedelta) -> None:
        self._sessions = client.beta.chatkit.sessions
        self._workflow: ChatSessionWorkflowParam = {"id": workflow}
        self._seconds = int(lifetime.total_seconds())

    async def start(self, owner: Owner, *, seed: str | None = None) -> Session:
        """A new hosted session. `seed` is of no use: OpenAI makes another one each time that it is asked."""
        created: ChatSession = await _called(
            self._sessions.create(
                user=hosted_user(owner),
                workflow=self._workflow,
                expires_after={"anchor": "created_at", "seconds": self._seconds},
                timeout=LONGEST.total_seconds(),
            )
        )
        expires = datetime.fromtimestamp(created.expires_at, UTC)
        return Session(client_secret=created.client_secret, expires_at=expires, session_id=created.id)

    async def refresh(self, refresh_token: str) -> NoReturn:
        """Hosted sessions have no refresh tokens."""
        raise TokenError(TokenCode.REAUTHENTICATE, "a hosted session is not refreshed; ask for another one")

    async def renew(self, owner: Owner, session_id: str) -> Session:
        """Another hosted session for the user; the old one ends with its client secret."""
        return await self.start(owner)

    async def end(self, session_id: str) -> None:
        """Cancel a hosted session."""
        try:
            await _called(self._sessions.cancel(session_id, timeout=LONGEST.total_seconds()))
        except UnknownHostedSessionError:
            return

    async def end_all(self, owner: Owner) -> NoReturn:
        """Nobody knows which hosted sessions a user has."""
        raise PermanentError("hosted sessions are ended one by one, by their ids", kind="HostedSession")


class UnknownHostedSessionError(PermanentError):
    """OpenAI knows no such session."""


def hosted_user(owner: Owner) -> str:
    """The user as OpenAI gets it: users of two tenants are two users."""
    return owner.user if owner.tenant == DEFAULT_TENANT else f"{owner.tenant}/{owner.user}"


async def _called(call: Awaitable[T]) -> T:
    """The answer of a call; foreign errors become ours here. Their texts are left out."""
    try:
        return await call
    except openai.APIStatusError as error:
        raise _of_status(error) from None
    except openai.APIConnectionError as error:
        raise TransientError("OpenAI cannot be reached", kind=type(error).__name__) from None
    except openai.OpenAIError as error:
        raise PermanentError("OpenAI's answer cannot be read", kind=type(error).__name__) from None


def _of_status(error: openai.APIStatusError) -> CallError:
    message, kind = f"OpenAI answered HTTP {error.status_code}", type(error).__name__
    match error.status_code:
        case 401:
            return AuthenticationError(message, kind=kind)
        case 403:
            return QuotaError(message, kind=kind)
        case 404:
            return UnknownHostedSessionError(message, kind=kind)
        case 429:
            return RateLimitedError(message, kind=kind)
        case 408 | 409 | 500 | 502 | 503 | 504:
            return TransientError(message, kind=kind)
        case _:
            return PermanentError(message, kind=kind)
