"""What the lanes ask of the broker."""

from collections.abc import Sequence
from typing import Protocol

from workers.lanes.records import Wake


class Waker(Protocol):
    """Tells some worker that lanes have work."""

    async def wake(self, wakes: Sequence[Wake]) -> None: ...
