"""Rate limit: a run begins with everything reserved that it needs, or waits in line for it."""

from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Literal, Protocol

from schemas.outcome import Done, Outcome, Parked, ParkReason, Released, ReleaseReason
from workers.errors import (
    CallError,
    DeferredError,
    LimiterAwayError,
    OverloadError,
    QuotaError,
    RateLimitedError,
    TransientError,
)
from workers.policies.compose import Handler
from workers.policies.delivery import Delivery

LineReason = Literal["rate_limit", "circuit_open", "retry_budget"]
Verdict = Literal["ok", "handed_over", "failed", "rate_limited", "deferred", "quota", "overload", "neutral"]
"""How the provider did: `handed_over` that it answered and another queue goes on, `failed` counts against its circuit,
`neutral` says nothing about it, `deferred` that our own limits have no room for the next call, `overload` that this
process runs more than it has connections for."""

NOT_THE_PROVIDER = frozenset({"TransientError", "TurnTimeout", "ToolTimeoutError", "ModelBehaviorError"})
"""Kinds of transient failures that a healthy provider may see as well."""

LEAST_WAIT = timedelta(seconds=30)
AWAY_WAIT = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Reserved:
    """Everything that a run needs is reserved, until it is settled or its worker is gone."""

    event_id: str
    token: str
    model: str
    probe: bool = False


@dataclass(frozen=True, slots=True)
class InLine:
    """The event waits: its place (1 is next), and about how long."""

    model: str
    place: int
    eta: timedelta
    reason: LineReason


@dataclass(frozen=True, slots=True)
class Used:
    """What a run has used: `calls` were begun, `measured` of them said what they used, in all `tokens`. The others are
    taken at their estimate."""

    calls: int
    measured: int
    tokens: int
    verdict: Verdict
    retry_after: timedelta | None = None


class Limits(Protocol):
    """The limits of the deployment. Raises `LimiterAwayError` while they cannot be asked."""

    async def reserve(self, delivery: Delivery) -> Reserved | InLine:
        """Reserve all that the run needs, or stand in line: whoever has capacity wakes the event."""

    async def next_call(self, reserved: Reserved, number: int) -> None:
        """Reserve one more call of the same run, its `number`-th; returns when it may be made.

        Raises:
            DeferredError: that takes longer than a running turn should wait.
        """

    async def settle(self, reserved: Reserved, used: Used) -> None:
        """Say what was used. Never raises: a reservation that is not settled runs out."""


@dataclass(frozen=True, slots=True)
class RateLimitPolicy:
    """Reserves, runs, settles. Waiting costs no attempt, no worker and no message.

    The circuit of a model is asked in the same step, since one decision cannot be torn into two: while it is open the
    event waits in line, or uses the fallback model.
    """

    limits: Limits

    async def __call__(self, delivery: Delivery, call_next: Handler) -> Outcome:
        try:
            answer = await self.limits.reserve(delivery)
        except LimiterAwayError as error:
            return Parked(ParkReason.LIMITER_AWAY, AWAY_WAIT, error.record())
        if isinstance(answer, InLine):
            return parked_in_line(answer)
        use = delivery.use
        use.model, use.next_call = answer.model, partial(self.limits.next_call, answer)
        verdict: Verdict = "neutral"
        retry_after: timedelta | None = None
        try:
            outcome = await call_next(delivery)
            verdict = _verdict_of_end(outcome) if use.calls else "neutral"
        except CallError as error:
            verdict, retry_after = verdict_of(error), error.retry_after
            raise
        finally:
            await self.limits.settle(answer, Used(use.calls, use.requests, use.tokens, verdict, retry_after))
        return outcome


def parked_in_line(place: InLine) -> Parked:
    """How an event waits: whoever has capacity wakes it; its own alarm is there if that gets lost."""
    return Parked(ParkReason(place.reason), max(LEAST_WAIT, place.eta * 2))


def _verdict_of_end(outcome: Outcome) -> Verdict:
    """Whether the provider has answered all that it was asked."""
    match outcome:
        case Done():
            return "ok"
        case Released(ReleaseReason.HANDOFF):
            return "handed_over"
        case _:
            return "neutral"


def verdict_of(error: CallError) -> Verdict:
    """What a failure says about the provider."""
    match error:
        case RateLimitedError():
            return "rate_limited"
        case DeferredError():
            return "deferred"
        case QuotaError():
            return "quota"
        case OverloadError():
            return "overload"
        case TransientError() if error.kind not in NOT_THE_PROVIDER:
            return "failed"
        case _:
            return "neutral"
