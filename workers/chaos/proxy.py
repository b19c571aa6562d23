"""A TCP proxy on loopback that is as bad as a network can be."""

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
CHUNK = 65_536
SLICE = 7
LATENCY_SECONDS = 0.12
SLOW_BYTES_A_SECOND = 40_000
AT_ONCE_RST = struct.pack("ii", 1, 0)
"""SO_LINGER of no time: closing sends RST instead of FIN."""


class Weather(StrEnum):
    """How the network does. The first four end when the weather changes; what was swallowed stays lost."""

    FINE = "fine"
    LATENCY = "latency"
    """Every piece comes later."""
    SLOW = "slow"
    """A thin pipe."""
    SLICED = "sliced"
    """Every piece comes in shreds."""
    HALF_OPEN = "half_open"
    """Connections look alive and carry nothing; those that were open then never do again."""
    ONE_WAY = "one_way"
    """The same for what comes back: requests arrive, and nobody hears of it."""


@dataclass(slots=True, eq=False)
class _Link:
    """One connection through the proxy; a dead one swallows."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter
    deaf: bool = False
    dumb: bool = False


class Proxy:
    """Forwards to a port. Lives on the loop that it is started on."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._links: dict[_Link, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.weather = Weather.FINE
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def change(self, weather: Weather) -> None:
        """From now on it is like this. Half-open connections stay so, whatever comes."""
        self.weather = weather
        if weather in (Weather.HALF_OPEN, Weather.ONE_WAY):
            for link in self._links:
                self._strike(link)

    def reset(self) -> None:
        """Break every connection, with RST."""
        for link in list(self._links):
            for writer in (link.near, link.far):
                with suppress(OSError):
                    sock: socket.socket = writer.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE_RST)
                writer.transport.abort()

    def _strike(self, link: _Link) -> None:
        link.dumb = True
        link.deaf = link.deaf or self.weather is Weather.HALF_OPEN

    async def _serve(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            return
        self._tasks.add(task)
        try:
            far_reader, far = await asyncio.open_connection(HOST, self._target_port)
        except OSError:
            near.transport.abort()
            self._tasks.discard(task)
            return
        link = _Link(near, far)
        self._links[link] = None
        if self.weather in (Weather.HALF_OPEN, Weather.ONE_WAY):
            self._strike(link)
        try:
            await asyncio.gather(self._there(reader, link), self._back(far_reader, link))
        except asyncio.CancelledError:
            pass  # asyncio logs what a handler raises, and this one is meant
        finally:
            del self._links[link]
            self._tasks.discard(task)
            near.transport.abort()
            far.transport.abort()

    async def _there(self, reader: asyncio.StreamReader, link: _Link) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                if not link.deaf:
                    await self._pass_on(data, link.far)
        link.far.close()

    async def _back(self, reader: asyncio.StreamReader, link: _Link) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                if not link.dumb:
                    await self._pass_on(data, link.near)
        link.near.close()

    async def _pass_on(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        match self.weather:
            case Weather.LATENCY:
                await asyncio.sleep(LATENCY_SECONDS)
            case Weather.SLOW:
                await asyncio.sleep(len(data) / SLOW_BYTES_A_SECOND)
            case Weather.SLICED:
                for start in range(0, len(data) - SLICE, SLICE):
                    if writer.is_closing():
                        return
                    writer.write(data[start : start + SLICE])
                    await asyncio.sleep(0)
                data = data[(len(data) - 1) // SLICE * SLICE :]
            case _:
                pass
        writer.write(data)
        await writer.drain()
