"""The sessions as a deployment's settings have them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from workers.lanes.connection import State
from workers.lanes.deployment import keys_of
from workers.sessions.keys import KeyRing
from workers.sessions.own import OwnSessions
from workers.sessions.ports import SessionProvider
from workers.sessions.revocations import Revocations
from workers.sessions.store import Lifetimes, SessionStore
from workers.sessions.tokens import LEEWAY, TokenMinter
from workers.settings import Settings


def store_of(settings: Settings, state: State) -> SessionStore:
    """The session store of the deployment."""
    # a session that is used lives as long as a client secret of it, whatever is set
    idle = timedelta(seconds=max(settings.session_idle_ttl, settings.client_secret_ttl))
    absolute, grace = timedelta(seconds=settings.session_ttl), timedelta(seconds=settings.refresh_grace)
    return SessionStore(state, keys_of(settings), Lifetimes(absolute, idle, grace))


def minter_of(settings: Settings, keys: KeyRing) -> TokenMinter:
    """What makes the deployment's client secrets."""
    return TokenMinter(keys, timedelta(seconds=settings.client_secret_ttl))


def revocations_of(settings: Settings) -> Revocations:
    """What a process remembers of revocations: as long as a client secret may be taken, on whichever clock."""
    return Revocations(timedelta(seconds=settings.client_secret_ttl) + 2 * LEEWAY)


@asynccontextmanager
async def open_provider(
    settings: Settings, store: SessionStore, minter: TokenMinter, revocations: Revocations | None = None
) -> AsyncIterator[SessionProvider]:
    """What makes sessions: OpenAI where a workflow of it is set, else the deployment itself."""
    if settings.hosted_workflow is None:
        yield OwnSessions(store, minter, revocations)
        return
    from openai import AsyncOpenAI

    from workers.sessions.hosted import HostedSessions

    key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else "none"
    async with AsyncOpenAI(api_key=key, base_url=settings.openai_base_url, max_retries=0) as client:
        yield HostedSessions(client, settings.hosted_workflow, timedelta(seconds=settings.client_secret_ttl))
