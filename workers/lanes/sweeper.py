"""The sweeper: looks after lanes whose alarm rings. Due retries, lost wake-ups and dead workers are one mechanism."""

from collections.abc import Awaitable, Callable, Sequence

from workers.lanes.lanes import Lanes
from workers.lanes.records import Wake


class Sweeper:
    """Every worker has one, and makes its rounds (`Rounds`)."""

    def __init__(
        self,
        lanes: Lanes,
        wake: Callable[[Sequence[Wake]], Awaitable[None]],
        swept: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`swept` is awaited after each round that came to its end."""
        self._lanes, self._wake, self._swept = lanes, wake, swept

    async def sweep(self) -> None:
        """Sweep once, and send the wake-ups. Alarms stay as they are if that fails, and ring again."""
        wakes = await self._lanes.sweep()
        if wakes:
            await self._wake(wakes)
        if self._swept is not None:
            await self._swept()
