"""What follows once a run is settled: Sentry is told of a dead letter, a flood of them pauses its type, and what waits
for a sign-in is noted, alerted of, and woken by one."""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from schemas.outcome import DeadLettered, EventState, Outcome, Parked, ParkReason
from workers.dispatch import queue_of
from workers.lanes.connection import STATE_ERRORS
from workers.lanes.pauses import Paused, Pauses
from workers.lanes.ports import Waker
from workers.lanes.records import Owner
from workers.lanes.sign_ins import SignIns
from workers.policies.delivery import Delivery
from workers.telemetry.sentry import tell_of_dead_letter

log = logging.getLogger(__name__)

SESSION_START = "chatkit.session.start"
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
        sign_ins: of the deployment.
        waker: of what a sign-in lets go on.
        flood_ratio: dead share of what ended within a minute from which a type is paused; above 1: never.
        flood_least: dead letters from which the share means anything.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        pauses: Pauses,
        sign_ins: SignIns,
        waker: Waker,
        *,
        flood_ratio: float,
        flood_least: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pauses, self._sign_ins, self._waker, self._clock = pauses, sign_ins, waker, clock
        self._ratio, self._least = flood_ratio, flood_least
        self._windows: dict[str, _Window] = {}

    async def note(self, settled: Iterable[tuple[Delivery, Outcome, EventState]]) -> None:
        """Events have been settled; the state is what became of each."""
        refused: list[tuple[Delivery, str]] = []
        signed_in: set[Owner] = set()
        for delivery, outcome, state in settled:
            type_, dead = delivery.event.type, state is EventState.DEAD
            if dead and isinstance(outcome, DeadLettered):
                kind = outcome.error.kind if outcome.error else None
                tell_of_dead_letter(delivery.event.event_id, type_, outcome.reason, kind)
            if (dead or state is EventState.DONE) and self._is_flood(type_, dead=dead):
                await self._pause(type_)
            if isinstance(outcome, Parked) and outcome.reason is ParkReason.AUTHENTICATION:
                refused.append((delivery, queue_of(delivery.event)))
            elif type_ == SESSION_START:
                signed_in.add(Owner(delivery.event.tenant, delivery.event.userid))
        await self._see_to_sign_ins(refused, signed_in)

    async def _see_to_sign_ins(self, refused: Sequence[tuple[Delivery, str]], signed_in: Collection[Owner]) -> None:
        """Fails open: the alarms of those that wait stand behind it."""
        try:
            if refused and await self._sign_ins.wait(refused):
                event = refused[0][0].event
                log.error("sign_in_refused", extra={"event_id": event.event_id, "tenant": event.tenant})
            if signed_in:
                await self._waker.wake(await self._sign_ins.signed_in(signed_in))
        except STATE_ERRORS as error:
            log.warning("sign_ins_not_seen_to", extra={"error": type(error).__name__})

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
