"""Celery's consumer, prompt after an outage of the broker."""

import random
from collections.abc import Callable
from functools import partial
from typing import Any

from celery.utils.threads import bound_open_broker_sockets
from celery.worker.consumer import Consumer

FIRST_SECONDS = 0.2
MOST_SECONDS = 1.5
GOODBYE_SECONDS = 0.5


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

    def on_connection_error_after_connected(self, exc: BaseException) -> None:
        self._bound_dispatcher()
        super().on_connection_error_after_connected(exc)

    def shutdown(self) -> None:
        self._bound_dispatcher()
        super().shutdown()

    def _bound_dispatcher(self) -> None:
        """Celery says goodbye on the connection that Flower's events go over, and waits for the answer. It bounds this
        on its other connection only: a RabbitMQ that has fallen silent would be waited for until the end of time."""
        dispatcher = getattr(self, "event_dispatcher", None)
        if dispatcher is not None and dispatcher.connection is not None:
            bound_open_broker_sockets(dispatcher.connection, GOODBYE_SECONDS)
