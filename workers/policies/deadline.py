"""Deadline: a stale event is dropped visibly, not answered."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from schemas.events import is_stale
from schemas.outcome import Dropped, DropReason, Outcome
from workers.policies.compose import Handler
from workers.policies.delivery import Delivery


@dataclass(frozen=True, slots=True)
class DeadlinePolicy:
    """Drops an event whose `expirytime` has passed when its turn comes."""

    now: Callable[[], datetime]

    async def __call__(self, delivery: Delivery, call_next: Handler) -> Outcome:
        return self.judge(delivery) or await call_next(delivery)

    def judge(self, delivery: Delivery) -> Outcome | None:
        """The outcome without a run, or None to run it, or to end it: what a stopped event has shown is not dropped."""
        stopped = delivery.stop.reason is not None
        return Dropped(DropReason.EXPIRED) if not stopped and is_stale(delivery.event, self.now()) else None
