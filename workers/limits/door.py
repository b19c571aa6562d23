"""The door: how many events a user may send a minute, before any of them is taken into the queue."""

import hashlib
from datetime import timedelta

from workers.lanes.connection import State
from workers.lanes.keys import Keys
from workers.lanes.records import Owner
from workers.lanes.scripts import Call, Clock, ScriptRunner, script
from workers.limits.limiter import PACKAGE


class Door:
    """One round trip per request, to one number per user."""

    def __init__(self, state: State, keys: Keys, per_minute: int, *, clock: Clock | None = None) -> None:
        """`per_minute`: 0 lets everybody in. `clock` is for tests; without one the time is that of Redis."""
        self._scripts, self._tag = ScriptRunner(state), keys.limits
        self._per_minute, self._clock = per_minute, clock

    async def admit(self, owner: Owner, count: int = 1) -> timedelta | None:
        """Let a user's events in; else in what time they would be."""
        if self._per_minute == 0 or count == 0:
            return None
        whose = hashlib.sha256(f"{owner.tenant}\n{owner.user}".encode()).hexdigest()[:24]
        now = "" if self._clock is None else self._clock()
        call = Call(script("door", PACKAGE), self._tag, [now, whose, count, self._per_minute])
        [wait_ms] = await self._scripts.run([call])
        return timedelta(milliseconds=int(wait_ms)) if wait_ms else None
