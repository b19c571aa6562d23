"""What goes wrong while an event runs. Foreign errors are mapped to this tree once, where they enter.

schemas.errors.WorkersError
├── SettingsError            a setting that stops start-up
├── PublishError             a publisher could not hand an event over
├── LeaseLostError           another worker holds the lane now: stop, write nothing
├── CancelRequestedError     the user stopped the turn
├── HandedOverError          a handoff goes on in another queue: stop here, go on there from the journal
├── NotFoundError            no such thread, item, event (or it belongs to somebody else)
├── CallError                a model or a service behind us failed
│   ├── TransientError       time-out, connection, 408, 409, 5xx: retry with backoff
│   ├── OverloadError        our own pool is exhausted: wait, spend no attempt
│   ├── RateLimitedError     429: park until `retry_after`
│   ├── DeferredError        our own limits leave no room for the next call of a turn: park, go on from there
│   ├── QuotaError           insufficient quota, 403: an operator has to act
│   ├── AuthenticationError  401: park, ask to sign in again
│   ├── PermanentError       400, 404, 422, refusal, guardrail: no retry
│   ├── LimiterAwayError     the limits cannot be asked: no model is called
│   └── DatabaseError        the conversation store cannot be reached: park
└── StateAwayError           the lanes' Redis cannot be reached, or is full: wait, spend no attempt
"""

from datetime import timedelta

from schemas.errors import WorkersError
from schemas.outcome import ErrorRecord


class SettingsError(WorkersError):
    """A wrong setting. The message is one line: the variable, what is wrong, what is accepted."""

    reason = "settings"


class PublishError(WorkersError):
    """A publisher could not hand an event over; it may or may not have arrived, publishing again is safe."""

    reason = "publish"
    retryable = True


class LeaseLostError(WorkersError):
    """The lane is leased to another worker, or the event has ended: whatever this worker still writes is refused."""

    reason = "lease_lost"


class CancelRequestedError(WorkersError):
    """The user stopped the turn."""

    reason = "cancelled"


class HandedOverError(WorkersError):
    """The turn was handed over to an agent that has a queue of its own: whoever takes it up there goes on."""

    reason = "handoff"

    def __init__(self, agent: str, queue: str) -> None:
        super().__init__(f"{agent} goes on in {queue}")
        self.queue = queue


class NotFoundError(WorkersError):
    """No such thing, or not this user's: the two are not told apart."""

    reason = "not_found"


class CallError(WorkersError):
    """A model or a service behind us failed. `message` holds nothing of the conversation."""

    def __init__(self, message: str, *, kind: str | None = None, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.kind = kind or type(self).__name__
        self.retry_after = retry_after

    def record(self) -> ErrorRecord:
        return ErrorRecord(kind=self.kind, message=str(self))


class TransientError(CallError):
    """A failure that may pass."""

    reason = "transient"
    retryable = True


class OverloadError(CallError):
    """This process has no free connection."""

    reason = "overload"
    retryable = True


class RateLimitedError(CallError):
    """The provider wants us to wait."""

    reason = "rate_limit"
    retryable = True


class DeferredError(CallError):
    """Our own limits have no room for the next call of a turn within the time that it may wait for it."""

    reason = "rate_limit"
    retryable = True


class QuotaError(CallError):
    """The account is out of quota or may not do this."""

    reason = "quota"


class AuthenticationError(CallError):
    """The provider or a service refused our credentials."""

    reason = "authentication"


class LimiterAwayError(CallError):
    """The limits cannot be asked, so nothing is known of what may be used: fail closed."""

    reason = "limiter_away"
    retryable = True


class StateAwayError(CallError):
    """The state cannot be reached, takes no more, or has lost a part of the turn with a failover."""

    reason = "state_away"
    retryable = True


class PermanentError(CallError):
    """The same request would fail again."""

    reason = "permanent"


class LoopError(PermanentError):
    """The agents, or their queues, hand an event over again and again, and nobody answers it."""

    reason = "loop"


class DatabaseError(CallError):
    """The conversation store cannot be reached or refused the transaction."""

    reason = "database"
    retryable = True
