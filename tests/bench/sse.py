"""A lean client of server-sent events: one socket, no parsing beyond what is looked for. It costs nearly nothing."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(slots=True)
class Response:
    """An answer as it comes in."""

    status: int
    _reader: asyncio.StreamReader
    _seen: bytes = b""

    async def until(self, text: bytes) -> bool:
        """Read on until `text` has come; False when the answer ends before."""
        while text not in self._seen:
            chunk = await self._reader.read(65_536)
            if not chunk:
                return False
            self._seen += chunk
        return True

    async def drain(self) -> None:
        """Read to the end, and forget it."""
        while await self._reader.read(65_536):
            pass


@asynccontextmanager
async def request(
    method: str, url: str, *, body: object = None, headers: Mapping[str, str] | None = None
) -> AsyncIterator[Response]:
    """Send a request; the headers of the answer have come."""
    parts = urlsplit(url)
    content = b"" if body is None else json.dumps(body).encode()
    given = {"Host": parts.netloc, "Connection": "close", "Content-Length": str(len(content)), **(headers or {})}
    if content:
        given.setdefault("Content-Type", "application/json")
    head = f"{method} {parts.path or '/'} HTTP/1.1\r\n" + "".join(
        f"{name}: {value}\r\n" for name, value in given.items()
    )
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(head.encode() + b"\r\n" + content)
        status = int((await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1])
        yield Response(status, reader)
    finally:
        writer.close()
