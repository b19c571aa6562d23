"""Sending together what concurrent callers hand over: one thread, one batch in flight, order kept."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from workers.errors import PublishError
from workers.publisher.prepare import Prepared

MAX_WAITING = 10_000

Waiting = tuple[Prepared, "Future[None]"]


class Batcher:
    """A thread that takes everything that waits and sends it as one batch, a batch at most `linger_seconds` old.

    After a failure everything that waited behind it fails too: sending it could overtake the failed events of the
    same threads. Errors that no caller awaits are kept for the next `flush`.
    """

    def __init__(self, send: Callable[[Sequence[Prepared]], None], *, linger_seconds: float, max_batch: int) -> None:
        self._send = send
        self._linger_seconds, self._max_batch = linger_seconds, max_batch
        self._waiting: deque[Waiting] = deque()
        self._changed = threading.Condition()
        self._in_flight = 0
        self._flushing = self._closed = False
        self._thread: threading.Thread | None = None

    def put(self, items: Sequence[Prepared]) -> "list[Future[None]]":
        """Hand events over; their futures end when the broker has them. Raises `PublishError` once closed."""
        futures: list[Future[None]] = [Future() for _ in items]
        with self._changed:
            if self._closed:
                raise PublishError("the publisher is closed")
            self._waiting.extend(zip(items, futures, strict=True))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return futures

    def wait_for_room(self, timeout_seconds: float) -> None:
        """Wait until fewer than 10,000 events wait. Raises `PublishError` after the time-out."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._waiting) < MAX_WAITING, timeout_seconds):
                raise PublishError(f"{MAX_WAITING} events are waiting to be sent")

    def flush(self) -> None:
        """Send now, and wait until nothing waits any more; each batch's own time-out bounds it."""
        with self._changed:
            self._flushing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._waiting and not self._in_flight)
            self._flushing = False

    def close(self) -> None:
        """Flush, and end the thread."""
        self.flush()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while batch := self._take():
            try:
                self._send([item for item, _ in batch])
            except Exception as error:  # noqa: BLE001  # whatever it is, it belongs to the callers, not to this thread
                self._end(batch, error)
            else:
                self._end(batch, None)

    def _take(self) -> list[Waiting]:
        """The next batch; empty when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            until = time.monotonic() + self._linger_seconds
            self._changed.wait_for(self._full, max(0.0, until - time.monotonic()))
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._max_batch))]
            self._in_flight = len(batch)
            return batch

    def _full(self) -> bool:
        return len(self._waiting) >= self._max_batch or self._flushing or self._closed

    def _end(self, batch: list[Waiting], error: Exception | None) -> None:
        with self._changed:
            if error is not None:
                batch += self._waiting
                self._waiting.clear()
            for _, future in batch:
                if not future.set_running_or_notify_cancel():
                    continue
                if error is None:
                    future.set_result(None)
                else:
                    future.set_exception(error)
            self._in_flight = 0
            self._changed.notify_all()
