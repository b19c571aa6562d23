"""Server-sent events: frames as lines that no content can break out of, kept alive, closed when the client goes."""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from dataclasses import dataclass
from datetime import timedelta

import pydantic_core
from redis.exceptions import RedisError
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from schemas.chatkit import ErrorEvent, ProgressUpdateEvent, frame_of
from schemas.outcome import DropReason
from schemas.traces import origin_of
from workers.streams.records import Entry, StreamEnd, StreamFrame, StreamGoneError, ThreadEntry, TurnEnd
from workers.telemetry.spans import EVENT_ID, Attributes, Kind, Span, span

log = logging.getLogger(__name__)

KEEP_ALIVE = timedelta(seconds=15)
COMMENT = b": keep-alive\n\n"
RETRY = b"retry: 1000\n\n"
"""When a client whose connection breaks may come back, in ms. It begins every stream: proxies pass no headers on before
something of the body has come."""

COME_BACK_MS = (50, 1000)
"""When a client may come back to another gateway, after this one has let go of it: anywhere between, lest all come at
once."""

ENDED = f"Your session has ended ({DropReason.SESSION_REVOKED}): please sign in again."

HEADERS = {
    # a proxy that stores, compresses or buffers a stream delays it
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}

Batches = AsyncGenerator[Sequence[Entry], None]
ThreadBatches = AsyncGenerator[Sequence[ThreadEntry], None]


def frame_lines(frame: StreamFrame) -> bytes:
    """One frame: its id and its JSON. A line break in the JSON begins another `data:` line, as the format has it."""
    data = frame.data
    if b"\n" in data or b"\r" in data:
        data = b"\ndata: ".join(data.splitlines())
    return b"id: %s\ndata: %s\n\n" % (frame.id.encode(), data)


def end_lines(end: StreamEnd) -> bytes:
    """The end of an event's stream."""
    return b"event: end\ndata: %s\n\n" % pydantic_core.to_json({"state": end.state, "reason": end.reason})


def turn_end_lines(end: TurnEnd) -> bytes:
    """The end of one turn of a thread's stream. Whoever comes back after its id goes on with the next turn."""
    data = pydantic_core.to_json({"id": end.event_id, "state": end.state, "reason": end.reason})
    return b"id: %s\nevent: turn.end\ndata: %s\n\n" % (end.id.encode(), data)


class EventStream(StreamingResponse):
    """The response; whatever ends it (the turn, the client, the server) closes the reader behind it at once."""

    def __init__(
        self,
        chunks: AsyncGenerator[bytes, None],
        batches: Batches | ThreadBatches,
        headers: Mapping[str, str] | None = None,
        listening: "Listening | None" = None,
    ) -> None:
        super().__init__(chunks, headers={**HEADERS, **(headers or {})}, media_type="text/event-stream")
        self._chunks, self._batches, self._listening = chunks, batches, listening

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # both: closing a generator that was never started does not close what it was given
        async with aclosing(self._batches), aclosing(self._chunks):
            with self._listening.span() if self._listening is not None else nullcontext():
                await super().__call__(scope, receive, send)


@dataclass(frozen=True, slots=True)
class Listening:
    """What the span of an open stream says."""

    event_id: str
    traceparent: str | None
    resumed: bool

    def span(self) -> AbstractContextManager[Span]:
        """As long as the client listens."""
        said: Attributes = {EVENT_ID: self.event_id, "chatkit.resumed": self.resumed}
        return span("stream", origin_of(self.event_id, self.traceparent), kind=Kind.SERVER, attributes=said)


Waiting = Callable[[], Awaitable[str | None]]
"""What a user is told whose event stands in line; None when it does not."""


class _Place:
    """What a client is told of its place in line: each word of it once, until something else comes."""

    def __init__(self, waiting: Waiting | None) -> None:
        self._waiting = waiting
        self._said: str | None = None

    async def lines(self, batch: Sequence[Entry | ThreadEntry]) -> bytes:
        """What there is to be told after this batch."""
        if batch or self._waiting is None:
            self._said = None
            return b""
        text = await self._waiting()
        if text is None or text == self._said:
            return b""
        self._said = text
        return b"data: %s\n\n" % frame_of(ProgressUpdateEvent(icon="clock", text=text))


Permitted = Callable[[], bool]
"""Whether the client may still listen. It costs nothing: asked with each batch."""


async def open_stream(
    batches: Batches | ThreadBatches,
    *,
    with_end: bool,
    permitted: Permitted,
    headers: Mapping[str, str] | None = None,
    waiting: Waiting | None = None,
    listening: Listening | None = None,
) -> EventStream:
    """Answer with an event's frames. The first batch is awaited here, so that its errors still become a status.

    Args:
        batches: of `FrameReader.batches` or `FrameReader.thread`.
        with_end: whether the last frame is followed by `event: end`; ChatKit clients know no such event.
        permitted: when it says no, the stream breaks off; the client comes back, and is told why.
        headers: further headers of the answer.
        waiting: asked while nothing happens; what it says is shown as progress, without an id, and stored nowhere.
        listening: for the span of the stream, where it is one event's.
    """
    try:
        first = await anext(batches)
    except BaseException:
        await batches.aclose()
        raise
    chunks = _chunks(first, batches, with_end=with_end, permitted=permitted, waiting=waiting)
    return EventStream(chunks, batches, headers, listening)


async def _chunks(
    first: Sequence[Entry | ThreadEntry],
    batches: Batches | ThreadBatches,
    *,
    with_end: bool,
    permitted: Permitted,
    waiting: Waiting | None,
) -> AsyncGenerator[bytes, None]:
    clock = asyncio.get_running_loop().time
    yield RETRY + _lines(first, with_end=with_end)
    written, place, last = clock(), _Place(waiting), first
    try:
        async for batch in batches:
            if not permitted():
                if not with_end:
                    yield b"data: %s\n\n" % frame_of(ErrorEvent(code="custom", message=ENDED, allow_retry=False))
                return
            last = batch
            lines = _lines(batch, with_end=with_end) + await place.lines(batch)
            if not lines and clock() - written >= KEEP_ALIVE.total_seconds():
                lines = COMMENT
            if lines:
                written = clock()
                yield lines
    except (RedisError, OSError, StreamGoneError) as error:
        # The status is long sent. Without its end, the client of an event's stream comes back with Last-Event-ID.
        log.warning("stream_broken", extra={"error": type(error).__name__})
        if not with_end:
            yield b"data: %s\n\n" % frame_of(ErrorEvent(code="stream.error"))
        return
    if not (last and isinstance(last[-1], StreamEnd)):  # this gateway shuts down, the event goes on
        yield b"retry: %d\n\n" % random.randint(*COME_BACK_MS)  # noqa: S311  # jitter


def _lines(batch: Sequence[Entry | ThreadEntry], *, with_end: bool) -> bytes:
    """All entries of a batch in one write. Of the ends of an event only one that nothing follows is told."""
    lines = []
    for entry in batch:
        if isinstance(entry, StreamFrame):
            lines.append(frame_lines(entry))
        elif isinstance(entry, TurnEnd):
            lines.append(turn_end_lines(entry))
    if with_end and batch and isinstance(batch[-1], StreamEnd):
        lines.append(end_lines(batch[-1]))
    return b"".join(lines)
