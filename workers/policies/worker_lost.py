"""Worker lost: an event that kills its worker again and again is given up."""

from dataclasses import dataclass

from schemas.outcome import DeadLettered, DeadReason, ErrorRecord, Outcome
from workers.policies.compose import Handler
from workers.policies.delivery import Delivery


@dataclass(frozen=True, slots=True)
class WorkerLostPolicy:
    """Dead-letters the event whose last `max_deaths` runs were never settled. A crash spends no attempt."""

    max_deaths: int = 3

    async def __call__(self, delivery: Delivery, call_next: Handler) -> Outcome:
        return self.judge(delivery) or await call_next(delivery)

    def judge(self, delivery: Delivery) -> Outcome | None:
        """The outcome without a run, or None to run it."""
        lost = delivery.deaths - 1  # this run is counted already
        if lost < self.max_deaths:
            return None
        record = ErrorRecord(kind="WorkerLost", message=f"{lost} workers began this event and did not come back")
        return DeadLettered(DeadReason.WORKER_LOST, record)
