"""What a waiting event is told: its place in line, and about how long."""

from contextlib import suppress

from schemas.outcome import EventState
from schemas.records import EventStatus
from workers.lanes.connection import STATE_ERRORS
from workers.limits.limiter import Limiter
from workers.policies.rate_limit import InLine

WORDS = {
    "rate_limit": "Number {place} in line, about {seconds} s",
    "circuit_open": "The assistant is not available at the moment; number {place} in line",
    "retry_budget": "Trying again soon",
}


async def in_line(status: EventStatus, limiter: Limiter) -> EventStatus:
    """The status with place and time in the line of its model, if it stands in one; else its place in its lane."""
    waits = await _place(status.id, limiter) if status.state is EventState.WAITING_LIMIT else None
    if waits is None:
        return status
    changes = {"place": waits.place, "eta_seconds": round(waits.eta.total_seconds(), 1), "reason": waits.reason}
    return status.model_copy(update=changes)


async def said_to_user(event_id: str, limiter: Limiter) -> str | None:
    """What its user is told while it stands in line; None when it does not."""
    waits = await _place(event_id, limiter)
    return WORDS[waits.reason].format(place=waits.place, seconds=round(waits.eta.total_seconds())) if waits else None


class PlaceInThread:
    """The place of the turn that a follower of a thread reads."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._event_id: str | None = None

    def at(self, event_id: str | None) -> None:
        """The follower reads this one from now on; None: it waits for the next."""
        self._event_id = event_id

    async def said_to_user(self) -> str | None:
        """As of an event; None between two turns."""
        return None if self._event_id is None else await said_to_user(self._event_id, self._limiter)


async def _place(event_id: str, limiter: Limiter) -> InLine | None:
    """Fails open: a place is a kindness, and the limits may be away while the event's own shard answers."""
    try:
        [waits] = await limiter.places([event_id])
    except STATE_ERRORS:
        return None
    return waits


async def forget(event_id: str, limiter: Limiter) -> None:
    """Take an event that was stopped out of the line. Fails open: its grant would find it gone."""
    with suppress(*STATE_ERRORS):
        await limiter.leave([event_id])
