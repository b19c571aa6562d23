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
    DeferredError,
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
    calls: list[int] = field(default_factory=list)
    asked: int = 0

    async def reserve(self, delivery: Delivery) -> Reserved | InLine:
        self.asked += 1
        if isinstance(self.answer, WorkersError):
            raise self.answer
        return self.answer

    async def next_call(self, reserved: Reserved, number: int) -> None:
        self.calls.append(number)

    async def settle(self, reserved: Reserved, used: Used) -> None:
        self.settled.append(used)


async def run(limits: NotedLimits, error: BaseException | None = None, outcome: Outcome | None = None) -> Outcome:
    async def handler(delivery: Delivery) -> Outcome:
        for _ in range(3):
            await delivery.use.begin_call()
        delivery.use.requests, delivery.use.input_tokens, delivery.use.output_tokens = 2, 100, 20
        if error is not None:
            raise error
        return outcome or Done()

    return await compose([RateLimitPolicy(limits)], handler)(delivery_of(create_event()))


async def test_a_run_uses_the_model_that_was_reserved_and_says_what_it_used() -> None:
    limits = NotedLimits()
    assert await run(limits) == Done()
    assert limits.settled == [Used(3, 2, 120, "ok")]
    assert limits.calls == [2, 3]  # the first is reserved


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


async def test_a_run_that_another_queue_goes_on_with_was_answered_all_that_it_asked() -> None:
    limits = NotedLimits()
    handed_over = Released(ReleaseReason.HANDOFF, "chatkit.agent.other")
    assert await run(limits, outcome=handed_over) == handed_over
    assert limits.settled == [Used(3, 2, 120, "handed_over")]


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (TransientError("HTTP 503", kind="InternalServerError"), "failed"),
        (TransientError("read timeout", kind="APITimeoutError"), "failed"),
        (TransientError("the turn took more than 600 s", kind="TurnTimeout"), "neutral"),
        (TransientError("the model gave no usable response", kind="ModelBehaviorError"), "neutral"),
        (RateLimitedError("HTTP 429", retry_after=timedelta(seconds=7)), "rate_limited"),
        (DeferredError("no room", retry_after=timedelta(minutes=2)), "deferred"),
        (LimiterAwayError("the limits cannot be asked"), "neutral"),
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
    assert used.calls == 3  # however they ended, the provider counts them
    assert used.retry_after == getattr(error, "retry_after", None)


async def test_what_did_not_come_to_its_end_says_nothing_about_the_provider() -> None:
    limits = NotedLimits()
    await run(limits, outcome=Released(ReleaseReason.LEASE_LOST))
    assert limits.settled[0].verdict == "neutral"


async def test_a_server_that_does_not_say_what_was_used_is_a_healthy_one() -> None:
    limits = NotedLimits()

    async def handler(delivery: Delivery) -> Outcome:
        await delivery.use.begin_call()
        return Done()

    await compose([RateLimitPolicy(limits)], handler)(delivery_of(create_event()))
    assert limits.settled == [Used(1, 0, 0, "ok")]


async def test_a_call_that_the_limits_did_not_let_go_was_not_begun() -> None:
    class Full(NotedLimits):
        async def next_call(self, reserved: Reserved, number: int) -> None:
            raise DeferredError("no room")

    limits = Full()
    with pytest.raises(DeferredError):
        await run(limits)
    assert limits.settled == [Used(1, 0, 0, "deferred")]


async def test_calls_that_begin_at_once_are_numbered_one_after_another() -> None:
    limits = NotedLimits()

    async def handler(delivery: Delivery) -> Outcome:
        await asyncio.gather(*(delivery.use.begin_call() for _ in range(4)))
        return Done()

    await compose([RateLimitPolicy(limits)], handler)(delivery_of(create_event()))
    assert limits.calls == [2, 3, 4]
    assert limits.settled[0].calls == 4


async def test_a_run_that_called_no_model_gives_its_request_back() -> None:
    limits = NotedLimits()

    async def handler(delivery: Delivery) -> Outcome:
        return Done()

    await compose([RateLimitPolicy(limits)], handler)(delivery_of(create_event()))
    assert limits.settled == [Used(0, 0, 0, "neutral")]
