"""Builders for tests of lanes: events, a clock to turn, lanes on any client."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from schemas.double_text import DoubleText
from schemas.events import Event, parse_event
from schemas.outcome import (
    DeadLettered,
    DeadReason,
    Done,
    ErrorRecord,
    Outcome,
    Parked,
    ParkReason,
    Released,
    ReleaseReason,
    Retry,
    RetryReason,
)
from schemas.records import DeadLetter
from workers.lanes.connection import State
from workers.lanes.keys import Keys
from workers.lanes.lanes import NO_DEBOUNCE, NO_DEFAULTS, Lanes
from workers.lanes.records import Begun, Settlement, Start
from workers.policies.delivery import Lease

QUEUE = "chatkit.background"
LEASE = timedelta(seconds=10)
FRAME = b'{"type":"progress_update","text":"a/b \\u00e9"}'


class TurnedClock:
    """Microseconds since 1970 that pass only when the test says so."""

    def __init__(self) -> None:
        self.us = 1_800_000_000_000_000

    def __call__(self) -> int:
        return self.us

    @property
    def ms(self) -> int:
        return self.us // 1000

    def turn(self, duration: timedelta) -> None:
        self.us += round(duration.total_seconds() * 1_000_000)


@cache
def event(name: str = "e1", thread: str = "thr_1", *, tenant: str = "acme", user: str = "u1") -> Event:
    """Feedback on a thread. The same name is the same event, whatever thread it says."""
    params = {"thread_id": thread, "item_ids": ["msg_1"], "kind": "positive"}
    return parse_event(
        {
            "specversion": "1.0",
            "id": name,
            "source": "/tests",
            "type": "chatkit.items.feedback",
            "tenant": tenant,
            "userid": user,
            "data": {"type": "items.feedback", "params": params},
        }
    )


def lanes_on(
    state: State,
    keys: Keys,
    clock: TurnedClock | None = None,
    *,
    owner: str = "worker-1",
    lease: timedelta = LEASE,
    per_lane: int = 1000,
    waiting: int = 100_000,
    retention: timedelta = timedelta(days=1),
    max_dead: int = 1000,
    double_text: Mapping[str, DoubleText] = NO_DEFAULTS,
    debounce: Mapping[str, float] = NO_DEBOUNCE,
) -> Lanes:
    """Lanes of one worker."""
    return Lanes(
        state,
        keys,
        owner=owner,
        lease=lease,
        max_waiting_per_lane=per_lane,
        max_waiting=waiting,
        retention=retention,
        max_dead=max_dead,
        double_text=double_text,
        debounce=debounce,
        clock=clock,
    )


@dataclass(frozen=True, slots=True)
class Deployment:
    """One deployment as a test sees it: two workers, their clock, and the raw state."""

    state: State
    keys: Keys
    clock: TurnedClock
    lanes: Lanes
    other: Lanes

    async def accepted(self, *events: Event) -> None:
        await self.lanes.accept([(item, QUEUE) for item in events])

    async def begun(self, item: Event, token: str = "t1", *, lanes: Lanes | None = None) -> Begun:
        """Begin an event that must begin."""
        [answer] = await (lanes or self.lanes).begin([Start(item.lane, item.event_id, token)])
        assert isinstance(answer, Begun), answer
        return answer

    async def started(self, *events: Event) -> Lease:
        """Accept events of a lane and begin the first."""
        await self.accepted(*events)
        return (await self.begun(events[0])).lease

    async def frames(self, item: Event) -> list[tuple[bytes, dict[bytes, bytes]]]:
        entries: Any = await self.state.xrange(self.keys.stream(item.lane, item.event_id))
        return list(entries)

    async def alarm_ms(self, item: Event) -> int | None:
        """When the event's lane rings, in ms from now."""
        score = await self.state.zscore(f"{self.keys.tag_of(item.lane)}alarms", item.lane)
        return None if score is None else int(score) - self.clock.ms


def deployment_on(state: State, prefix: str, *, shards: int = 2) -> Deployment:
    keys, clock = Keys(prefix, shards), TurnedClock()
    return Deployment(state, keys, clock, lanes_on(state, keys, clock), lanes_on(state, keys, clock, owner="worker-2"))


def done(lease: Lease, *frames: bytes) -> Settlement:
    return Settlement(lease, Done(), final_frames=frames)


def parked(lease: Lease, delay: timedelta = timedelta(seconds=7)) -> Settlement:
    return Settlement(lease, Parked(ParkReason.RATE_LIMIT, delay), delay=delay)


def released(lease: Lease) -> Settlement:
    return Settlement(lease, Released(ReleaseReason.SHUTDOWN))


def retry(lease: Lease, delay: timedelta = timedelta(seconds=3)) -> Settlement:
    failure = ErrorRecord(kind="TransientError", message='503 "busy"')
    return Settlement(lease, Retry(RetryReason.TRANSIENT, delay, failure), delay=delay)


def dead(lease: Lease, frames: Sequence[bytes] = ()) -> Settlement:
    outcome: Outcome = DeadLettered(DeadReason.PERMANENT, ErrorRecord(kind="PermanentError", message="400"))
    return Settlement(lease, outcome, dead=letter(lease.event_id), final_frames=frames)


def letter(id_: str, reason: DeadReason = DeadReason.PERMANENT) -> DeadLetter:
    return DeadLetter(id=id_, reason=reason, died_at=datetime(2027, 1, 1, tzinfo=UTC), body='{"a":1}')
