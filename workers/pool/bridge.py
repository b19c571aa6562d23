"""Between a synchronous task body, in its greenlet, and the event loop."""

import asyncio
from collections.abc import Coroutine
from contextvars import ContextVar
from enum import StrEnum
from typing import Any, TypeVar

from celery.exceptions import Reject, SoftTimeLimitExceeded
from sqlalchemy.util import await_only

T = TypeVar("T")


class StopCause(StrEnum):
    """Why the pool stops a job. It is the message of the `CancelledError` that the coroutine sees."""

    SOFT_TIME_LIMIT = "soft_time_limit"
    HARD_TIME_LIMIT = "hard_time_limit"
    TERMINATED = "terminated"
    """Revoked with terminate, connection to the broker lost, or cold shutdown: Celery has reported it already."""
    DRAIN = "drain"
    """The worker shuts down and its drain time is over."""


class DrainTimeout(Reject):  # type: ignore[misc]  # Celery has no types
    """The worker shuts down and this job did not end in time.

    A body that lets it through gives its message back, when that is not acknowledged yet (`acks_late`); a message
    that was acknowledged early is gone, so whoever owns the work has to give it back while it handles the
    `CancelledError` (a turn releases its event).
    """

    def __init__(self) -> None:
        super().__init__("the worker shuts down", requeue=True)


class Stop:
    """The state of one job that its coroutines may ask for."""

    __slots__ = ("cause", "soft_seconds")

    def __init__(self, soft_seconds: float | None = None) -> None:
        self.cause: StopCause | None = None
        self.soft_seconds = soft_seconds


current_stop: ContextVar[Stop | None] = ContextVar("current_stop", default=None)


def stop_cause() -> StopCause | None:
    """Why the job that this code belongs to is being stopped; None while it may run on.

    Works in the body, in its coroutine and in every asyncio task that was started from there.
    """
    stop = current_stop.get()
    return stop.cause if stop is not None else None


def run_coroutine(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine from a task body on the pool's loop, and wait for it without holding the loop.

    `task.request` is right in the body, not inside the coroutine (Celery keys it by greenlet): read it first.
    When the pool stops the job, the coroutine gets one `asyncio.CancelledError` whose message is the `StopCause`,
    and a bounded time to let go of what it holds; the body then sees what Celery's prefork pool would raise.

    Raises:
        celery.exceptions.SoftTimeLimitExceeded: the soft time limit passed. The body may go on and await again.
        DrainTimeout: the worker shuts down. The body may await again, for a few seconds.
        asyncio.CancelledError: the job was terminated or met its hard time limit; nothing the body does is reported.
    """
    try:
        return await_only(coroutine)
    except asyncio.CancelledError:
        stop = current_stop.get()
        match stop.cause if stop is not None else None:
            case StopCause.SOFT_TIME_LIMIT:
                _consume_cancellation()
                raise SoftTimeLimitExceeded(stop.soft_seconds if stop else None) from None
            case StopCause.DRAIN:
                _consume_cancellation()
                raise DrainTimeout from None
            case _:
                raise


def _consume_cancellation() -> None:
    """The request to cancel became an exception: `asyncio.timeout` and task groups must not count it any more."""
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
