"""Sessions on a real Redis Cluster: each script stays on one node, and what it announces is heard from every one."""

import asyncio

import pytest

from tests.eventually import eventually
from tests.integration.test_lanes_cluster import cluster_url
from tests.lane_builders import TurnedClock
from tests.session_builders import LIFETIMES, Shop, shop_on
from workers.lanes.connection import connect
from workers.lanes.keys import Keys
from workers.lanes.records import Owner
from workers.sessions.feed import RevocationFeed
from workers.sessions.ids import shared_part
from workers.sessions.revocations import Revocations
from workers.sessions.store import SessionStore

__all__ = ["cluster_url"]

pytestmark = pytest.mark.redis


async def test_sessions_of_all_shards_live_are_listed_and_are_revoked(cluster_url: str, prefix: str) -> None:
    state = connect(cluster_url)
    shop = shop_on(state, prefix)
    owners = [Owner("acme", f"u{number}") for number in range(24)]
    tokens = [await shop.started(owner) for owner in owners]
    assert len({shop.keys.tag_of(shared_part(token.session_id)) for token in tokens}) == shop.keys.shards
    tokens = list(await asyncio.gather(*(shop.rotated(token) for token in tokens)))
    ids = {token.session_id for token in tokens}
    assert await shop.ids() == ids
    assert await shop.store.revoke([token.session_id for token in tokens[:8]]) == [True] * 8
    assert await shop.revoke_all("acme") == {token.session_id for token in tokens[8:]}
    assert await shop.store.revoked(ids) == ids
    await state.aclose()


async def test_a_revocation_on_any_node_is_heard_at_once_and_seen_by_the_next_look(
    cluster_url: str, prefix: str
) -> None:
    state = connect(cluster_url)
    store = SessionStore(state, Keys(prefix, 8), LIFETIMES)
    heard, seen = (Revocations(LIFETIMES.idle) for _ in range(2))
    feed = asyncio.create_task(RevocationFeed(store, state, heard, look=LIFETIMES.idle).run())
    shop = Shop(state, Keys(prefix, 8), TurnedClock(), store)
    first = [await shop.started(Owner("acme", f"u{number}")) for number in range(12)]

    async def all_heard() -> bool:
        await store.revoke([token.session_id for token in first])  # once more is announced once more
        return len(heard) == len(first)

    await eventually(all_heard, within=20)
    await RevocationFeed(store, state, seen).look()
    assert len(seen) == len(first)
    feed.cancel()
    await asyncio.wait([feed])
    await state.aclose()
