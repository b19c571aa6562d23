"""The client of the state: one Redis, or a Redis Cluster."""

from typing import Any

import hiredis
from redis._parsers.hiredis import NOT_ENOUGH_DATA
from redis.asyncio import BlockingConnectionPool, Connection, Redis
from redis.asyncio.client import PubSub
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import RedisClusterException, RedisError, ResponseError

State = Redis | RedisCluster

STATE_ERRORS = (RedisError, RedisClusterException, OSError, TimeoutError)
"""What is raised while the state cannot be asked. (The exception of the cluster is no `RedisError`.)"""

SOCKET_SECONDS = 5.0
"""Longest wait for a connection, for a reply, and for a free connection of the pool."""

HEALTH_SECONDS = 15
"""A connection idle for longer is pinged before it is used: a half-open one shows at no other time."""

CLUSTER_SUFFIX = "+cluster"


class BatchConnection(Connection):
    """Made for pipelines of a hundred commands, on whose packing and unpacking redis-py's asyncio connection spends
    more than the commands need themselves: packs in C, and takes a reply that has come already without a time-out."""

    def pack_command(self, *args: Any) -> list[bytes]:
        try:
            if " " not in args[0]:
                return [hiredis.pack_command(args)]
        except TypeError:  # a name in bytes, or an argument that has to be turned into bytes first
            pass
        return super().pack_command(*args)

    async def read_response(self, *args: Any, **options: Any) -> Any:
        if args or options or not self.is_connected:
            return await super().read_response(*args, **options)
        parser: Any = self._parser
        reply = parser._reader.gets()  # noqa: SLF001  # there is no public way to ask without waiting
        if reply is NOT_ENOUGH_DATA:
            return await super().read_response()
        if isinstance(reply, RedisError):
            if not isinstance(reply, ResponseError):  # the server is loading: what else was sent is not answered
                await self.disconnect(nowait=True)
            raise reply
        if isinstance(reply, hiredis.PushNotification):  # the server has something to say that is no reply
            await parser.handle_push_response(reply)
            return await super().read_response()
        return reply


def connect(url: str, *, max_connections: int = 64) -> State:
    """A client that connects when it is first used.

    Args:
        url: `redis://`, `rediss://`, `redis+cluster://` or `rediss+cluster://`.
        max_connections: of the pool, whose users then wait; of a cluster, per node, without waiting.
    """
    scheme, _, rest = url.partition("://")
    if scheme.endswith(CLUSTER_SUFFIX):
        return RedisCluster.from_url(
            f"{scheme.removesuffix(CLUSTER_SUFFIX)}://{rest}",
            max_connections=max_connections * 16,  # its pool raises when it is empty instead of waiting
            socket_timeout=SOCKET_SECONDS,
            socket_connect_timeout=SOCKET_SECONDS,
            socket_keepalive=True,
            health_check_interval=HEALTH_SECONDS,
        )
    pool = BlockingConnectionPool.from_url(
        url,
        connection_class=BatchConnection,  # of `rediss` it is redis-py's own
        max_connections=max_connections,
        timeout=SOCKET_SECONDS,
        socket_timeout=SOCKET_SECONDS,
        socket_connect_timeout=SOCKET_SECONDS,
        socket_keepalive=True,
        health_check_interval=HEALTH_SECONDS,
        # Every script is idempotent, so what a lost connection leaves open is asked again.
        retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=1.0), 3),
    )
    return Redis.from_pool(pool)


async def open_pubsub(state: State) -> PubSub:
    """A subscriber of its own connection, without the messages that only confirm a subscription. Close it."""
    if isinstance(state, RedisCluster):
        await state.initialize()  # its subscriber looks its node up in a map that is empty until then (KeyError)
    pubsub: PubSub = state.pubsub(ignore_subscribe_messages=True)
    return pubsub
