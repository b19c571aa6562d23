"""Many clients of server-sent events in one process, as cheap as they can be: a protocol each, no task, no parser."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

AT_ONCE = 20
"""Connections that are being opened."""

Sent = Callable[[str, bytes], float]
"""When a frame was written, by the turn and the frame: on the clock of `time.monotonic`."""


class Listener(asyncio.Protocol):
    """One client. It notes how late each frame is, and forgets it."""

    def __init__(self, turn: str, request: bytes, sent: Sent) -> None:
        self.turn, self._request, self._sent = turn, request, sent
        self.delays: list[float] = []
        self.opened: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.ended = False
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        if not self.opened.done():
            self.opened.set_result(data.partition(b"\r\n")[0])
        whole, _, self._rest = (self._rest + data).rpartition(b"\n\n")
        for frame in whole.split(b"id: ")[1:]:
            self.delays.append(now - self._sent(self.turn, frame.partition(b"\n")[0]))

    def connection_lost(self, error: Exception | None) -> None:
        self.ended = True
        if not self.opened.done():
            self.opened.set_exception(error or ConnectionError("no answer"))


async def gather_crowd(
    urls: Sequence[tuple[str, str, Mapping[str, str]]], sent: Sent
) -> tuple[list[Listener], list[asyncio.BaseTransport]]:
    """Open a client for each (turn, URL, headers); all have been answered with 200."""
    gate = asyncio.Semaphore(AT_ONCE)
    transports: list[asyncio.BaseTransport] = []

    async def one(turn: str, url: str, headers: Mapping[str, str]) -> Listener:
        parts = urlsplit(url)
        lines = "".join(f"{name}: {value}\r\n" for name, value in {"Host": parts.netloc, **headers}.items())
        request = f"GET {parts.path} HTTP/1.1\r\n{lines}\r\n".encode()
        async with gate:
            transport, listener = await asyncio.get_running_loop().create_connection(
                lambda: Listener(turn, request, sent), str(parts.hostname), int(parts.port or 80)
            )
            transports.append(transport)
            status = await listener.opened
        assert b" 200 " in status, f"{url} answered {status!r}"
        return listener

    return list(await asyncio.gather(*(one(*url) for url in urls))), transports
