"""The rate-limit policy: what it reserves, settles and parks."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from schemas.errors import WorkersError
from schemas.outcome import Done, Outcome, Parked, ParkReason, Released, ReleaseReason
from tests.builders import create_event, delivery_of
from workers.errors import (
    AuthenticationError,
    LimiterAwayError,
    OverloadError,
    PermanentError,
    QuotaError,
    RateLimitedError,
    TransientError,
)
from workers.policies.compose import compose
from workers.policies.delivery import Delivery
from workers.policies.rate_limit import InLine, LineReason, RateLimitPolicy, Reserved, Used, Verdict


@dataclass
class NotedLimits:
    """Gives one answer, and notes what it is told."""

    answer: Reserved | InLine | WorkersError = field(default_factory=lambda: Reserved("evt_1", "t1", "gpt-4.1"))
    settled: list[Used] = field(default_factory=list)
    calls: int = 0

    async def reserve(self, delivery: Delivery) -> Reserved | InLine:
        if isinstance(self.answer, WorkersError):
            raise self.answer
        return self.answer

    async def next_call(self, reserved: Reserved) -> None:
        self.calls += 1

    async def settle(self, reserved: Reserved, used: Used) -> None:
        self.settled.append(used)


async def run(limits: NotedLimits, error: BaseException | None = None, outcome: Outcome | None = None) -> Outcome:
    async def handler(delivery: Delivery) -> Outcome:
        delivery.use.requests, delivery.use.input_tokens, delivery.use.output_tokens = 2, 100, 20
        assert delivery.use.next_call is not None
        await delivery.use.next_call()
        if error is not None:
            raise error
        return outcome or Done()

    return await compose([RateLimitPolicy(limits)], handler)(delivery_of(create_event()))


async def test_a_run_uses_the_model_that_was_reserved_and_says_what_it_used() -> None:
    limits = NotedLimits()
    assert await run(limits) == Done()
    assert limits.settled == [Used(None, 120, "ok")]
    assert limits.calls == 1


@pytest.mark.parametrize(
    ("eta", "delay"),
    [(timedelta(seconds=1), timedelta(seconds=30)), (timedelta(minutes=5), timedelta(minutes=10))],
)
@pytest.mark.parametrize("reason", ["rate_limit", "circuit_open", "retry_budget"])
async def test_who_waits_is_not_run_and_its_alarm_is_far_behind_its_grant(
    reason: LineReason, eta: timedelta, delay: timedelta
) -> None:
    limits = NotedLimits(InLine("gpt-4.1", 3, eta, reason))
    assert await run(limits, AssertionError("ran")) == Parked(ParkReason(reason), delay)
    assert limits.settled == []


async def test_while_the_limits_cannot_be_asked_no_model_is_called() -> None:
    outcome = await run(NotedLimits(LimiterAwayError("the limits cannot be asked")), AssertionError("ran"))
    assert isinstance(outcome, Parked)
    assert outcome.reason is ParkReason.LIMITER_AWAY


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (TransientError("HTTP 503", kind="InternalServerError"), "failed"),
        (TransientError("read timeout", kind="APITimeoutError"), "failed"),
        (TransientError("the turn took more than 600 s", kind="TurnTimeout"), "neutral"),
        (TransientError("the model gave no usable response", kind="ModelBehaviorError"), "neutral"),
        (RateLimitedError("HTTP 429", retry_after=timedelta(seconds=7)), "rate_limited"),
        (QuotaError("HTTP 403"), "quota"),
        (AuthenticationError("HTTP 401"), "neutral"),
        (OverloadError("no free connection"), "overload"),
        (PermanentError("HTTP 400"), "neutral"),
        (KeyError("a bug"), "neutral"),
        (asyncio.CancelledError(), "neutral"),
    ],
)
async def test_every_failure_is_settled_with_what_it_says_about_the_provider_and_goes_on(
    error: BaseException, verdict: Verdict
) -> None:
    limits = NotedLimits()
    with pytest.raises(type(error)):
        await run(limits, error)
    [used] = limits.settled
    assert used.verdict == verdict
    assert used.retry_after == (error.retry_after if isinstance(error, RateLimitedError) else None)


async def test_what_did_not_come_to_its_end_says_nothing_about_the_provider() -> None:
    limits = NotedLimits()
    await run(limits, outcome=Released(ReleaseReason.LEASE_LOST))
    assert limits.settled[0].verdict == "neutral"


async def test_a_run_that_called_no_model_gives_its_request_back() -> None:
    limits = NotedLimits()

    async def handler(delivery: Delivery) -> Outcome:
        return Done()

    await compose([RateLimitPolicy(limits)], handler)(delivery_of(create_event()))
    assert limits.settled == [Used(0, 0, "neutral")]
