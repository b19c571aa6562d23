"""Deadline: a stale event is dropped visibly, not answered."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from schemas.outcome import DeadLettered, DeadReason, Dropped, DropReason, Outcome, Parked, ParkReason, Retry
from workers.policies.compose import Handler
from workers.policies.delivery import Delivery

LAST_LOOK = timedelta(seconds=5)
"""Before the deadline of what waits for credentials: an alarm may ring late, and a stale event would be dropped."""


@dataclass(frozen=True, slots=True)
class DeadlinePolicy:
    """Drops an event whose deadline has passed when its turn comes: its `expirytime`, else `default` after acceptance.
    Of a redriven event the default counts alone, from the redrive: its `expirytime` belongs to its first life.

    What waits (for a limit, for its next attempt) waits no longer than its deadline, when it is dropped. What waits for
    credentials that nobody gives is no stale event but a dead letter: an operator has to act. It is looked at a last
    time just before its deadline.
    """

    now: Callable[[], datetime]
    default: timedelta | None = None

    async def __call__(self, delivery: Delivery, call_next: Handler) -> Outcome:
        judged = self.judge(delivery)
        return judged if judged is not None else self._bounded(await call_next(delivery), delivery)

    def judge(self, delivery: Delivery) -> Outcome | None:
        """The outcome without a run, or None to run it."""
        deadline = self._deadline(delivery)
        return Dropped(DropReason.EXPIRED) if deadline is not None and deadline <= self.now() else None

    def _bounded(self, outcome: Outcome, delivery: Delivery) -> Outcome:
        deadline = self._deadline(delivery)
        if deadline is None or not isinstance(outcome, Retry | Parked):
            return outcome
        left = max(deadline - self.now(), timedelta(0))
        if outcome.reason is ParkReason.AUTHENTICATION:
            left -= LAST_LOOK
            if left <= timedelta(0):
                return DeadLettered(DeadReason.AUTHENTICATION, outcome.error)
        return outcome if outcome.delay <= left else replace(outcome, delay=left)

    def _deadline(self, delivery: Delivery) -> datetime | None:
        if delivery.event.expirytime is not None and not delivery.redriven:
            return delivery.event.expirytime
        return None if self.default is None else delivery.accepted_at + self.default
