"""How an event ends, or goes on: the closed set of outcomes and the closed reasons of each."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class EventState(StrEnum):
    """Where an event is, as `GET /v1/events/{id}` says it."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING_RETRY = "waiting_retry"
    WAITING_LIMIT = "waiting_limit"
    DONE = "done"
    DROPPED = "dropped"
    CANCELLED = "cancelled"
    DEAD = "dead"

    @property
    def ended(self) -> bool:
        return self in ENDED_STATES


ENDED_STATES = frozenset({EventState.DONE, EventState.DROPPED, EventState.CANCELLED, EventState.DEAD})


class DropReason(StrEnum):
    """Why an event was not answered, on purpose."""

    EXPIRED = "expired"
    FILTERED = "filtered"
    SESSION_REVOKED = "session_revoked"
    SESSION_EXPIRED = "session_expired"


class CancelReason(StrEnum):
    """Who stopped it."""

    USER = "user"
    THREAD_DELETED = "thread_deleted"
    OPERATOR = "operator"
    INTERRUPTED = "interrupted"
    """By a later message of the conversation, which is answered instead."""
    ROLLED_BACK = "rolled_back"
    """Likewise, and what it has shown and was asked is taken back."""
    DISCONNECTED = "disconnected"
    """Nobody has read it any more, for longer than the deployment lets it run on."""


class RetryReason(StrEnum):
    """A failure that may pass; it spends an attempt."""

    TRANSIENT = "transient"
    AUTHENTICATION = "authentication"


class ParkReason(StrEnum):
    """What the event waits for; it spends no attempt."""

    RATE_LIMIT = "rate_limit"
    CIRCUIT_OPEN = "circuit_open"
    OVERLOAD = "overload"
    AUTHENTICATION = "authentication"
    RETRY_BUDGET = "retry_budget"
    LIMITER_AWAY = "limiter_away"
    DATABASE = "database"
    STATE_AWAY = "state_away"


class ReleaseReason(StrEnum):
    """Why a worker gave an event back at once."""

    SHUTDOWN = "shutdown"
    LEASE_LOST = "lease_lost"
    HANDOFF = "handoff"


class DeadReason(StrEnum):
    """Why an event is a dead letter."""

    INVALID = "invalid"
    PERMANENT = "permanent"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    WORKER_LOST = "worker_lost"
    QUOTA = "quota"
    AUTHENTICATION = "authentication"
    LOOP = "loop"
    OVERFLOW = "overflow"
    BUG = "bug"


Reason = DropReason | CancelReason | RetryReason | ParkReason | ReleaseReason | DeadReason


class ErrorRecord(BaseModel):
    """What is kept of an error: its class and a message without any of the conversation's text."""

    model_config = ConfigDict(frozen=True)

    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class Done:
    """The event was answered."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """Not answered, on purpose and visibly."""

    reason: DropReason


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Stopped; what was shown of the answer stays."""

    reason: CancelReason


@dataclass(frozen=True, slots=True)
class Retry:
    """Failed in a way that may pass: run it again after `delay`; the attempt is spent."""

    reason: RetryReason
    delay: timedelta
    error: ErrorRecord


@dataclass(frozen=True, slots=True)
class Parked:
    """Waits for something else (a limit, a sign-in) for about `delay`; no attempt is spent."""

    reason: ParkReason
    delay: timedelta
    error: ErrorRecord | None = None


@dataclass(frozen=True, slots=True)
class Released:
    """Given back unfinished, for another worker to take up at once; no attempt is spent.

    `queue`: the one that wakes it from now on; None: the same as before.
    """

    reason: ReleaseReason
    queue: str | None = None


@dataclass(frozen=True, slots=True)
class DeadLettered:
    """Given up, kept with its reason for an operator."""

    reason: DeadReason
    error: ErrorRecord | None = None


Outcome = Done | Dropped | Cancelled | Retry | Parked | Released | DeadLettered
