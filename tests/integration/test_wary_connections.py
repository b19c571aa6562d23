"""Connections that were found half-open, or lead to a server that was demoted, are used no more."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from typing import Any, cast

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as StateConnectionError
from redis.exceptions import ReadOnlyError
from redis.exceptions import TimeoutError as SilenceError

from tests.integration.tcp_proxy import TcpProxy
from tests.services import RedisServer
from workers.ingest import wary_broker
from workers.ingest.wary_broker import WaryConnection
from workers.lanes import listening
from workers.lanes.connection import connect, open_pubsub
from workers.lanes.listening import messages_of
from workers.lanes.wary import WaryPool

pytestmark = pytest.mark.redis

SILENCE_SECONDS = 0.2


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[TcpProxy]:
    with TcpProxy(redis_server.port) as proxy:
        yield proxy


async def answers_of(client: Redis, count: int) -> list[Any]:
    """So many commands at the same time, each on a connection of its own."""
    return await asyncio.gather(*(client.ping() for _ in range(count)), return_exceptions=True)


async def test_one_silent_connection_costs_a_time_out_and_the_others_are_opened_anew(proxy: TcpProxy) -> None:
    pool: WaryPool = WaryPool.from_url(f"redis://127.0.0.1:{proxy.port}/0", socket_timeout=SILENCE_SECONDS)
    client = Redis.from_pool(pool)
    assert await answers_of(client, 5) == [True] * 5
    assert proxy.connections == 5
    proxy.swallow()
    proxy.heal()
    with pytest.raises(SilenceError):
        await client.ping()
    assert await answers_of(client, 5) == [True] * 5
    assert proxy.connections == 10
    await client.aclose()


async def test_who_waits_for_a_connection_is_served_in_order_and_a_waiter_that_leaves_takes_none_along(
    redis_url: str,
) -> None:
    pool: WaryPool = WaryPool.from_url(redis_url, max_connections=1, timeout=5)
    held, served = await pool.get_connection(), list[int]()

    async def use(number: int) -> None:
        connection = await pool.get_connection()
        served.append(number)
        await pool.release(connection)

    waiting = [asyncio.create_task(use(number)) for number in range(10)]
    await asyncio.sleep(0)  # all of them wait
    waiting[3].cancel()
    await pool.release(held)
    newcomer = asyncio.create_task(use(10))
    await asyncio.gather(*waiting, newcomer, return_exceptions=True)
    assert served == [0, 1, 2, 4, 5, 6, 7, 8, 9, 10]
    await pool.aclose()


async def test_who_waits_too_long_for_a_connection_is_told_that_the_state_is_away(redis_url: str) -> None:
    pool: WaryPool = WaryPool.from_url(redis_url, max_connections=1, timeout=0.05)
    held = await pool.get_connection()
    with pytest.raises(StateConnectionError):
        await pool.get_connection()
    await pool.release(held)
    await pool.release(await pool.get_connection())
    await pool.aclose()


def test_the_same_goes_for_connections_to_the_broker(proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wary_broker.WaryPool, "suspected_at", 0.0)
    pool = wary_broker.WaryPool(
        connection_class=WaryConnection, host="127.0.0.1", port=proxy.port, socket_timeout=SILENCE_SECONDS
    )

    def ping(connection: Any) -> Any:
        connection.send_command("PING")
        return connection.read_response()

    connections = [pool.get_connection() for _ in range(3)]
    proxy.swallow()
    proxy.heal()
    with pytest.raises(SilenceError):
        ping(connections[0])
    for connection in connections:
        pool.release(connection)
    assert [ping(pool.get_connection()) for _ in range(3)] == [b"PONG"] * 3
    assert proxy.connections == 6
    pool.disconnect()


@pytest.mark.redis
async def test_a_server_that_has_become_a_replica_is_left(tmp_path: Any) -> None:
    server = RedisServer(tmp_path).start()
    try:
        client = cast("Redis", connect(server.url, max_connections=1))
        first = await client.client_id()
        await client.replicaof("127.0.0.1", "1")
        with pytest.raises(ReadOnlyError):
            await client.set("key", "value")
        await client.replicaof("NO", "ONE")
        assert await client.client_id() != first
        assert await client.set("key", "value")
        await client.aclose()
    finally:
        server.stop()


async def heard_nothing(messages: AsyncGenerator[Any, None]) -> None:
    async for message in messages:
        assert message is None


async def test_a_listener_finds_out_that_nobody_talks_to_it_any_more(
    proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LISTEN", "PING_AFTER", "GONE_AFTER"):
        monkeypatch.setattr(listening, name, getattr(listening, name) / 20)
    state = connect(f"redis://127.0.0.1:{proxy.port}/0")
    async with await open_pubsub(state) as pubsub:
        await pubsub.subscribe("channel")
        messages = messages_of(pubsub)
        began = time.monotonic()
        while time.monotonic() - began < 1:  # pings are answered: silence alone is no fault
            assert await anext(messages) is None
        await state.publish("channel", "word")
        while (message := await anext(messages)) is None:
            pass
        assert message["data"] == b"word"
        proxy.swallow()
        with pytest.raises(StateConnectionError):
            await asyncio.wait_for(heard_nothing(messages), 3)
    await state.aclose()


async def test_a_user_that_is_cancelled_while_another_leaves_a_demoted_server_keeps_no_connection(
    redis_server: RedisServer,
) -> None:
    """Lost for good otherwise: the pool's permit comes back, the connection does not."""
    pool: WaryPool = WaryPool.from_url(f"redis://127.0.0.1:{redis_server.port}/0", max_connections=2, timeout=1)
    client = Redis.from_pool(pool)
    demoted, other = await pool.get_connection(), await pool.get_connection()
    demoted.mark_for_reconnect()
    returns = [asyncio.create_task(pool.release(connection)) for connection in (demoted, other)]
    await asyncio.sleep(0)
    returns[1].cancel()
    await asyncio.wait(returns)
    assert await answers_of(client, 4) == [True] * 4
    assert not pool._in_use_connections
    await client.aclose()
