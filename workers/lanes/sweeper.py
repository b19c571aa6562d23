"""The sweeper: looks after lanes whose alarm rings. Due retries, lost wake-ups and dead workers are one mechanism."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from workers.lanes.connection import STATE_ERRORS
from workers.lanes.lanes import Lanes
from workers.lanes.records import Wake

log = logging.getLogger(__name__)

INTERVAL = timedelta(seconds=0.1)
"""Between two sweeps of the whole deployment, whatever the number of workers."""

DEADLINE = timedelta(seconds=10)

PAUSE_AFTER_FAILURE = timedelta(seconds=1)


class Sweeper:
    """Every worker runs one. Each sweeps as many times less often as there are workers, with jitter."""

    def __init__(
        self,
        lanes: Lanes,
        wake: Callable[[Sequence[Wake]], Awaitable[None]],
        live_workers: Callable[[], int],
        *,
        also: Callable[[], Awaitable[None]] | None = None,
        random: Callable[[], float] = random.random,
    ) -> None:
        """`also` is called with every sweep: the limits hand out what has become free."""
        self._lanes, self._wake = lanes, wake
        self._live_workers = live_workers
        self._also, self._random = also, random

    @property
    def pause(self) -> timedelta:
        """Until this worker's next sweep; half as much more or less, so that the workers spread."""
        return INTERVAL * max(1, self._live_workers()) * (0.5 + self._random())

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await asyncio.sleep(self.pause.total_seconds())
            try:
                async with asyncio.timeout(DEADLINE.total_seconds()):
                    await self.sweep()
            except STATE_ERRORS as error:
                # The alarms stay as they are: what was missed rings at the next sweep.
                log.warning("sweep_failed", extra={"error": type(error).__name__})
                await asyncio.sleep(PAUSE_AFTER_FAILURE.total_seconds())

    async def sweep(self) -> None:
        """Sweep once, and send the wake-ups."""
        wakes = await self._lanes.sweep()
        if wakes:
            await self._wake(wakes)
        if self._also is not None:
            await self._also()
