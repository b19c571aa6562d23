"""Events that need no model, run right in the ingest: begin, handler, settle, each pipelined, round after round."""

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache

from schemas.chatkit import TURN_REQUESTS
from schemas.errors import InvalidEventError, WorkersError
from schemas.events import PREFIX, Event
from schemas.outcome import DeadLettered, DeadReason, EventState, Outcome
from workers import failpoints
from workers.cancellation import raise_if_cancelled
from workers.ends import Ends
from workers.errors import TransientError
from workers.failpoints import FailPoint
from workers.ingest.ports import IntakeLanes, LightPolicies
from workers.lanes.patience import persistently
from workers.lanes.ports import Waker
from workers.lanes.records import Begun, Settled, Settlement, SettleRefused, Start, Wake
from workers.policies.batch import LightBatch, LightResult
from workers.policies.dead_letter import bug_record
from workers.policies.delivery import Delivery
from workers.runner import delivery_of, event_of
from workers.settle import Settler

log = logging.getLogger(__name__)

ROUND = 300
MAX_KNOWN = 5_000
MAX_HEADS = 1_000
PAUSE_SECONDS = 0.2
IN_FLIGHT = 2
DEADLINE = 0.8
"""Of the lease: a batch that takes longer would be run by two workers. It is short work, so nobody renews."""


Ended = tuple[Delivery, Outcome, Sequence[bytes]]
"""What ran, how it ended, and the frames that it shows."""


