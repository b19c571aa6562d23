"""The publisher: one object for threads, event loops and forked processes."""

import asyncio
import os
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from schemas.events import MAX_EVENT_BYTES
from schemas.records import Published
from workers.errors import PublishError
from workers.publisher.batcher import Batcher
from workers.publisher.prepare import MAX_CHUNK_EVENTS, Prepared, Publishable, chunks, prepare, prepare_all
from workers.publisher.transport import RetrySchedule, Transport, open_transport, send_with_retries


class Publisher:
    """Puts events on the queue, confirmed by the broker.

        with Publisher("redis://127.0.0.1:6379/0") as publisher:
            publisher.publish({"specversion": "1.0", "id": "1", "source": "/shop", "type": "chatkit.threads.create", …})

    Publishing the same event again is safe: `source` and `id` make its identity, and it is accepted once. All methods
    may be called from any thread. With `linger_seconds` set, `publish` returns at once and sends in batches; the
    confirmation is then `flush()`, `close()` or the end of the `with` block, which raise what went wrong.

    Args:
        url: redis://, rediss:// (the stream `<prefix>:ingress`), amqp:// or amqps:// (the exchange `chatkit.events`).
        prefix: the deployment's `CHATKIT_PREFIX`.
        timeout_seconds: bound of one hand-over with all its retries (`publish_many`: of each 500 events).
        linger_seconds: how long an event may wait for others to be sent with it; None sends at once.
        max_event_bytes: the deployment's `CHATKIT_MAX_EVENT_BYTES`.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "ck",
        timeout_seconds: float = 10.0,
        linger_seconds: float | None = None,
        max_event_bytes: int = MAX_EVENT_BYTES,
    ) -> None:
        self._url, self._prefix = url, prefix
        self._schedule = RetrySchedule(timeout_seconds)
        self._linger_seconds = linger_seconds
        self._max_event_bytes = max_event_bytes
        self._closed = False
        self._open()

    def _open(self) -> None:
        self._process = os.getpid()
        self._transport: Transport = open_transport(self._url, self._prefix)
        self._sending = threading.Lock()
        self._batcher = Batcher(self._send, linger_seconds=self._linger_seconds or 0.0, max_batch=MAX_CHUNK_EVENTS)
        self._unconfirmed: deque[Future[None]] = deque()

    def publish(self, event: Publishable) -> Published:
        """Publish one event.

        Raises:
            InvalidEventError: names every wrong field; nothing was sent.
            PublishError: the broker could not be reached in time, or refused; it may have arrived nevertheless.
        """
        self._ready()
        prepared = self._prepare(event)
        if self._linger_seconds is None:
            self._send([prepared])
        else:
            self._linger(prepared)
        return prepared.published

    def publish_many(self, events: Iterable[Publishable]) -> list[Published]:
        """Publish in order, 500 to a round trip. A wrong event stops all of them before anything is sent.

        Raises:
            InvalidEventError: as `events[3].data.type: …`.
            PublishError: says how many were confirmed before.
        """
        self._ready()
        prepared = prepare_all(events, now=datetime.now(UTC), max_bytes=self._max_event_bytes)
        self.flush()  # what lingers was handed over earlier
        confirmed = 0
        for chunk in chunks(prepared):
            try:
                self._send(chunk)
            except PublishError as error:
                raise PublishError(f"after {confirmed} of {len(prepared)} events: {error}") from error
            confirmed += len(chunk)
        return [item.published for item in prepared]

    async def apublish(self, event: Publishable) -> Published:
        """`publish` for asyncio: concurrent calls share round trips. Returns when the broker has the event."""
        self._ready()
        prepared = self._prepare(event)
        (future,) = self._batcher.put([prepared])
        await asyncio.wrap_future(future)
        return prepared.published

    async def apublish_many(self, events: Iterable[Publishable]) -> list[Published]:
        """`publish_many` for asyncio."""
        self._ready()
        prepared = prepare_all(events, now=datetime.now(UTC), max_bytes=self._max_event_bytes)
        await asyncio.gather(*(asyncio.wrap_future(future) for future in self._batcher.put(prepared)))
        return [item.published for item in prepared]

    def flush(self) -> None:
        """Send what lingers and wait for its confirmation. Raises the first `PublishError` since the last flush."""
        self._ready()
        self._batcher.flush()
        self._raise_failed()

    def close(self) -> None:
        """Flush and disconnect. A closed publisher publishes no more."""
        if self._closed:
            return
        self._ready()
        self._closed = True
        try:
            self._batcher.close()
            self._raise_failed()
        finally:
            with self._sending:
                self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _prepare(self, event: Publishable) -> Prepared:
        return prepare(event, now=datetime.now(UTC), max_bytes=self._max_event_bytes)

    def _linger(self, prepared: Prepared) -> None:
        self._raise_failed()
        self._batcher.wait_for_room(self._schedule.total_seconds)
        self._unconfirmed += self._batcher.put([prepared])

    def _send(self, batch: Sequence[Prepared]) -> None:
        if not self._sending.acquire(timeout=self._schedule.total_seconds):
            raise PublishError("another thread's hand-over did not end in time")
        try:
            for chunk in chunks(batch):
                send_with_retries(self._transport, chunk, self._schedule)
        finally:
            self._sending.release()

    def _raise_failed(self) -> None:
        """Raise once what no caller has awaited. Batches end in order, so the oldest are looked at only."""
        failed: list[BaseException] = []
        while self._unconfirmed and self._unconfirmed[0].done():
            error = self._unconfirmed.popleft().exception()
            if error is not None:
                failed.append(error)
        if failed:
            raise PublishError(f"{len(failed)} events were not sent: {failed[0]}") from failed[0]

    def _ready(self) -> None:
        """A forked child must not share the parent's socket, nor its lock that may be held for ever."""
        if self._closed:
            raise PublishError("the publisher is closed")
        if self._process != os.getpid():
            self._open()
