"""A TCP proxy on loopback: a test can freeze it (bytes wait), cut it, make it half-open (bytes vanish), move it."""

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")


class TcpProxy:
    """Forwards to a port, from a loop in a thread of its own, so that blocking clients can be tested."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._lost: set[asyncio.StreamWriter] = set()
        self._swallowing = False
        self.connections = 0
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self.cut()
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def freeze(self) -> None:
        """Keep every connection open and forward nothing, not even on new ones."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def thaw(self) -> None:
        self._loop.call_soon_threadsafe(self._flowing.set)

    def swallow(self) -> None:
        """Be a network that has forgotten its connections: what is sent on them, and on new ones, vanishes both ways,
        and nobody is told."""
        self._loop.call_soon_threadsafe(self._lose_all)

    def heal(self) -> None:
        """Serve new connections. Those that were open stay half-open for ever."""
        self._loop.call_soon_threadsafe(setattr, self, "_swallowing", False)

    def point_to(self, target_port: int) -> None:
        """Have new connections reach another server, as a moved address does; open ones stay where they are."""
        self._target_port = target_port

    def cut(self) -> None:
        """Close all connections; new ones are served."""
        self._loop.call_soon_threadsafe(self._close_all)

    def _close_all(self) -> None:
        for writer in self._writers:
            writer.close()

    def _lose_all(self) -> None:
        self._swallowing = True
        self._lost.update(self._writers)

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(5)

    async def _end(self) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        if self._swallowing:
            self._lost.add(writer)
            await self._pipe(reader, writer)
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.close()
            return
        self._writers.add(far_writer)
        with suppress(asyncio.CancelledError):  # the end of the proxy; else asyncio complains of it
            await asyncio.gather(self._pipe(reader, far_writer), self._pipe(far_reader, writer))

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):
            while data := await reader.read(65_536):
                await self._flowing.wait()
                if writer not in self._lost:
                    writer.write(data)
                    await writer.drain()
        if writer in self._lost:
            return  # not even the end of the connection comes through
        writer.close()
        self._writers.discard(writer)