class LightRounds:
    """Runs heads of lanes together until their lanes hold no more of them; a turn at the head gets a wake-up instead.

    Whatever is lost here (a crash, Redis away) is found again by the lanes' alarms.
    """

    def __init__(
        self,
        lanes: IntakeLanes,
        waker: Waker,
        light: LightBatch,
        policies: LightPolicies,
        settler: Settler,
        now: Callable[[], datetime],
        lease: timedelta = timedelta(seconds=10),
        ends: Ends | None = None,
    ) -> None:
        self._ends = ends
        self._lanes, self._waker, self._light = lanes, waker, light
        self._policies, self._settler, self._now = policies, settler, now
        self._lease, self._deadline_seconds = lease, lease.total_seconds() * DEADLINE
        self._heads: deque[Wake] = deque()
        self._known: dict[str, Event] = {}
        self._wanted = asyncio.Event()
        self._room = asyncio.Event()
        self.idle = asyncio.Event()
        self._running = 0
        self._mark()

    def remember(self, event: Event) -> None:
        """Keep an event that was just accepted, so that its body need not come back from Redis. The oldest go first."""
        if len(self._known) >= MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[event.event_id] = event

    def put(self, heads: Sequence[Wake]) -> None:
        """Run these heads soon."""
        self._heads.extend(heads)
        self._mark()

    async def room(self) -> None:
        """Wait while more heads wait than a few rounds can take: memory is bounded by not accepting faster."""
        await self._room.wait()

    async def run(self) -> None:
        """Run rounds until cancelled, a few at a time: Redis works on one while this process works on another."""
        async with asyncio.TaskGroup() as group:
            for number in range(IN_FLIGHT):
                group.create_task(self._rounds(), name=f"light-rounds-{number}")

    async def _rounds(self) -> None:
        while True:
            await self._wanted.wait()
            heads = [self._heads.popleft() for _ in range(min(ROUND, len(self._heads)))]
            if not heads:  # another loop was faster
                continue
            self._running += 1
            self._mark()
            try:
                self.put(await self._round(heads))
            except Exception as error:  # noqa: BLE001  # a loop guard; the alarms bring these events back
                log.warning("light_round_failed", extra={"count": len(heads), "error": type(error).__name__})
                await asyncio.sleep(PAUSE_SECONDS)
            finally:
                self._running -= 1
                self._mark()
            raise_if_cancelled()

    def _mark(self) -> None:
        """Tell the loops and those who wait for them how things are."""
        waiting = len(self._heads)
        set_to(self._wanted, waiting > 0)
        set_to(self._room, waiting <= MAX_HEADS)
        set_to(self.idle, not waiting and not self._running)

    async def _round(self, heads: Sequence[Wake]) -> list[Wake]:
        """One step of each of these lanes; the light heads that come next."""
        # taken out before the first await: what is remembered meanwhile may push them out
        known = {head.event_id: event for head in heads if (event := self._known.pop(head.event_id, None)) is not None}
        starts = [Start(w.lane, w.event_id, os.urandom(16).hex(), want_body=w.event_id not in known) for w in heads]
        begun = [answer for answer in await self._lanes.begin(starts) if isinstance(answer, Begun)]
        failpoints.hit(FailPoint.AFTER_BEGIN)
        deliveries, unreadable = self._deliveries(begun, known)
        results = await self._results(deliveries)
        now = self._now()
        ended = [
            (delivery, self._outcome(result, delivery), frames)
            for delivery, (result, frames) in zip(deliveries, results, strict=True)
        ]
        settlements = [self._settler.settlement(delivery, outcome, now, frames) for delivery, outcome, frames in ended]
        failpoints.hit(FailPoint.BEFORE_SETTLE)
        settled = await persistently(
            lambda: self._lanes.settle([*settlements, *unreadable]), told="light_events_not_settled", within=self._lease
        )
        await self._note(ended, settled[: len(ended)])
        self._note_unreadable(unreadable, settled[len(ended) :])
        nexts = [answer.wake for answer in settled if isinstance(answer, Settled) and answer.wake is not None]
        turns = [wake for wake in nexts if not is_light(wake.type)]
        if turns:
            await self._waker.wake(turns)
        return [wake for wake in nexts if is_light(wake.type)]

    def _deliveries(
        self, begun: Sequence[Begun], known: Mapping[str, Event]
    ) -> tuple[list[Delivery], list[Settlement]]:
        """What is to be run, and the ends of what this version of the program cannot read."""
        deliveries: list[Delivery] = []
        unreadable: list[Settlement] = []
        for one in begun:
            try:
                deliveries.append(delivery_of(one, known.get(one.lease.event_id) or event_of(one)))
            except InvalidEventError as error:
                unreadable.append(self._settler.unreadable(one, error, self._now()))
        return deliveries, unreadable

    async def _note(self, ended: Sequence[Ended], settled: Sequence[Settled | SettleRefused]) -> None:
        if self._ends is not None:
            await self._ends.note(
                (delivery, outcome, answer.state)
                for (delivery, outcome, _), answer in zip(ended, settled, strict=True)
                if isinstance(answer, Settled)
            )

    def _note_unreadable(self, buried: Sequence[Settlement], settled: Sequence[Settled | SettleRefused]) -> None:
        pairs = zip(buried, settled, strict=True)
        dead = [one.dead for one, answer in pairs if isinstance(answer, Settled) and answer.state is EventState.DEAD]
        if self._ends is not None:
            self._ends.buried([letter for letter in dead if letter is not None])

    async def _results(self, deliveries: Sequence[Delivery]) -> list[LightResult]:
        """A result for each delivery: of the policies where they decide, else of the handler."""
        results: dict[int, LightResult] = {}
        fresh: list[int] = []
        for place, delivery in enumerate(deliveries):
            outcome = self._policies.judge(delivery)
            if outcome is not None:
                results[place] = (outcome, [])
            else:
                fresh.append(place)
        handled = await self._handle([deliveries[place] for place in fresh]) if fresh else []
        results.update(zip(fresh, handled, strict=True))
        return [results[place] for place in range(len(deliveries))]

    def _outcome(self, result: Outcome | WorkersError, delivery: Delivery) -> Outcome:
        return self._policies.decide(result, delivery) if isinstance(result, WorkersError) else result

    async def _handle(self, deliveries: Sequence[Delivery]) -> Sequence[LightResult]:
        """The handler's results. One event that trips the handler over does not take the batch with it."""
        try:
            async with asyncio.timeout(self._deadline_seconds):
                return await self._light(deliveries)
        except WorkersError as error:
            return [(error, [])] * len(deliveries)
        except TimeoutError:
            return [(TransientError("not handled in time", kind="TimeoutError"), [])] * len(deliveries)
        except Exception as error:  # noqa: BLE001  # the dead-letter net of the batch
            if len(deliveries) == 1:
                return [(DeadLettered(DeadReason.BUG, bug_record(error)), [])]
            return [(await self._handle([delivery]))[0] for delivery in deliveries]


def set_to(event: asyncio.Event, on: bool) -> None:
    """Set an event, or clear it."""
    if on:
        event.set()
    else:
        event.clear()


@cache
def is_light(type_: str) -> bool:
    """Whether events of this type need no model."""
    return type_.removeprefix(PREFIX) not in TURN_REQUESTS
