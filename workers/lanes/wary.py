"""Connections to Redis that are made for pipelines, and that are not trusted when there is reason not to."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import hiredis
from redis._parsers.hiredis import NOT_ENOUGH_DATA
from redis.asyncio import BlockingConnectionPool, Connection, SSLConnection
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as NoConnectionError
from redis.exceptions import ReadOnlyError, RedisError, ResponseError
from redis.exceptions import TimeoutError as SilenceError


class Wary(AbstractConnection):
    """Made for pipelines of a hundred commands, on whose packing and unpacking redis-py's asyncio connection spends
    more than the commands need themselves: packs in C, and takes a reply that has come already without a time-out.

    A server that answers READONLY is a master no more: the connection goes no further than this command, since the
    server's address may lead to its successor by now. A read that times out is told to the pool.
    """

    opened_at = 0.0
    on_silence: Callable[[], None] | None = None

    async def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        if not self.is_connected:
            self.opened_at = time.monotonic()
        await super().connect_check_health(check_health, retry_socket_connect)

    def pack_command(self, *args: Any) -> list[bytes]:
        try:
            if " " not in args[0]:
                return [hiredis.pack_command(args)]
        except TypeError:  # a name in bytes, or an argument that has to be turned into bytes first
            pass
        return super().pack_command(*args)

    async def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            if args or options or not self.is_connected:
                return await super().read_response(*args, **options)
            return await self._read_at_once()
        except ReadOnlyError:
            self.mark_for_reconnect()  # type: ignore[no-untyped-call]  # redis-py has no type for it
            raise
        except SilenceError:
            if self.on_silence is not None:
                self.on_silence()
            raise

    async def _read_at_once(self) -> Any:
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


class WaryConnection(Wary, Connection):
    """Over TCP."""


class WarySslConnection(Wary, SSLConnection):
    """Over TLS."""


class WaryPool(BlockingConnectionPool):
    """When one connection turns out to be half-open, those as old as it is are opened anew before they are used: else
    each of them would cost its user a time-out of its own.

    Its users are served in the order in which they came. (redis-py's condition lets newcomers overtake those who wait:
    with two connections and a hundred users some of them would wait until all others have done.)
    """

    def __init__(self, **options: Any) -> None:
        self._suspected_at = 0.0
        tls = options.get("connection_class") is SSLConnection
        super().__init__(**{**options, "connection_class": WarySslConnection if tls else WaryConnection})
        self._free = asyncio.Semaphore(self.max_connections)

    async def get_connection(self, *_: Any, **__: Any) -> Any:
        """A connection, after those who came before. Raises `ConnectionError` when none becomes free in time."""
        try:
            async with asyncio.timeout(self.timeout):
                await self._free.acquire()
        except TimeoutError:
            raise NoConnectionError("No connection available.") from None
        try:
            async with self._maybe_pool_lock():
                connection: Any = self.get_available_connection()  # type: ignore[no-untyped-call]  # same as below
        except BaseException:
            self._free.release()
            raise
        try:
            await self.ensure_connection(connection)
        except BaseException:
            await self.release(connection)
            raise
        return connection

    async def release(self, connection: Any) -> None:
        """Give a connection back. Nothing in it waits: a cancellation that met it would leave the connection in use."""
        try:
            if connection.should_reconnect():  # redis-py would wait for it to close, and whoever comes next for that
                await connection.disconnect(nowait=True)
            await super().release(connection)
        finally:
            self._free.release()

    def make_connection(self) -> Any:
        connection: Any = super().make_connection()  # type: ignore[no-untyped-call]  # same
        connection.on_silence = self._suspect
        return connection

    async def ensure_connection(self, connection: Any) -> None:
        if connection.is_connected and connection.opened_at < self._suspected_at:
            await connection.disconnect(nowait=True)
        await super().ensure_connection(connection)

    def _suspect(self) -> None:
        self._suspected_at = time.monotonic()
