"""Waiting for a state that is away, at growing intervals, so that its return is noticed soon and met by no herd."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from workers.cancellation import raise_if_cancelled
from workers.lanes.connection import STATE_ERRORS
from workers.redis_errors import may_pass

log = logging.getLogger(__name__)

MIN_PAUSE_SECONDS = 0.05
MAX_PAUSE_SECONDS = 1.0

T = TypeVar("T")


async def persistently(
    call: Callable[[], Awaitable[T]],
    *,
    told: str,
    within: timedelta | None = None,
    errors: tuple[type[Exception], ...] = STATE_ERRORS,
) -> T:
    """Call again while the state is away. What is called must be safe to be called twice.

    Args:
        call: what to call.
        told: the log event of each failure.
        within: how long; None: until the state is back, or the caller is cancelled.
        errors: what means that it is away.

    Raises:
        one of `errors`: the last one, when the time is up; at once one that does not pass by itself.
    """
    now = asyncio.get_running_loop().time
    deadline = now() + within.total_seconds() if within is not None else float("inf")
    pause = MIN_PAUSE_SECONDS
    while True:
        try:
            return await call()
        except errors as error:
            raise_if_cancelled()
            if now() + pause >= deadline or not may_pass(error):
                raise
            log.warning(told, extra={"reason": "state_away", "error": type(error).__name__})
        await asyncio.sleep(pause * (0.5 + random.random()))  # noqa: S311  # jitter
        pause = min(MAX_PAUSE_SECONDS, pause * 2)
