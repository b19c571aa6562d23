"""How many turns one process runs at once: as many as come, until its connections run out."""

import time
from collections.abc import Callable

CUT, RISE_PER_SECOND = 0.7, 1.0


class Room:
    """Cut when a turn finds no free connection, raised slowly after; without a cut there is no bound.

    Args:
        clock: seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._places: float | None = None
        self._cut_at = 0.0
        self._enough = 0

    def cut(self, running: int) -> None:
        """So many turns were too many."""
        self._places, self._cut_at, self._enough = max(1.0, running * CUT), self._clock(), running

    def is_full(self, running: int) -> bool:
        """Whether one more is too many now."""
        if self._places is None:
            return False
        places = self._places + RISE_PER_SECOND * (self._clock() - self._cut_at)
        if places > self._enough:
            self._places = None
        return running >= int(places)
