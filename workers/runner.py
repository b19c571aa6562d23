"""Running one woken event: begin, policies, settle, wake the next. Knows no Celery."""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from schemas.errors import InvalidEventError
from schemas.events import Event, parse_event
from schemas.outcome import (
    Cancelled,
    CancelReason,
    DeadLettered,
    Done,
    Dropped,
    EventState,
    Outcome,
    Released,
    ReleaseReason,
    Retry,
)
from schemas.traces import origin_of, trace_of
from workers import failpoints
from workers.cancellation import take_cancellation
from workers.clock import utc_now
from workers.dispatch import Dispatcher
from workers.ends import Ends
from workers.errors import TransientError
from workers.failpoints import FailPoint
from workers.lanes.connection import STATE_ERRORS
from workers.lanes.keeper import LeaseKeeper
from workers.lanes.lanes import Lanes
from workers.lanes.patience import persistently
from workers.lanes.ports import Waker
from workers.lanes.records import Begun, NotBegun, Settled, Settlement, SettleRefused, Start
from workers.policies.delivery import Delivery, LastLook, StopSignal
from workers.settle import Settler
from workers.telemetry import spans
from workers.telemetry.context import run_context
from workers.telemetry.metrics import LIMIT, QUEUE, Metrics

log = logging.getLogger(__name__)

LAST_LOOK_SECONDS = 3.0
"""How long the last look at an event that is given up may take: less than what is left of its lease."""

OVER_TIME = "the task's time limit passed"

LookingAgain = Callable[[Delivery], Awaitable[LastLook]]
"""Looks at an event that is about to end without an answer."""


@dataclass(frozen=True, slots=True)
class NothingToDo:
    """The wake-up was late, doubled or early: the lane says why."""

    why: str


Verdict = Outcome | NothingToDo


class EventRunner:
    """Runs the event at the head of a lane, once, under a lease."""

    def __init__(
        self,
        lanes: Lanes,
        keeper: LeaseKeeper,
        waker: Waker,
        dispatcher: Dispatcher,
        settler: Settler,
        last_look: LookingAgain,
        ends: Ends,
        metrics: Metrics | None = None,
    ) -> None:
        self._ends, self._metrics = ends, metrics or Metrics()
        self._lanes, self._keeper, self._waker = lanes, keeper, waker
        self._dispatch, self._settler, self._last_look = dispatcher, settler, last_look

    async def run(
        self,
        lane: str,
        event_id: str,
        over_time: Callable[[], bool] = lambda: False,
        on_begun: Callable[[int], None] = lambda _: None,
    ) -> Verdict:
        """Run what the wake-up points at, if it is still to be run.

        Args:
            lane: as the wake-up says.
            event_id: likewise.
            over_time: asked when the run is cancelled: whether it took too long, which spends an attempt. Otherwise the
                worker is about to end, which spends none.
            on_begun: told which attempt it is, once it is one.
        """
        try:
            [begun] = await self._lanes.begin([Start(lane, event_id, token=uuid.uuid4().hex)])
        except STATE_ERRORS as error:
            log.warning("event_not_begun", extra={"event_id": event_id, "error": type(error).__name__})
            return NothingToDo("state_away")  # its alarm wakes it again
        if isinstance(begun, NotBegun):
            return NothingToDo(begun.why)
        on_begun(begun.attempt)
        failpoints.hit(FailPoint.AFTER_BEGIN, subject=event_id)
        try:
            delivery = delivery_of(begun, event_of(begun))
        except InvalidEventError as error:
            return await asyncio.shield(self._bury(self._settler.unreadable(begun, error, utc_now())))
        self._observe_wait(delivery)
        with context_of(delivery):
            verdict = await self._run(delivery, over_time)
            _tell_span(verdict)
            return verdict

    async def _run(self, delivery: Delivery, over_time: Callable[[], bool]) -> Verdict:
        try:
            outcome = await self._under_lease(delivery)
        except asyncio.CancelledError:
            if not over_time():
                # The worker drains: give the event back before the loop ends.
                await asyncio.shield(self._settle(delivery, Released(ReleaseReason.SHUTDOWN)))
                raise
            take_cancellation()
            outcome = self._dispatch.decide(TransientError(OVER_TIME, kind="TaskTimeLimit"), delivery)
        return await asyncio.shield(self._settle(delivery, outcome))

    def _observe_wait(self, delivery: Delivery) -> None:
        if delivery.waited is not None and delivery.event.needs_turn:
            stage = QUEUE if delivery.waited.parked is None else LIMIT
            self._metrics.turn_seconds.labels(stage).observe(delivery.waited.seconds)
            event = delivery.event
            said: spans.Attributes = {spans.EVENT_ID: event.event_id, spans.ATTEMPT: delivery.attempt}
            spans.past(stage, origin_of(event.event_id, event.traceparent), delivery.waited.seconds, said)

    async def _under_lease(self, delivery: Delivery) -> Outcome:
        """The policies and the handler, stopped when the lease is lost or the user cancels."""
        lost = False
        run = asyncio.ensure_future(self._dispatch(delivery))

        def on_lost() -> None:
            nonlocal lost
            lost = True
            run.cancel()

        def on_cancel(reason: CancelReason) -> None:
            if delivery.stop.reason is None:
                delivery.stop.reason = reason
                run.cancel()

        self._keeper.hold(delivery.lease, on_lost, on_cancel)
        try:
            return await run
        except asyncio.CancelledError:
            if lost:
                return Released(ReleaseReason.LEASE_LOST)
            if delivery.stop.reason is not None and run.cancelled():
                # Stopped outside of the handler, which keeps what was shown: in quarantine, or before it began.
                return await self._dispatch(delivery)
            run.cancel()
            await asyncio.wait([run])
            raise
        finally:
            self._keeper.release(delivery.lease)

    async def _settle(self, delivery: Delivery, outcome: Outcome) -> Verdict:
        frames: Sequence[bytes] = ()
        if isinstance(outcome, Dropped | DeadLettered | Cancelled):
            look = await persistently(lambda: self._look_again(delivery), told="event_not_looked_at")
            frames = look.frames
            if look.answered and not isinstance(outcome, Cancelled):  # what a cancel keeps counts as an answer, too
                outcome = Done()
        point = FailPoint.IN_DEAD_LETTER if isinstance(outcome, DeadLettered) else FailPoint.BEFORE_SETTLE
        failpoints.hit(point, subject=delivery.lease.event_id)
        settlement = self._settler.settlement(delivery, outcome, utc_now(), frames)
        # Until it is told, or the process ends: if it were given up, the lane would wait for the end of the lease, and
        # the event would count as one that has killed its worker. Whoever takes it over meanwhile makes this one stale.
        [settled] = await persistently(lambda: self._lanes.settle([settlement]), told="event_not_settled")
        match settled:
            case SettleRefused("rollback"):
                return await self._settle(delivery, await self._rolled_back(delivery))
            case SettleRefused(why):
                log.warning("settle_refused", extra={"event_id": delivery.lease.event_id, "reason": why})
                return NothingToDo(why)
            case Settled(state, wake):
                failpoints.hit(FailPoint.AFTER_SETTLE, subject=delivery.lease.event_id)
                await self._waker.wake([wake] if wake else [])
                await self._ends.note([(delivery, outcome, state)])
                if state is EventState.CANCELLED and not isinstance(outcome, Cancelled):
                    return Cancelled(delivery.stop.reason or CancelReason.USER)  # the wish came just before the end
                return outcome

    async def _rolled_back(self, delivery: Delivery) -> Outcome:
        """The wish came just before the end: take back what was stored. If even that cannot be done, it stays."""
        if delivery.stop.reason is CancelReason.ROLLED_BACK:
            log.warning("event_not_rolled_back", extra={"event_id": delivery.lease.event_id})
            return Cancelled(CancelReason.ROLLED_BACK)
        delivery.stop.reason = CancelReason.ROLLED_BACK
        return await self._dispatch(delivery)

    async def _bury(self, settlement: Settlement) -> Verdict:
        """Settle an event of which there is nothing to be run."""
        [settled] = await persistently(lambda: self._lanes.settle([settlement]), told="event_not_settled")
        if isinstance(settled, SettleRefused):
            if settled.why == "rollback":  # there is nothing to be taken back of what was never run
                return await self._bury(Settlement(settlement.lease, Cancelled(CancelReason.ROLLED_BACK)))
            return NothingToDo(settled.why)
        await self._waker.wake([settled.wake] if settled.wake else [])
        self._ends.buried([settlement.dead] if settlement.dead and settled.state is EventState.DEAD else [])
        return settlement.outcome

    async def _look_again(self, delivery: Delivery) -> LastLook:
        """Fails open, since the event must end, and a reload puts the screen right; but for a state that is away, which
        is waited for: without it there is no settling either."""
        try:
            async with asyncio.timeout(LAST_LOOK_SECONDS):
                return await self._last_look(delivery)
        except Exception as error:  # the dead-letter net: else the event would come back for ever
            if isinstance(error, STATE_ERRORS) and type(error) is not TimeoutError:
                raise
            event_id, name = delivery.lease.event_id, type(error).__name__
            log.warning("answer_not_taken_back", extra={"event_id": event_id, "error": name})
            return LastLook()


