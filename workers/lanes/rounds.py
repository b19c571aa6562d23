"""Rounds: what one worker or another does all the time, such as sweeping the lanes, or handing out what became free."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta

from workers.lanes.connection import STATE_ERRORS

log = logging.getLogger(__name__)

INTERVAL = timedelta(seconds=0.1)
"""Between two rounds of the whole deployment, whatever the number of workers."""

DEADLINE = timedelta(seconds=10)

PAUSE_AFTER_FAILURE = timedelta(seconds=1)


class Rounds:
    """Every worker runs its own, as many times less often as there are workers, with jitter.

    Each kind of work has a loop of its own: a node of the state that hangs holds up what is on it and nothing else.
    """

    def __init__(
        self,
        work: Callable[[], Awaitable[None]],
        live_workers: Callable[[], int],
        *,
        failure: str,
        random: Callable[[], float] = random.random,
    ) -> None:
        """`failure` is what a round that failed is logged as."""
        self._work, self._live_workers = work, live_workers
        self._failure, self._random = failure, random

    @property
    def pause(self) -> timedelta:
        """Until this worker's next round; half as much more or less, so that the workers spread."""
        return INTERVAL * max(1, self._live_workers()) * (0.5 + self._random())

    async def run(self) -> None:
        """Make rounds until cancelled."""
        while True:
            await asyncio.sleep(self.pause.total_seconds())
            try:
                async with asyncio.timeout(DEADLINE.total_seconds()):
                    await self._work()
            except STATE_ERRORS as error:
                # Whatever was missed is still there in the next round.
                log.warning(self._failure, extra={"error": type(error).__name__})
                await asyncio.sleep(PAUSE_AFTER_FAILURE.total_seconds())
