"""Stand-ins for the ports of the intake: lanes in memory, a waker that remembers, a handler that remembers."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

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
    EventState,
    Outcome,
    Parked,
    Retry,
)
from schemas.records import DeadLetter
from tests.builders import NOW
from workers.ingest.intake import Intake
from workers.ingest.rounds import LightRounds
from workers.lanes.records import (
    Accepted,
    Begun,
    NotBegun,
    Refused,
    Settled,
    Settlement,
    SettleRefused,
    Start,
    Wake,
)
from workers.policies.batch import LightResult
from workers.policies.delivery import Delivery, Lease
from workers.policies.retry import record_of
from workers.settle import Settler

LEASE = timedelta(seconds=0.5)


@dataclass
class MemoryLanes:
    """Lanes without Redis: enough of accept, begin and settle to show what the intake does with the answers."""

    lane_bound: int = 1_000
    full: bool = False
    failures: list[Exception] = field(default_factory=list)
    trips_over: set[str] = field(default_factory=set)
    waiting: dict[str, list[tuple[Event, str]]] = field(default_factory=dict)
    accepted: dict[str, Accepted] = field(default_factory=dict)
    settled: list[Settlement] = field(default_factory=list)
    buried: list[DeadLetter] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    starts: list[list[Start]] = field(default_factory=list)
    cancelled: set[str] = field(default_factory=set)
    spoilt: set[str] = field(default_factory=set)

    async def accept(self, events: Sequence[tuple[Event, str]]) -> list[Accepted | Refused]:
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)
        if any(event.id in self.trips_over for event, _ in events):
            raise KeyError("a bug")
        self.batches.append(len(events))
        return [self._accept(event, queue) for event, queue in events]

    def _accept(self, event: Event, queue: str) -> Accepted | Refused:
        first = self.accepted.get(event.event_id)
        if first is not None:
            return Accepted(event.event_id, first.lane, first.acceptance, first.state, duplicate=True, wake=None)
        lane = self.waiting.setdefault(event.lane, [])
        if self.full:
            return Refused(event.event_id, event.lane, "system_full", 1.0)
        if len(lane) >= self.lane_bound:
            return Refused(event.event_id, event.lane, "lane_full", 5.0)
        lane.append((event, queue))
        answer = Accepted(
            event.event_id,
            event.lane,
            len(self.accepted) + 1,
            EventState.QUEUED,
            duplicate=False,
            wake=self._head(event.lane) if len(lane) == 1 else None,
        )
        self.accepted[event.event_id] = answer
        return answer

    async def begin(self, starts: Sequence[Start]) -> list[Begun | NotBegun]:
        await asyncio.sleep(0)
        self.starts.append(list(starts))
        return [self._begin(start) for start in starts]

    def _begin(self, start: Start) -> Begun | NotBegun:
        lane = self.waiting[start.lane]
        if not lane or lane[0][0].event_id != start.event_id:
            return NotBegun("not_head")
        event = lane[0][0]
        return Begun(
            Lease(start.lane, event.event_id, "w1", start.token, 1),
            ("{" if event.event_id in self.spoilt else event.to_json()) if start.want_body else None,
            attempt=1,
            deaths=1,
            acceptance=1,
            next_frame=1,
            accepted_at=NOW,
            cancelled=CancelReason.USER if event.event_id in self.cancelled else None,
            journaled=False,
        )

    async def settle(self, settlements: Sequence[Settlement]) -> list[Settled | SettleRefused]:
        await asyncio.sleep(0)
        self.settled += settlements
        return [self._settle(settlement) for settlement in settlements]

    def _settle(self, settlement: Settlement) -> Settled | SettleRefused:
        lane = settlement.lease.lane
        if isinstance(settlement.outcome, Retry | Parked):
            return Settled(EventState.WAITING_RETRY, None)
        self.waiting[lane].pop(0)
        return Settled(EventState.DONE, self._head(lane) if self.waiting[lane] else None)

    def _head(self, lane: str) -> Wake:
        event, queue = self.waiting[lane][0]
        return Wake(lane, event.event_id, event.type, queue)

    async def bury(self, letters: Sequence[DeadLetter]) -> list[bool]:
        if self.failures:
            raise self.failures.pop(0)
        known = {letter.id for letter in self.buried}
        self.buried += letters
        return [letter.id not in known for letter in letters]


@dataclass
class RememberedWakes:
    """A waker that only remembers."""

    sent: list[Wake] = field(default_factory=list)

    async def wake(self, wakes: Sequence[Wake]) -> None:
        self.sent += wakes


@dataclass
class RememberedRuns:
    """A light handler that remembers, and answers Done with one frame unless told otherwise."""

    answer: Callable[[Delivery], Outcome | WorkersError] = lambda _delivery: Done()
    batches: list[list[str]] = field(default_factory=list)

    async def __call__(self, deliveries: Sequence[Delivery]) -> list[LightResult]:
        self.batches.append([delivery.event.id for delivery in deliveries])
        return [(self.answer(delivery), [b'{"type":"ok"}']) for delivery in deliveries]

    @property
    def order(self) -> list[str]:
        return [id_ for batch in self.batches for id_ in batch]


class PlainPolicies:
    """Ends what was stopped, drops what has a deadline; a failure is a dead letter."""

    def judge(self, delivery: Delivery) -> Outcome | None:
        if delivery.stop.reason is not None:
            return Cancelled(delivery.stop.reason)
        return Dropped(DropReason.EXPIRED) if delivery.event.expirytime else None

    def decide(self, error: WorkersError, delivery: Delivery) -> Outcome:
        return DeadLettered(DeadReason.PERMANENT, record_of(error))


@dataclass
class Bench:
    """An intake over doubles, running; `close` ends it."""

    lanes: MemoryLanes = field(default_factory=MemoryLanes)
    wakes: RememberedWakes = field(default_factory=RememberedWakes)
    runs: RememberedRuns = field(default_factory=RememberedRuns)

    def __post_init__(self) -> None:
        self.rounds = LightRounds(self.lanes, self.wakes, self.runs, PlainPolicies(), Settler("w1"), fixed_now, LEASE)
        self.intake = Intake(self.lanes, self.wakes, self.rounds, lambda event: f"q.{event.priority}")

    async def __aenter__(self) -> "Bench":
        await self.intake.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.intake.close()

    async def settle_down(self) -> None:
        """Until no light event waits."""
        await asyncio.wait_for(self.rounds.idle.wait(), 5)


def fixed_now() -> datetime:
    return NOW
