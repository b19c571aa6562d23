"""Celery's consumer, prompt after an outage of the broker."""

import random
from collections.abc import Callable
from functools import partial
from typing import Any

from celery.worker.consumer import Consumer

FIRST_SECONDS = 0.2
MOST_SECONDS = 1.5


class PromptConsumer(Consumer):  # type: ignore[misc]  # Celery has no types
    """Tries to connect again about once a second, for as long as the outage lasts.

    Celery waits 2, 4, … 30 s between two tries, which no setting changes: after an outage of a minute a worker would
    consume nothing for up to half a minute more.
    """

    def ensure_connected(self, conn: Any) -> Any:
        jitter = 0.5 + 0.5 * random.random()  # noqa: S311  # workers that lost the same broker must not come together
        ensure = partial(
            conn.ensure_connection,
            interval_start=FIRST_SECONDS * jitter,
            interval_step=FIRST_SECONDS * jitter,
            interval_max=MOST_SECONDS * jitter,
        )

        def ensure_alive(*args: Any, callback: Callable[[], None], **options: Any) -> Any:
            def each_try() -> None:
                self.pool.beat()
                callback()

            return ensure(*args, callback=each_try, **options)

        conn.ensure_connection = ensure_alive
        return super().ensure_connected(conn)
