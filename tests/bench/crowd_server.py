"""The baseline of (k): a bare ASGI app that says a frame to all its clients at a pace. What is above it is ours."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
PAUSE_SECONDS = float(os.environ.get("BENCH_PAUSE_SECONDS", "0.5"))

_clients: dict[str, list[asyncio.Queue[bytes]]] = {}
_speaking: set[asyncio.Task[None]] = set()


async def app(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """`/<turn>` follows a turn, which begins with its first client; its frames have the time as their id."""
    if scope["type"] != "http":
        return
    turn = scope["path"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    if turn == "/healthz":
        await send({"type": "http.response.body"})
        return
    frames: asyncio.Queue[bytes] = asyncio.Queue()
    if turn not in _clients:
        _clients[turn] = []
        _speaking.add(asyncio.create_task(_speak(turn)))
    _clients[turn].append(frames)
    frame = b": hello\n\n"
    while True:
        await send({"type": "http.response.body", "body": frame, "more_body": True})
        frame = await frames.get()


async def _speak(turn: str) -> None:
    while True:
        await asyncio.sleep(PAUSE_SECONDS)
        frame = b"id: %.6f\ndata: %s\n\n" % (time.monotonic(), b"x" * 120)
        for client in _clients[turn]:
            client.put_nowait(frame)
