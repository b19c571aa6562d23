"""What follows when events have ended: Sentry is told of a dead letter, and a flood of them pauses its type."""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from schemas.outcome import DeadLettered, EventState, Outcome
from workers.lanes.connection import STATE_ERRORS
from workers.lanes.pauses import Paused, Pauses
from workers.policies.delivery import Delivery
from workers.telemetry.sentry import tell_of_dead_letter

log = logging.getLogger(__name__)

WINDOW_SECONDS = 60.0


@dataclass(slots=True)
class _Window:
    """What ended of one type since a moment."""

    began: float
    ended: int = 0
    dead: int = 0


class Ends:
    """Counts what this process settles.

    Args:
        pauses: of the deployment.
        flood_ratio: dead share of what ended within a minute from which a type is paused; above 1: never.
        flood_least: dead letters from which the share means anything.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        pauses: Pauses,
        *,
        flood_ratio: float,
        flood_least: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pauses, self._clock = pauses, clock
        self._ratio, self._least = flood_ratio, flood_least
        self._windows: dict[str, _Window] = {}

    async def note(self, settled: Iterable[tuple[Delivery, Outcome, EventState]]) -> None:
        """Events have been settled; the state is what became of each."""
        for delivery, outcome, state in settled:
            type_, dead = delivery.event.type, state is EventState.DEAD
            if dead and isinstance(outcome, DeadLettered):
                kind = outcome.error.kind if outcome.error else None
                tell_of_dead_letter(delivery.event.event_id, type_, outcome.reason, kind)
            if (dead or state is EventState.DONE) and self._is_flood(type_, dead=dead):
                await self._pause(type_)

    def _is_flood(self, type_: str, *, dead: bool) -> bool:
        now = self._clock()
        window = self._windows.get(type_)
        if window is None or now - window.began > WINDOW_SECONDS:
            window = self._windows[type_] = _Window(now)
        window.ended += 1
        window.dead += dead
        flood = dead and window.dead >= self._least and window.dead >= self._ratio * window.ended
        if flood:
            del self._windows[type_]  # counted anew once it is resumed
        return flood

    async def _pause(self, type_: str) -> None:
        # an error is an alert: Sentry is told, and whoever reads the log
        log.error(
            "type_paused_by_flood_guard", extra={"type": type_, "resume": f"chatkit-workers resume --type {type_}"}
        )
        try:
            await self._pauses.pause(Paused("type", type_))
        except STATE_ERRORS as error:
            log.warning("type_not_paused", extra={"type": type_, "error": type(error).__name__})