def _tell_span(verdict: Verdict) -> None:
    """How the run ended, on its span. Every reason is one of a closed set."""
    span = spans.current()
    match verdict:
        case Done():
            span.set({spans.OUTCOME: "done"})
        case NothingToDo(why):
            span.set({spans.OUTCOME: "nothing", spans.REASON: why})
        case _:
            span.set({spans.OUTCOME: type(verdict).__name__.lower(), spans.REASON: str(verdict.reason)})
    if isinstance(verdict, DeadLettered | Retry):
        span.fail(verdict.error.kind if verdict.error is not None else str(verdict.reason))


def context_of(delivery: Delivery) -> AbstractContextManager[None]:
    """What the log lines of a run say of it."""
    event, lease = delivery.event, delivery.lease
    return run_context(
        event_id=lease.event_id,
        type_=event.type,
        lane=lease.lane,
        attempt=delivery.attempt,
        trace=trace_of(event),
        traceparent=event.traceparent,
    )


def event_of(begun: Begun) -> Event:
    """The event of a delivery. It was checked at acceptance, but maybe by another version of the program.

    Raises:
        InvalidEventError: this version cannot read it, or the state has lost it.
    """
    assert begun.body is not None  # noqa: S101  # asked for with want_body
    return parse_event(begun.body, max_bytes=4 * len(begun.body))  # a character is up to four bytes


def delivery_of(begun: Begun, event: Event) -> Delivery:
    """What policies and handlers are given."""
    return Delivery(
        event=event,
        lease=begun.lease,
        attempt=begun.attempt,
        deaths=begun.deaths,
        acceptance=begun.acceptance,
        next_frame=begun.next_frame,
        accepted_at=begun.accepted_at,
        journaled=begun.journaled,
        redriven=begun.redriven,
        queue=begun.queue,
        hops=begun.hops,
        age_seconds=begun.age_seconds,
        waited=begun.waited,
        stop=StopSignal(begun.cancelled),
    )
