"""What follows once a run is settled: Sentry is told of a dead letter, a flood of them pauses its type, a quota that is
used up is alerted of, what waits for a sign-in is noted, alerted of, and woken by one, and what has ended in line for a
limit leaves it."""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from schemas.outcome import DeadLettered, DeadReason, EventState, Outcome, Parked, ParkReason
from schemas.records import DeadLetter
from workers.lanes.connection import STATE_ERRORS
from workers.lanes.floods import FLOODING, Floods
from workers.lanes.pauses import Paused, Pauses
from workers.lanes.ports import Waker
from workers.lanes.records import Owner
from workers.lanes.sign_ins import SignIns
from workers.policies.delivery import Delivery
from workers.telemetry.sentry import tell_of_dead_letter

log = logging.getLogger(__name__)

SESSION_START = "chatkit.session.start"
TOLD_A_MINUTE = 10
"""Of what never parsed: whoever reaches a way in can send any number of it."""

ALERT_EVERY = timedelta(minutes=10)


@dataclass(slots=True)
class _Allowance:
    """So many a span of time, in this process."""

    most: int
    span: timedelta
    clock: Callable[[], float]
    began: float = float("-inf")
    taken: int = 0

    def take(self) -> bool:
        """Whether one more is within it."""
        now = self.clock()
        if now - self.began >= self.span.total_seconds():
            self.began, self.taken = now, 0
        self.taken += 1
        return self.taken <= self.most


class Ends:
    """Acts on what this process settles.

    Args:
        pauses: of the deployment.
        floods: of the deployment.
        sign_ins: of the deployment.
        waker: of what a sign-in lets go on.
        flood_ratio: dead share of what ended within a minute from which a type is paused; above 1: never.
        flood_least: dead letters from which the share means anything.
        leave_line: takes turns out of the line of the limits; does not wait, and fails open.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        pauses: Pauses,
        floods: Floods,
        sign_ins: SignIns,
        waker: Waker,
        *,
        flood_ratio: float,
        flood_least: int,
        leave_line: Callable[[Sequence[str]], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pauses, self._floods, self._sign_ins, self._waker = pauses, floods, sign_ins, waker
        self._leave_line = leave_line
        self._ratio, self._least = flood_ratio, flood_least
        self._quota_alerts = _Allowance(1, ALERT_EVERY, clock)
        self._invalid_told = _Allowance(TOLD_A_MINUTE, timedelta(minutes=1), clock)

    async def note(self, settled: Iterable[tuple[Delivery, Outcome, EventState]]) -> None:
        """Events have been settled; the state is what became of each."""
        refused: list[Delivery] = []
        signed_in: set[Owner] = set()
        dying: set[str] = set()
        left: list[str] = []
        for delivery, outcome, state in settled:
            type_ = delivery.event.type
            if state is EventState.DEAD and isinstance(outcome, DeadLettered):
                kind = outcome.error.kind if outcome.error else None
                tell_of_dead_letter(delivery.event.event_id, type_, outcome.reason, kind, delivery.event.tenant)
                dying |= {type_} if outcome.reason in FLOODING else set()
                if outcome.reason is DeadReason.QUOTA and self._quota_alerts.take():
                    log.error("quota_refused", extra={"event_id": delivery.event.event_id, "kind": kind})
            if state.ended and _may_stand_in_line(delivery, outcome):
                left.append(delivery.event.event_id)
            if isinstance(outcome, Parked) and outcome.reason is ParkReason.AUTHENTICATION:
                refused.append(delivery)
            elif type_ == SESSION_START:
                signed_in.add(Owner(delivery.event.tenant, delivery.event.userid))
        self._leave_line(left)
        for type_ in dying:
            await self._guard(type_)
        await self._see_to_sign_ins(refused, signed_in)

    def buried(self, letters: Sequence[DeadLetter]) -> None:
        """Letters of what never became an event are kept: Sentry is told of each, of what never parsed now and then."""
        for letter in letters:
            if letter.reason is not DeadReason.INVALID or self._invalid_told.take():
                kind = (letter.error or "").partition(":")[0] if letter.reason is DeadReason.BUG else None
                tell_of_dead_letter(letter.id, letter.type or "none", letter.reason, kind, letter.tenant)

    async def _see_to_sign_ins(self, refused: Sequence[Delivery], signed_in: Collection[Owner]) -> None:
        """Fails open: the alarms of those that wait stand behind it."""
        try:
            if refused and await self._sign_ins.wait(refused):
                event = refused[0].event
                log.error("sign_in_refused", extra={"event_id": event.event_id, "tenant": event.tenant})
            owners = {Owner(delivery.event.tenant, delivery.event.userid) for delivery in refused}
            wakes = await self._sign_ins.missed(owners) if owners else []
            wakes += await self._sign_ins.signed_in(signed_in) if signed_in else []
            if wakes:
                await self._waker.wake(wakes)
        except STATE_ERRORS as error:
            log.warning("sign_ins_not_seen_to", extra={"error": type(error).__name__})

    async def _guard(self, type_: str) -> None:
        """Pause a type of which too much goes dead. Fails open: its next dead letter is looked at again."""
        try:
            share = await self._floods.share(type_)
            flood = share.dead >= self._least and share.dead >= self._ratio * share.ended
            if flood and await self._pauses.pause(Paused("type", type_)):
                # an error is an alert: Sentry is told, and whoever reads the log; by the one process that was first
                resume = f"chatkit-workers resume --type {type_}"
                log.error("type_paused_by_flood_guard", extra={"type": type_, "dead": share.dead, "resume": resume})
        except STATE_ERRORS as error:
            log.warning("flood_not_guarded", extra={"type": type_, "error": type(error).__name__})


def _may_stand_in_line(delivery: Delivery, outcome: Outcome) -> bool:
    """Whether a turn has ended without what it needs to run (dropped, say), or was stopped as it went to wait."""
    return delivery.event.needs_turn and (delivery.use.model is None or isinstance(outcome, Parked))
