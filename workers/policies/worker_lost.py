"""Worker lost: an event that kills its worker again and again is found out, alone, and given up."""

from dataclasses import dataclass
from typing import Protocol

from schemas.outcome import DeadLettered, DeadReason, ErrorRecord, Outcome
from workers.policies.compose import Handler
from workers.policies.delivery import Delivery

SUSPECT_AFTER = 2
"""Workers that have begun the event and did not come back. One may have died of anything."""

KEEPERS = 3
"""Workers that may be lost while they keep the event in quarantine: there it cannot be what they died of."""


class Quarantine(Protocol):
    """Runs a suspect where it can only hurt itself."""

    async def run_alone(self, delivery: Delivery) -> Outcome | None:
        """The outcome of its whole run: None when its process died of it, Parked when there was none to run it."""


@dataclass(frozen=True, slots=True)
class WorkerLostPolicy:
    """Runs a suspect in quarantine: an innocent event ends there as anywhere, a guilty one is given up. So is one that
    goes on losing the workers that keep it. Without a quarantine one more run is the last. A crash spends no attempt.
    """

    quarantine: Quarantine | None = None

    async def __call__(self, delivery: Delivery, call_next: Handler) -> Outcome:
        lost = _lost(delivery)
        if self.quarantine is None:
            judged = self.judge(delivery)
            return judged if judged is not None else await call_next(delivery)
        if lost < SUSPECT_AFTER:
            return await call_next(delivery)
        if lost >= SUSPECT_AFTER + KEEPERS:
            return _given_up(lost)
        outcome = await self.quarantine.run_alone(delivery)
        return outcome if outcome is not None else _given_up(lost, "; nor did the process of its quarantine")

    def judge(self, delivery: Delivery) -> Outcome | None:
        """The outcome without a run, or None to run it. Of a batch, which has no quarantine."""
        lost = _lost(delivery)
        return _given_up(lost) if lost > SUSPECT_AFTER else None


def _lost(delivery: Delivery) -> int:
    return delivery.deaths - 1  # this run is counted already


def _given_up(lost: int, more: str = "") -> DeadLettered:
    message = f"{lost} workers began this event and did not come back{more}"
    return DeadLettered(DeadReason.WORKER_LOST, ErrorRecord(kind="WorkerLost", message=message))
