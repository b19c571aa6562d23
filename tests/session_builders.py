"""Builders for tests of sessions: a store on any client, a clock to turn."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tests.lane_builders import TurnedClock
from workers.lanes.connection import State
from workers.lanes.keys import Keys
from workers.lanes.records import Owner
from workers.sessions.ids import new_session_id
from workers.sessions.records import Rotated, SessionRecord
from workers.sessions.refresh_tokens import RefreshToken
from workers.sessions.store import Lifetimes, SessionStore

ME, ALSO_MINE, OTHER_TENANT = Owner("acme", "u1"), Owner("acme", "u2"), Owner("globex", "u1")
LIFETIMES = Lifetimes(absolute=timedelta(days=30), idle=timedelta(days=7), grace=timedelta(seconds=5))
SHARDS = 4


@dataclass(frozen=True, slots=True)
class Shop:
    """A store, its clock, and the raw state."""

    state: State
    keys: Keys
    clock: TurnedClock
    store: SessionStore

    async def started(self, owner: Owner = ME) -> RefreshToken:
        """A session that must start."""
        token = RefreshToken.new(new_session_id(owner))
        assert await self.store.start(owner, token) is not None
        return token

    async def rotated(self, token: RefreshToken) -> RefreshToken:
        """A refresh that must go well."""
        answer = await self.store.rotate(token)
        assert isinstance(answer, Rotated), answer
        return answer.successor

    async def sessions(self, tenant: str | None = None, user: str | None = None, **options: Any) -> list[SessionRecord]:
        """All pages."""
        found: list[SessionRecord] = []
        after: str | None = None
        while True:
            page = await self.store.page(tenant, user, after=after, **options)
            found += page.items
            if page.next is None:
                return found
            after = page.next

    async def ids(self, tenant: str | None = None, user: str | None = None) -> set[str]:
        return {record.session_id for record in await self.sessions(tenant, user)}

    async def revoke_all(self, tenant: str | None = None, user: str | None = None) -> set[str]:
        return {one async for batch in self.store.revoke_all(tenant, user) for one in batch}

    async def everything(self) -> dict[bytes, Any]:
        """Every key of the state, whatever its type, as text."""
        state: Any = self.state
        found: dict[bytes, Any] = {}
        async for key in state.scan_iter():
            match await state.type(key):
                case b"hash":
                    found[key] = await state.hgetall(key)
                case b"zset":
                    found[key] = await state.zrange(key, 0, -1)
                case kind:
                    found[key] = kind
        return found


def shop_on(state: State, prefix: str, lifetimes: Lifetimes = LIFETIMES) -> Shop:
    keys, clock = Keys(prefix, SHARDS), TurnedClock()
    return Shop(state, keys, clock, SessionStore(state, keys, lifetimes, clock=clock))


@asynccontextmanager
async def listening(shop: Shop) -> AsyncIterator[Any]:
    """What is announced."""
    state: Any = shop.state
    async with state.pubsub(ignore_subscribe_messages=True) as messages:
        await messages.subscribe(shop.store.channel)
        await messages.get_message(timeout=0.2)
        yield messages
