"""kombu's connections to Redis, which are not trusted once one of them was found to be half-open.

`workers.lanes.wary` is the same for asyncio.
"""

import time
from typing import Any, ClassVar

from redis import ConnectionPool, SSLConnection
from redis.connection import Connection
from redis.exceptions import TimeoutError as SilenceError


class WaryConnection(Connection):
    """Says when the server did not answer in time."""

    opened_at = 0.0

    def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        if self._sock is None:
            self.opened_at = time.monotonic()
        super().connect_check_health(check_health, retry_socket_connect)

    def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return super().read_response(*args, **options)
        except SilenceError:
            WaryPool.suspected_at = time.monotonic()
            raise


class WarySslConnection(WaryConnection, SSLConnection):
    """The same over TLS."""


class WaryPool(ConnectionPool):
    """When one connection turns out to be half-open, older ones are opened anew before they are used: all of them are
    used from one thread, one after the other, and each would hold it up for a time-out."""

    suspected_at: ClassVar[float] = 0.0
    """Of the process: a worker has one broker, and a pool for each channel."""

    def get_connection(self, *args: Any, **options: Any) -> Any:
        connection: Any = super().get_connection(*args, **options)
        if connection.opened_at < self.suspected_at:
            try:
                connection.disconnect()
                connection.connect()
            except BaseException:
                self.release(connection)
                raise
        return connection
