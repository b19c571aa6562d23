"""Retry: what is done about each class of failure. The only place that decides it."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from schemas.errors import WorkersError
from schemas.outcome import (
    Cancelled,
    CancelReason,
    DeadLettered,
    DeadReason,
    ErrorRecord,
    Outcome,
    Parked,
    ParkReason,
    Released,
    ReleaseReason,
    Retry,
    RetryReason,
)
from workers.errors import (
    AuthenticationError,
    CallError,
    CancelRequestedError,
    DatabaseError,
    DeferredError,
    LeaseLostError,
    LimiterAwayError,
    LoopError,
    OverloadError,
    QuotaError,
    RateLimitedError,
    StateAwayError,
    TransientError,
)
from workers.policies.compose import Handler
from workers.policies.delivery import Delivery


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential delays with jitter: half of the interval is a floor, since full jitter may give next to nothing."""

    base: timedelta
    cap: timedelta
    random: Callable[[], float] = random.random

    def delay(self, attempt: int, at_least: timedelta | None = None) -> timedelta:
        """How long to wait after `attempt` (from 1) failed; never less than `at_least` (a Retry-After)."""
        interval: timedelta = min(self.cap, self.base * float(2 ** min(attempt - 1, 30)))
        jittered = interval / 2 + interval / 2 * self.random()
        return max(jittered, at_least + interval / 2 * self.random()) if at_least else jittered


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Turns a failure into an outcome: retry with backoff, wait without spending an attempt, or give up."""

    backoff: Backoff
    max_attempts: int
    wait: Backoff = Backoff(timedelta(seconds=1), timedelta(seconds=15))
    sign_in: Backoff = Backoff(timedelta(seconds=60), timedelta(seconds=60))

    async def __call__(self, delivery: Delivery, call_next: Handler) -> Outcome:
        try:
            return await call_next(delivery)
        except WorkersError as error:
            return self.decide(error, delivery)

    def decide(self, error: WorkersError, delivery: Delivery) -> Outcome:
        """The outcome of a failed run."""
        match error:
            case LeaseLostError():
                return Released(ReleaseReason.LEASE_LOST)
            case CancelRequestedError():
                return Cancelled(delivery.stop.reason or CancelReason.USER)
            case CallError() if (reason := _waits_for(error)) is not None:
                return Parked(reason, self.wait.delay(1, error.retry_after), error.record())
            case TransientError():
                return self._retry(error, delivery)
            case AuthenticationError():
                return Parked(ParkReason.AUTHENTICATION, self.sign_in.delay(1, error.retry_after), error.record())
            case QuotaError():
                return DeadLettered(DeadReason.QUOTA, error.record())
            case LoopError():
                return DeadLettered(DeadReason.LOOP, error.record())
            case _:
                return DeadLettered(DeadReason.PERMANENT, record_of(error))

    def _retry(self, error: CallError, delivery: Delivery) -> Outcome:
        if delivery.attempt >= self.max_attempts:
            return DeadLettered(DeadReason.ATTEMPTS_EXHAUSTED, error.record())
        return Retry(RetryReason.TRANSIENT, self.backoff.delay(delivery.attempt, error.retry_after), error.record())


WAITS: tuple[tuple[type[CallError], ParkReason], ...] = (
    (RateLimitedError, ParkReason.RATE_LIMIT),
    (DeferredError, ParkReason.RATE_LIMIT),
    (LimiterAwayError, ParkReason.LIMITER_AWAY),
    (OverloadError, ParkReason.OVERLOAD),
    (DatabaseError, ParkReason.DATABASE),
    (StateAwayError, ParkReason.STATE_AWAY),
)
"""The failures that spend no attempt, and what the event waits for."""


def _waits_for(error: CallError) -> ParkReason | None:
    return next((reason for kind, reason in WAITS if isinstance(error, kind)), None)


def record_of(error: BaseException) -> ErrorRecord:
    """What is kept of an error. Only our own errors have a message that surely holds no text of the conversation."""
    if isinstance(error, CallError):
        return error.record()
    return ErrorRecord(kind=type(error).__name__, message=str(error) if isinstance(error, WorkersError) else "")
