"""Listening to channels on a connection that may die without a sign."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

from redis.exceptions import ConnectionError as StateConnectionError

LISTEN = timedelta(seconds=1)
"""One wait for a message."""

PING_AFTER = timedelta(seconds=3)
"""Silence after which the server is asked for a sign of life."""

GONE_AFTER = timedelta(seconds=7)
"""Silence after which a connection is taken for half-open: it has swallowed at least one ping."""


async def messages_of(pubsub: Any) -> AsyncGenerator[Any, None]:
    """What comes on the subscribed channels, as redis-py gives it, for ever; None about once a second meanwhile.

    Raises:
        RedisError, OSError: the connection is lost, or half-open.
    """
    clock = asyncio.get_running_loop().time
    heard = asked = clock()
    while True:
        message = await pubsub.get_message(timeout=LISTEN.total_seconds())
        now = clock()
        if message is not None:
            heard = now
        elif now - heard > GONE_AFTER.total_seconds():
            raise StateConnectionError("no answer to a ping")
        elif now - max(heard, asked) > PING_AFTER.total_seconds():
            asked = now
            await pubsub.ping()
        yield message if message is None or message["type"] != "pong" else None
