"""The client of the state: one Redis, or a Redis Cluster."""

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import RedisClusterException, RedisError

from workers.lanes.wary import WaryPool

State = Redis | RedisCluster

STATE_ERRORS = (RedisError, RedisClusterException, OSError, TimeoutError)
"""What is raised while the state cannot be asked. (The exception of the cluster is no `RedisError`.)"""

SOCKET_SECONDS = 3.0
"""Longest wait for a connection, and for a reply: after it, a half-open connection is found out."""

CONNECTIONS = 64
"""Of a pool, where nobody says otherwise."""

CLUSTER_CONNECTIONS = 1024
"""To each node of a cluster, at most: redis-py's pool for it raises when it is empty, instead of waiting."""

POOL_SECONDS = 5.0
"""Longest wait for a free connection of a large pool."""

HEALTH_SECONDS = 15
"""A connection idle for longer is pinged before it is used: a half-open one shows at no other time."""

CLUSTER_SUFFIX = "+cluster"


def connect(
    url: str, *, max_connections: int = CONNECTIONS, pool_seconds: float = POOL_SECONDS, name: str | None = None
) -> State:
    """A client that connects when it is first used.

    Args:
        url: `redis://`, `rediss://`, `redis+cluster://` or `rediss+cluster://`.
        max_connections: of the pool, whose users then wait. A cluster has `CLUSTER_CONNECTIONS`.
        pool_seconds: longest wait for one of them.
        name: what Redis calls the connections (`CLIENT LIST`).
    """
    scheme, _, rest = url.partition("://")
    if scheme.endswith(CLUSTER_SUFFIX):
        return RedisCluster.from_url(
            f"{scheme.removesuffix(CLUSTER_SUFFIX)}://{rest}",
            max_connections=CLUSTER_CONNECTIONS,
            socket_timeout=SOCKET_SECONDS,
            socket_connect_timeout=SOCKET_SECONDS,
            socket_keepalive=True,
            health_check_interval=HEALTH_SECONDS,
            client_name=name,
        )
    pool = WaryPool.from_url(
        url,
        max_connections=max_connections,
        timeout=pool_seconds,
        socket_timeout=SOCKET_SECONDS,
        socket_connect_timeout=SOCKET_SECONDS,
        socket_keepalive=True,
        health_check_interval=HEALTH_SECONDS,
        client_name=name,
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
