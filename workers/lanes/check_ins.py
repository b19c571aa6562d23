"""Signs of life to whoever watches from outside: once a minute in a deployment, however many workers it has."""

import time
from collections.abc import Callable
from datetime import timedelta

from workers.lanes.connection import State
from workers.lanes.keys import Keys

EVERY = timedelta(minutes=1)
ASK_EVERY = timedelta(seconds=5)
"""How often each process looks whether it is its turn: whoever told last may be gone."""


class CheckIns:
    """The sweeper's, as one process knows of them."""

    def __init__(
        self, state: State, keys: Keys, tell: Callable[[], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._state, self._key, self._tell, self._clock = state, keys.check_in, tell, clock
        self._next = clock()

    async def done(self) -> None:
        """The work was done once."""
        if self._clock() < self._next:
            return
        self._next = self._clock() + ASK_EVERY.total_seconds()
        if await self._state.set(self._key, 1, nx=True, px=EVERY):
            self._tell()
