"""The usher: a turn that has to wait for a limit is shown its place when it is accepted; no worker is woken for it.

A flood of one tenant would else stand in the broker, wake-up behind wake-up, and everybody's behind them, though all
that comes of most is a place in line.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from schemas.events import Event
from workers.lanes.connection import STATE_ERRORS
from workers.lanes.records import Seat, Wake
from workers.limits.limiter import Limiter
from workers.limits.models import Models
from workers.policies.rate_limit import InLine, parked_in_line

log = logging.getLogger(__name__)


class SeatingLanes(Protocol):
    """The part of `Lanes` that an usher uses."""

    async def seat(self, seats: Sequence[Seat]) -> list[bool]: ...


class Usher:
    """Looks at the heads of lanes that were just accepted."""

    def __init__(
        self,
        limiter: Limiter,
        lanes: SeatingLanes,
        *,
        models: Models,
        passes: Callable[[Event], bool],
        patience: Callable[[Event], timedelta | None],
        now: Callable[[], datetime],
    ) -> None:
        """`passes`: whether an event is processed at all; what is not meets no limit. `patience`: how long an event of
        its type may wait from its acceptance on; None: for ever. `now` is for those that expire."""
        self._limiter, self._lanes, self._models = limiter, lanes, models
        self._passes, self._patience, self._now = passes, patience, now

    async def to_wake(self, heads: Sequence[tuple[Event, Wake]]) -> list[Wake]:
        """Of turns, each with the wake-up that its acceptance asks for, those to be woken now, in order. A wake-up of
        another event, which a worker has to end first, is sent as it is. Fails open: a worker that begins one asks as
        well."""
        asked = [(event, wake) for event, wake in heads if wake.event_id == event.event_id and self._passes(event)]
        asks = [self._models.ask_of(event, wake.lane, wake.queue) for event, wake in asked]
        try:
            places = await self._limiter.usher(asks) if asks else []
            seats = [self._seat(*head, place) for head, place in zip(asked, places, strict=True) if place is not None]
            waits = await self._lanes.seat(seats) if seats else []
        except STATE_ERRORS as error:
            log.warning("nobody_ushered", extra={"count": len(asks), "error": type(error).__name__})
            return [wake for _, wake in heads]
        seated = {seat.event_id for seat, does in zip(seats, waits, strict=True) if does}
        return [wake for event, wake in heads if event.event_id not in seated]

    def _seat(self, event: Event, wake: Wake, place: InLine) -> Seat:
        """It waits as one that a worker has parked, and no longer than until its deadline."""
        parked, patience = parked_in_line(place), self._patience(event)
        delay = parked.delay if patience is None else min(parked.delay, patience)
        if event.expirytime is not None:
            delay = max(timedelta(0), min(delay, event.expirytime - self._now()))
        return Seat(wake.lane, event.event_id, delay, parked.reason)
