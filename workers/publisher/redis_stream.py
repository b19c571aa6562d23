"""Publishing on Redis: XADD to the ingress stream, which unlike a Celery queue on Redis cannot lose a message."""

from collections.abc import Sequence

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from workers.publisher.prepare import Prepared
from workers.publisher.transport import BrokerAwayError, BrokerRefusedError
from workers.redis_errors import PASSING

FIELD = "event"
"""The field of a stream entry that holds the event's JSON."""

AWAY = (redis.ConnectionError, redis.TimeoutError, redis.exceptions.ReadOnlyError, redis.exceptions.OutOfMemoryError)
"""What may pass: a restart, a failover (a replica is read-only), a full memory that is being drained."""


class RedisStreamTransport:
    """One pipeline of XADD per batch. An XADD's reply is its confirmation."""

    def __init__(self, url: str, stream: str) -> None:
        self._url, self._stream = url, stream
        self._client: redis.Redis | None = None
        self._timeout_seconds = 0.0

    def send(self, batch: Sequence[Prepared], *, timeout_seconds: float) -> None:
        try:
            pipeline = self._connected(timeout_seconds).pipeline(transaction=False)
            for item in batch:
                pipeline.xadd(self._stream, {FIELD: item.body})
            pipeline.execute()
        except redis.AuthenticationError as error:
            raise BrokerRefusedError(_words(error)) from error
        except AWAY as error:
            self.close()  # a half-open connection must not meet the next try
            raise BrokerAwayError(_words(error)) from error
        except redis.RedisError as error:
            if PASSING.search(str(error)):
                raise BrokerAwayError(_words(error)) from error
            raise BrokerRefusedError(_words(error)) from error

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _connected(self, timeout_seconds: float) -> redis.Redis:
        # a socket's time-out is fixed when it is opened; the last try of a hand-over may need a shorter one
        if self._client is None or timeout_seconds < self._timeout_seconds * 0.9:
            self.close()
            self._timeout_seconds = timeout_seconds
            self._client = redis.Redis.from_url(
                self._url,
                socket_timeout=timeout_seconds,
                socket_connect_timeout=timeout_seconds,
                socket_keepalive=True,
                max_connections=2,
                retry=Retry(NoBackoff(), 0),  # one retry layer only: ours
            )
        return self._client


def _words(error: redis.RedisError) -> str:
    return f"{type(error).__name__}: {error}"
