"""Celery's sender of events for Flower, which never holds the worker's main thread up."""

import time
from collections import deque
from typing import Any

from celery.events.dispatcher import EventDispatcher

PAUSE_SECONDS = 3.0
KEPT = 1_000


class BriefDispatcher(EventDispatcher):  # type: ignore[misc]  # Celery has no types
    """Tries each event once. While the broker is away, events are kept without a try, the newest thousand of them.

    Celery sends the worker's heartbeats with endless retries, in the thread that consumes: a broker that went away
    would hang it there, deaf to SIGTERM and to the loss of its own connection.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._outbound_buffer: deque[Any] = deque(maxlen=KEPT)
        self._away_until = 0.0

    def _publish(self, event: Any, producer: Any, routing_key: str, **_: Any) -> None:
        if producer is None:
            return
        if time.monotonic() >= self._away_until:
            super()._publish(event, producer, routing_key)
            if self._outbound_buffer and self._outbound_buffer[-1][0] is event:  # all that Celery says of a failure
                self._away_until = time.monotonic() + PAUSE_SECONDS
        elif self.buffer_while_offline:
            self._outbound_buffer.append((event, routing_key))
