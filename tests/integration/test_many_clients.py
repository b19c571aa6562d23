"""Many open streams of one gateway: they share its few connections to Redis."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from tests.builders import create_event
from tests.crowd import gather_crowd
from tests.deployment import SERVICE, Deployment, sign_in
from tests.eventually import eventually
from tests.unit.streams.running import begun
from workers.gateway.wiring import NAME
from workers.lanes.connection import State, connect

pytestmark = pytest.mark.redis

CLIENTS = 100
MOST_CONNECTIONS = 5


@pytest.fixture
def deployment(redis_url: str, sqlite_url: str) -> Iterator[Deployment]:
    with Deployment(redis_url, sqlite_url) as deployment:
        yield deployment


@pytest.fixture
async def state(redis_url: str) -> AsyncIterator[State]:
    state = connect(redis_url)
    yield state
    await state.aclose()


async def test_many_clients_of_a_gateway_share_five_connections(
    redis_url: str, deployment: Deployment, state: State
) -> None:
    events = [create_event(userid="u1") for _ in range(5)]
    address = deployment.gateway()
    async with httpx.AsyncClient(base_url=address, timeout=20) as http:
        token = await sign_in(http)
        for event in events:
            answer = await http.post("/v1/events", content=event.model_dump_json(), headers=SERVICE)
            assert answer.status_code == 202, answer.text
    turns = [await begun(state, deployment.keys, event) for event in events]
    paths = [f"events/{event.event_id}" for event in events] + [f"threads/{event.thread_id}" for event in events]
    urls = [("", f"{address}/v1/{paths[n % len(paths)]}/stream", token) for n in range(CLIENTS)]
    listeners, transports = await gather_crowd(urls, lambda *_: 0.0)
    for _ in range(3):
        await asyncio.gather(*(turn.show(b'{"type":"a"}', b'{"type":"b"}') for turn in turns))

    async def all_saw_all() -> bool:
        return all(len(listener.delays) == 6 for listener in listeners)

    await eventually(all_saw_all, within=30)
    names = [client["name"] for client in await state.client_list() if client["db"] == redis_url.rpartition("/")[2]]
    ours = [name for name in names if name.startswith(f"{NAME}:")]
    assert 3 <= len(ours) <= MOST_CONNECTIONS, names
    for transport in transports:
        transport.close()
