"""Each policy alone, and the laws that every policy keeps."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import WorkersError
from schemas.events import Event
from schemas.outcome import (
    Cancelled,
    CancelReason,
    DeadLettered,
    DeadReason,
    Done,
    Dropped,
    DropReason,
    ErrorRecord,
    Outcome,
    Parked,
    ParkReason,
    Released,
    Retry,
    RetryReason,
)
from tests.builders import NOW, create_event, delivery_of, feedback_event
from tests.unit.policies.test_rate_limit import NotedLimits
from tests.unit.policies.test_session import RevokedSessions
from workers.dispatch import Dispatcher, Numbers, numbers_of
from workers.errors import (
    AuthenticationError,
    CancelRequestedError,
    DatabaseError,
    DeferredError,
    LeaseLostError,
    LimiterAwayError,
    NotFoundError,
    OverloadError,
    PermanentError,
    QuotaError,
    RateLimitedError,
    TransientError,
)
from workers.policies.compose import Policy, compose
from workers.policies.dead_letter import DeadLetterPolicy
from workers.policies.deadline import DeadlinePolicy
from workers.policies.delivery import Delivery, StopSignal
from workers.policies.filter import FilterPolicy, Patterns
from workers.policies.rate_limit import InLine, RateLimitPolicy, Reserved
from workers.policies.retry import Backoff, RetryPolicy
from workers.policies.session import SessionPolicy
from workers.policies.worker_lost import WorkerLostPolicy
from workers.setting_types import EventFilter
from workers.settings import Settings

BACKOFF = Backoff(timedelta(seconds=1), timedelta(seconds=60), random=lambda: 0.5)
POLICIES: list[Policy] = [
    DeadLetterPolicy(),
    WorkerLostPolicy(),
    DeadlinePolicy(lambda: NOW, timedelta(hours=1)),
    FilterPolicy({"tenant": ["*"]}, {"type": ["chatkit.ui.*"]}),
    RetryPolicy(BACKOFF, max_attempts=3),
    SessionPolicy(RevokedSessions("ses_1")),
    RateLimitPolicy(NotedLimits()),
]


@dataclass(frozen=True)
class Alone:
    """A quarantine in which everything ends the same way."""

    outcome: Outcome | None

    async def run_alone(self, delivery: Delivery) -> Outcome | None:
        return self.outcome


def raises(error: BaseException) -> Policy:
    async def handler(delivery: Delivery, call_next: object = None) -> Outcome:
        raise error

    return handler


async def done(delivery: Delivery) -> Outcome:
    return Done()


async def fails(delivery: Delivery) -> Outcome:
    raise TransientError("503")


async def run(policies: Sequence[Policy], delivery: Delivery, error: BaseException | None = None) -> Outcome:
    return await compose([*policies, *([raises(error)] if error else [])], done)(delivery)


@pytest.mark.parametrize("policy", POLICIES)
async def test_every_policy_lets_a_healthy_delivery_through_untouched(policy: Policy) -> None:
    delivery = delivery_of(create_event())
    seen: list[Delivery] = []

    async def handler(given: Delivery) -> Outcome:
        seen.append(given)
        return Done()

    assert await compose([policy], handler)(delivery) == Done()
    assert seen == [delivery]


@pytest.mark.parametrize("policy", POLICIES)
async def test_no_policy_swallows_a_cancellation(policy: Policy) -> None:
    with pytest.raises(asyncio.CancelledError):
        await run([policy], delivery_of(create_event()), asyncio.CancelledError())


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("outcome", [Dropped(DropReason.FILTERED), Cancelled(CancelReason.USER)])
async def test_no_policy_changes_the_outcome_of_a_handler(policy: Policy, outcome: Outcome) -> None:
    async def handler(delivery: Delivery) -> Outcome:
        return outcome

    assert await compose([policy], handler)(delivery_of(create_event())) == outcome


async def test_a_stale_event_is_dropped_without_being_run() -> None:
    delivery = delivery_of(create_event(expirytime=NOW.isoformat()))
    assert await run([DeadlinePolicy(lambda: NOW)], delivery, AssertionError("ran")) == Dropped(DropReason.EXPIRED)


async def test_an_event_that_killed_three_workers_is_not_run_a_fourth_time() -> None:
    outcome = await run([WorkerLostPolicy()], delivery_of(create_event(), deaths=4), AssertionError("ran"))
    assert isinstance(outcome, DeadLettered)
    assert outcome.reason is DeadReason.WORKER_LOST
    assert await run([WorkerLostPolicy()], delivery_of(create_event(), deaths=3)) == Done()


@pytest.mark.parametrize(
    "alone", [Done(), Retry(RetryReason.TRANSIENT, timedelta(1), ErrorRecord(kind="x", message=""))]
)
async def test_an_event_that_lost_two_workers_runs_in_quarantine_and_ends_as_it_ends_there(alone: Outcome) -> None:
    outcome = await run([WorkerLostPolicy(Alone(alone))], delivery_of(create_event(), deaths=3), AssertionError("ran"))
    assert outcome == alone


async def test_an_event_that_kills_its_quarantine_too_is_given_up() -> None:
    outcome = await run([WorkerLostPolicy(Alone(None))], delivery_of(create_event(), deaths=3), AssertionError("ran"))
    assert isinstance(outcome, DeadLettered)
    assert outcome.reason is DeadReason.WORKER_LOST
    assert await run([WorkerLostPolicy(Alone(None))], delivery_of(create_event(), deaths=2)) == Done()


async def test_a_few_workers_may_be_lost_while_they_keep_an_event_in_quarantine() -> None:
    """They died of something else, for there it can only hurt itself. If they go on dying, it is given up."""
    policy = WorkerLostPolicy(Alone(Done()))
    for deaths in range(3, 6):
        assert await run([policy], delivery_of(create_event(), deaths=deaths), AssertionError("ran")) == Done()
    outcome = await run([policy], delivery_of(create_event(), deaths=6), AssertionError("ran"))
    assert isinstance(outcome, DeadLettered)
    assert outcome.reason is DeadReason.WORKER_LOST


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (TransientError("503"), Retry, "transient"),
        (AuthenticationError("401"), Parked, "authentication"),
        (RateLimitedError("429", retry_after=timedelta(seconds=7)), Parked, "rate_limit"),
        (DeferredError("no room", retry_after=timedelta(minutes=2)), Parked, "rate_limit"),
        (LimiterAwayError("the limits cannot be asked"), Parked, "limiter_away"),
        (OverloadError("no connection free"), Parked, "overload"),
        (DatabaseError("down"), Parked, "database"),
        (QuotaError("insufficient_quota"), DeadLettered, "quota"),
        (PermanentError("400"), DeadLettered, "permanent"),
        (NotFoundError("no such thread"), DeadLettered, "permanent"),
        (LeaseLostError("stale"), Released, "lease_lost"),
        (CancelRequestedError("stop"), Cancelled, "user"),
    ],
)
async def test_each_class_of_failure_ends_as_the_table_says(
    error: WorkersError, kind: type[Outcome], reason: str
) -> None:
    outcome = await run([RetryPolicy(BACKOFF, max_attempts=3)], delivery_of(create_event()), error)
    assert isinstance(outcome, kind)
    assert getattr(outcome, "reason", None) == reason


async def test_the_last_attempt_ends_as_a_dead_letter() -> None:
    policy = RetryPolicy(BACKOFF, max_attempts=3)
    delivery = delivery_of(create_event(), attempt=3)
    exhausted = await run([policy], delivery, TransientError("503"))
    assert isinstance(exhausted, DeadLettered)
    assert exhausted.reason is DeadReason.ATTEMPTS_EXHAUSTED


async def test_waiting_for_a_limit_never_exhausts_the_attempts() -> None:
    error = RateLimitedError("429", retry_after=timedelta(seconds=7))
    outcome = await run([RetryPolicy(BACKOFF, max_attempts=3)], delivery_of(create_event(), attempt=99), error)
    assert isinstance(outcome, Parked)
    assert outcome.reason is ParkReason.RATE_LIMIT
    assert outcome.delay >= timedelta(seconds=7)


@given(attempt=st.integers(1, 10_000), spread=st.floats(0, 1), after=st.none() | st.integers(0, 10_000))
def test_a_delay_keeps_its_floor_its_cap_and_the_retry_after(attempt: int, spread: float, after: int | None) -> None:
    backoff = Backoff(timedelta(seconds=2), timedelta(seconds=60), random=lambda: spread)
    at_least = None if after is None else timedelta(seconds=after)
    delay = backoff.delay(attempt, at_least)
    interval = min(timedelta(seconds=60), timedelta(seconds=2) * 2 ** min(attempt - 1, 10))
    assert delay >= (at_least if at_least else interval / 2)
    assert delay <= (at_least or timedelta(0)) + interval


async def test_a_bug_is_dead_lettered_with_its_class_and_place_but_not_its_text() -> None:
    outcome = await run([DeadLetterPolicy()], delivery_of(create_event()), KeyError("the user's secret question"))
    assert isinstance(outcome, DeadLettered)
    assert outcome.reason is DeadReason.BUG
    assert outcome.error is not None
    assert outcome.error.kind == "KeyError"
    assert "secret question" not in outcome.error.message
    assert "test_policies.py" in outcome.error.message


def test_the_stack_stands_in_the_order_that_dispatch_gives_reasons_for() -> None:
    dispatcher = Dispatcher(Settings(), turns=done, light=done, limits=NotedLimits(), sessions=RevokedSessions())
    common = [DeadLetterPolicy, WorkerLostPolicy, DeadlinePolicy, FilterPolicy, RetryPolicy]
    whole = [*common, SessionPolicy, RateLimitPolicy]
    assert [type(policy) for policy in dispatcher.policies("chatkit.threads.create")] == whole
    assert [type(policy) for policy in dispatcher.policies("chatkit.items.feedback")] == common


async def test_the_order_is_a_law_each_policy_wins_over_those_inside_it() -> None:
    """One delivery that every policy has something to say about, and then one reason less at a time."""
    settings = Settings(event_filter=EventFilter(deny={"type": ["chatkit.threads.create"]}))
    limits = NotedLimits(InLine("gpt-4.1", 3, timedelta(seconds=9), "rate_limit"))
    dispatcher = Dispatcher(settings, turns=fails, light=fails, limits=limits, now=lambda: NOW)
    stale, fresh = create_event(expirytime=NOW.isoformat()), create_event()
    lost = await dispatcher(delivery_of(stale, deaths=99))
    assert isinstance(lost, DeadLettered)
    assert lost.reason is DeadReason.WORKER_LOST
    assert await dispatcher(delivery_of(stale)) == Dropped(DropReason.EXPIRED)
    assert await dispatcher(delivery_of(fresh)) == Dropped(DropReason.FILTERED)
    assert limits.asked == 0  # nothing is reserved for what does not run
    unfiltered = Dispatcher(Settings(), turns=fails, light=fails, limits=limits, now=lambda: NOW)
    assert await unfiltered(delivery_of(fresh)) == Parked(ParkReason.RATE_LIMIT, timedelta(seconds=30))
    limits.answer = Reserved("evt_1", "t1", "gpt-4.1")
    assert isinstance(await unfiltered(delivery_of(fresh)), Retry)
    assert len(limits.settled) == 1  # and what was reserved is settled before anything is decided


@pytest.mark.parametrize("event", [create_event(expirytime=NOW.isoformat()), feedback_event("thr_1")])
async def test_a_delivery_that_was_stopped_while_nobody_ran_it_is_judged_by_nobody(event: Event) -> None:
    async def ends(delivery: Delivery) -> Outcome:
        assert delivery.event.needs_turn, "an event without a model has nothing to end"
        return Cancelled(CancelReason.OPERATOR)

    settings = Settings(event_filter=EventFilter(deny={"type": ["*"]}))
    dispatcher = Dispatcher(settings, turns=ends, light=ends, now=lambda: NOW)
    delivery = delivery_of(event, deaths=99, stop=StopSignal(CancelReason.OPERATOR))
    assert await dispatcher(delivery) == Cancelled(CancelReason.OPERATOR)


def test_a_batch_is_judged_by_the_same_stack() -> None:
    settings = Settings(event_filter=EventFilter(deny={"tenant": ["acme"]}))
    dispatcher = Dispatcher(settings, turns=done, light=done, now=lambda: NOW)
    filtered, stale = feedback_event("thr_1", tenant="acme"), feedback_event("thr_1", expirytime=NOW.isoformat())
    assert dispatcher.judge(delivery_of(feedback_event("thr_1", tenant="other"))) is None
    assert dispatcher.judge(delivery_of(filtered)) == Dropped(DropReason.FILTERED)
    assert dispatcher.judge(delivery_of(stale)) == Dropped(DropReason.EXPIRED)
    stopped = delivery_of(filtered, stop=StopSignal(CancelReason.USER))
    assert dispatcher.judge(stopped) == Cancelled(CancelReason.USER)
    assert isinstance(dispatcher.decide(TransientError("503"), delivery_of(stale)), Retry)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Numbers(5, 1.0, 300.0, 3600)),
        ({"*": {"deadline": 5, "max_attempts": 2}}, Numbers(2, 1.0, 300.0, 5)),
        ({"*": {"max_attempts": 2}, "chatkit.threads.create": {"max_attempts": 9}}, Numbers(9, 1.0, 300.0, 3600)),
        ({"threads.create": {"backoff_base": 0.5, "backoff_cap": 7}}, Numbers(5, 0.5, 7, 3600)),
    ],
)
def test_the_numbers_of_a_type_come_from_the_most_special_entry_that_names_them(
    given: dict[str, dict[str, float]], expected: Numbers
) -> None:
    settings = Settings.model_validate({"task_policies": given})
    assert numbers_of("chatkit.threads.create", settings) == expected


def test_a_type_with_numbers_of_our_own_keeps_them_against_the_star() -> None:
    settings = Settings.model_validate({"task_policies": {"*": {"max_attempts": 9, "backoff_cap": 4}}})
    assert numbers_of("chatkit.threads.sync_custom_action", settings) == Numbers(2, 1.0, 4, 60)
    assert numbers_of("chatkit.ui.ready", settings) == Numbers(9, 1.0, 4, None)


@pytest.mark.parametrize(
    ("allow", "deny", "passes"),
    [
        ({}, {}, True),
        ({"type": ["chatkit.threads.*"]}, {}, True),
        ({"type": ["chatkit.ui.*"]}, {}, False),
        ({"type": ["chatkit.threads.*"], "tenant": ["other"]}, {}, False),
        ({"type": ["chatkit.threads.*"]}, {"type": ["*.create"]}, False),
        ({}, {"source": ["/nobody/*"]}, True),
        ({"tenant": []}, {}, False),
    ],
)
async def test_the_filter_drops_what_is_denied_or_not_allowed(allow: Patterns, deny: Patterns, passes: bool) -> None:
    outcome = await run([FilterPolicy(allow, deny)], delivery_of(create_event(tenant="acme")))
    assert outcome == (Done() if passes else Dropped(DropReason.FILTERED))


@pytest.mark.parametrize(
    ("delay", "bounded"), [(timedelta(minutes=5), timedelta(minutes=5)), (timedelta(hours=2), timedelta(minutes=10))]
)
async def test_what_waits_waits_no_longer_than_its_deadline(delay: timedelta, bounded: timedelta) -> None:
    async def parked(delivery: Delivery) -> Outcome:
        return Parked(ParkReason.RATE_LIMIT, delay)

    by_itself = delivery_of(create_event(expirytime=(NOW + timedelta(minutes=10)).isoformat()))
    by_default = delivery_of(create_event(), accepted_at=NOW - timedelta(minutes=50))
    for delivery in (by_itself, by_default):
        outcome = await compose([DeadlinePolicy(lambda: NOW, timedelta(hours=1))], parked)(delivery)
        assert outcome == Parked(ParkReason.RATE_LIMIT, bounded)


@pytest.mark.parametrize(
    ("left", "parked"),
    [
        (timedelta(hours=2), timedelta(minutes=1)),
        (timedelta(seconds=50), timedelta(seconds=45)),
        (timedelta(seconds=6), timedelta(seconds=1)),
        (timedelta(seconds=5), None),
        (timedelta(0), None),
    ],
)
async def test_what_waits_for_a_sign_in_is_looked_at_a_last_time_just_before_its_deadline(
    left: timedelta, parked: timedelta | None
) -> None:
    refused = ErrorRecord(kind="AuthenticationError", message="401")
    clock = iter([NOW - timedelta(hours=3), NOW])  # it is fresh when its run begins

    async def waits(delivery: Delivery) -> Outcome:
        return Parked(ParkReason.AUTHENTICATION, timedelta(minutes=1), refused)

    policy = DeadlinePolicy(lambda: next(clock))
    outcome = await compose([policy], waits)(delivery_of(create_event(expirytime=(NOW + left).isoformat())))
    if parked is None:
        assert outcome == DeadLettered(DeadReason.AUTHENTICATION, refused)
    else:
        assert outcome == Parked(ParkReason.AUTHENTICATION, parked, refused)


async def test_an_event_is_stale_from_its_deadline_on() -> None:
    policy = DeadlinePolicy(lambda: NOW, timedelta(hours=1))
    assert policy.judge(delivery_of(create_event(), accepted_at=NOW - timedelta(hours=1))) is not None
    late = delivery_of(create_event(), accepted_at=NOW - timedelta(hours=1) + timedelta(microseconds=1))
    assert policy.judge(late) is None
    assert DeadlinePolicy(lambda: NOW).judge(late) is None


async def test_the_deadline_of_a_redriven_event_counts_from_the_redrive() -> None:
    policy = DeadlinePolicy(lambda: NOW, timedelta(hours=1))
    stale = create_event(expirytime=(NOW - timedelta(days=1)).isoformat())
    assert policy.judge(delivery_of(stale, accepted_at=NOW)) is not None
    assert policy.judge(delivery_of(stale, accepted_at=NOW, redriven=True)) is None
    assert policy.judge(delivery_of(stale, accepted_at=NOW - timedelta(hours=1), redriven=True)) is not None
    assert DeadlinePolicy(lambda: NOW).judge(delivery_of(stale, accepted_at=NOW, redriven=True)) is None


async def test_a_stale_event_is_dropped_even_if_its_type_would_fail() -> None:
    dispatcher = Dispatcher(Settings(), turns=fails, light=fails, now=lambda: NOW)
    assert await dispatcher(delivery_of(create_event(expirytime=NOW.isoformat()))) == Dropped(DropReason.EXPIRED)
    assert isinstance(await dispatcher(delivery_of(create_event())), Retry)
