"""The lanes as a plain-Python model: what every transition answers and leaves, without Redis."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from schemas.debounce import PATIENCE
from schemas.double_text import DoubleText
from schemas.events import Event
from schemas.outcome import (
    CancelReason,
    DeadLettered,
    Done,
    Dropped,
    EventState,
    Parked,
    Released,
    Retry,
)
from workers.lanes.dead_letters import Redriven
from workers.lanes.keys import Keys
from workers.lanes.records import (
    Accepted,
    Append,
    Appended,
    AppendRefused,
    Begun,
    Cancellation,
    Joined,
    JoinRefused,
    NotBegun,
    Refused,
    RenewResult,
    RouseResult,
    Settled,
    Settlement,
    SettleRefused,
    Start,
    Wake,
)
from workers.policies.delivery import Lease

FIRST_GRACE_MS = 2_000
LAST_GRACE_MS = 300_000


STOPS = {DoubleText.INTERRUPT: CancelReason.INTERRUPTED, DoubleText.ROLLBACK: CancelReason.ROLLED_BACK}


@dataclass(slots=True)
class ModelEvent:
    """An event: `frames` are what its clients see, `endings` counts the end entries among them, one for each life."""

    id: str
    lane: str
    type: str
    queue: str
    body: str
    acceptance: int
    accepted_ms: int
    state: EventState = EventState.QUEUED
    reason: str = ""
    attempt: int = 1
    deaths: int = 0
    due_ms: int = 0
    started: bool = False
    cancel: CancelReason | None = None
    frames: list[bytes] = field(default_factory=list)
    journal: dict[str, bytes] = field(default_factory=dict)
    endings: int = 0
    lives: int = 1
    is_turn: bool = False
    steers: bool = False
    user: str = ""
    burst: int | None = None
    latest_ms: int = 0
    into: str | None = None
    failures: int = 0
    hops: int = 0
    settled: tuple[str, Settled] | None = None

    @property
    def next_frame(self) -> int:
        return len(self.frames) + self.endings + 1


@dataclass(slots=True)
class ModelLease:
    """Who has the lane."""

    owner: str
    token: str
    epoch: int
    event_id: str
    expiry_ms: int


@dataclass(slots=True)
class ModelLane:
    """The ids that wait, head first. A lane without any is forgotten."""

    waiting: list[str] = field(default_factory=list)
    lease: ModelLease | None = None
    alarm_ms: int = 0
    grace_ms: int = FIRST_GRACE_MS


@dataclass(slots=True)
class ModelShard:
    """What the lanes of a shard share."""

    acceptances: int = 0
    epoch: int = 0
    fenced: int = 0
    ended: Counter[EventState] = field(default_factory=Counter)
    letters: list[tuple[int, str]] = field(default_factory=list)
    held: set[str] = field(default_factory=set)
    redriven: int = 0


@dataclass(slots=True)
class LaneModel:
    """All lanes. `now_us` is turned by the test; `owner` is who calls."""

    keys: Keys
    lease_ms: int
    per_lane: int
    per_shard: int
    max_dead: int
    now_us: int = 0
    events: dict[str, ModelEvent] = field(default_factory=dict)
    lanes: dict[str, ModelLane] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)
    shards: defaultdict[int, ModelShard] = field(default_factory=lambda: defaultdict(ModelShard))
    graves: dict[str, int] = field(default_factory=dict)
    """Lanes that have buried an event, with the last turn that has begun since."""

    paused: bool = False

    @property
    def now_ms(self) -> int:
        return self.now_us // 1000

    def shard(self, lane: str) -> ModelShard:
        return self.shards[self.keys.shard_of(lane)]

    def in_state(self, state: EventState) -> list[str]:
        """Ids of the events in a state."""
        return [event.id for event in self.events.values() if event.state is state]

    def open_events(self, shard: int) -> list[ModelEvent]:
        """The events of a shard that have not ended."""
        return [
            event for event in self.events.values() if not event.state.ended and self.keys.shard_of(event.lane) == shard
        ]

    def accept(self, event: Event, queue: str) -> Accepted | Refused:
        lane_name = self.where.setdefault(event.event_id, event.lane)
        known = self.events.get(event.event_id)
        if known is not None:
            is_head = self.lanes[lane_name].waiting[:1] == [known.id] if lane_name in self.lanes else False
            to_run = is_head and known.state is EventState.QUEUED and known.due_ms <= self.now_ms
            wake = self.wake(known.id) if to_run else None
            return Accepted(known.id, lane_name, known.acceptance, known.state, duplicate=True, wake=wake)
        lane = self.lanes.get(lane_name, ModelLane())
        mode = event.double_text or DoubleText.ENQUEUE
        quiet_ms = round(1000 * (event.debounce_seconds or 0))
        burst = self.open_burst(lane, event.userid) if quiet_ms else []
        met = [self.events[id_] for id_ in lane.waiting if self.events[id_].is_turn]
        met = [other for other in met if not burst or other.burst != burst[0].burst]
        if mode is DoubleText.REJECT and met:
            return Refused(event.event_id, lane_name, "busy", 5.0, met[0].id)
        stopped = met if mode in STOPS else []
        if not stopped and len(lane.waiting) >= self.per_lane:
            return Refused(event.event_id, lane_name, "lane_full", 5.0)
        if len(self.open_events(self.keys.shard_of(lane_name))) >= self.per_shard:
            return Refused(event.event_id, lane_name, "system_full", 1.0)
        for other in stopped:
            self.cancel(other.id, STOPS[mode])
        lane = self.lanes.get(lane_name, ModelLane())
        shard = self.shard(lane_name)
        shard.acceptances += 1
        new = ModelEvent(event.event_id, lane_name, event.type, queue, event.to_json(), shard.acceptances, self.now_ms)
        new.is_turn, new.steers = event.needs_turn, mode is DoubleText.STEER
        self.events[new.id] = new
        self.lanes[lane_name] = lane
        new.user = event.userid
        lane.waiting.append(new.id)
        if quiet_ms:
            self.wait_for_quiet(new, burst, quiet_ms)
        wake = self.wake_after(new, burst, lane, has_stopped=bool(stopped))
        return Accepted(new.id, lane_name, new.acceptance, new.state, duplicate=False, wake=wake)

    def wake_after(
        self, new: ModelEvent, burst: list[ModelEvent], lane: ModelLane, *, has_stopped: bool
    ) -> Wake | None:
        """The head that an acceptance wakes; the alarm follows what it waits for."""
        head = self.events[lane.waiting[0]]
        if head is new:
            return self.arm(lane)
        if head in burst:
            lane.alarm_ms = head.due_ms if head.due_ms > self.now_ms else lane.alarm_ms
            return None
        return self.wake(head.id) if has_stopped and head.state is not EventState.RUNNING else None

    def open_burst(self, lane: ModelLane, user: str) -> list[ModelEvent]:
        """The turns at the end of a lane that a message of this user joins, last first."""
        found: list[ModelEvent] = []
        for other in [self.events[id_] for id_ in reversed(lane.waiting) if self.events[id_].is_turn]:
            waits = other.state is EventState.QUEUED and not other.started and other.burst is not None
            if not waits or other.user != user or (found and other.burst != found[0].burst):
                break
            found.append(other)
        return found

    def wait_for_quiet(self, new: ModelEvent, burst: list[ModelEvent], quiet_ms: int) -> None:
        """A message begins a burst, or joins one and makes it wait anew."""
        new.burst = burst[0].burst if burst else new.acceptance
        new.latest_ms = burst[0].latest_ms if burst else self.now_ms + PATIENCE * quiet_ms
        due_ms = max([min(self.now_ms + quiet_ms, new.latest_ms), *(other.due_ms for other in burst)])
        for other in [*burst, new]:
            other.due_ms = due_ms

    def arm(self, lane: ModelLane) -> Wake | None:
        """Set the alarm of a lane with a new head; that is woken now, unless it is not due."""
        head = self.events[lane.waiting[0]]
        if head.due_ms > self.now_ms:
            lane.alarm_ms = head.due_ms
            return None
        lane.alarm_ms = self.now_ms + FIRST_GRACE_MS
        return self.wake(head.id)

    def begin(self, start: Start, owner: str) -> Begun | NotBegun:
        event = self.events.get(start.event_id)
        # a wake-up for another lane may look into another shard, where nobody knows the event
        if event is None or self.keys.shard_of(event.lane) != self.keys.shard_of(start.lane):
            return NotBegun("unknown")
        if event.state.ended:
            return NotBegun("ended")
        lane = self.lanes[event.lane]
        if event.lane != start.lane or lane.waiting[0] != event.id:
            return NotBegun("not_head")
        repeated = lane.lease is not None and lane.lease.token == start.token
        if not repeated:
            if lane.lease is not None and lane.lease.expiry_ms > self.now_ms:
                return NotBegun("leased")
            if event.due_ms > self.now_ms:
                return NotBegun("not_due")
            shard = self.shard(event.lane)
            if self.paused:
                shard.held.add(event.lane)
                return NotBegun("paused")
            if event.is_turn and self.graves.get(event.lane, event.acceptance) < event.acceptance:
                self.graves[event.lane] = event.acceptance
            shard.epoch = max(shard.epoch + 1, self.now_us)
            event.deaths += 1
            event.state, event.started = EventState.RUNNING, True
            lane.lease = ModelLease(owner, start.token, shard.epoch, event.id, 0)
            lane.grace_ms = FIRST_GRACE_MS
        assert lane.lease is not None
        lane.lease.expiry_ms = lane.alarm_ms = self.now_ms + self.lease_ms
        return Begun(
            lease=Lease(event.lane, event.id, owner, start.token, lane.lease.epoch),
            body=event.body if start.want_body else None,
            attempt=event.attempt,
            deaths=event.deaths,
            acceptance=event.acceptance,
            next_frame=event.next_frame,
            accepted_at=datetime.fromtimestamp(event.accepted_ms / 1000, UTC),
            cancelled=event.cancel,
            journaled=bool(event.journal),
            redriven=event.lives > 1,
            queue=event.queue,
            hops=event.hops,
        )

    def renew(self, lease: Lease) -> RenewResult:
        held = self.held_lane(lease)
        if held is None or held.lease is None:
            return "lost"
        held.lease.expiry_ms = held.alarm_ms = self.now_ms + self.lease_ms
        return self.events[lease.event_id].cancel or "held"

    def append(self, append: Append) -> Appended | AppendRefused:
        event = self.events[append.lease.event_id]
        if self.held_lane(append.lease) is None:
            self.shard(event.lane).fenced += 1
            return AppendRefused("ended" if event.state.ended else "stale", event.next_frame)
        if event.cancel is not None:
            return AppendRefused("cancelled", event.next_frame)
        if append.first > event.next_frame:
            return AppendRefused("gap", event.next_frame)
        event.frames += append.frames[event.next_frame - append.first :]
        if append.step is not None:
            event.journal[append.step.name] = append.step.entry
        return Appended(event.next_frame)

    def join(self, lease: Lease, step: str) -> Joined | JoinRefused:
        """Messages that steer leave the lane for the journal of the turn that runs."""
        event = self.events[lease.event_id]
        lane = self.held_lane(lease)
        if lane is None:
            self.shard(event.lane).fenced += 1
            return JoinRefused("stale")
        if event.cancel is not None:
            return JoinRefused("cancelled")
        for other in [self.events[id_] for id_ in lane.waiting[1:] if self.events[id_].is_turn]:
            joins = other.steers or (other.burst is not None and other.burst == event.burst)
            if not joins or other.state is not EventState.QUEUED or other.next_frame > 1:
                break
            if self.paused:
                self.shard(event.lane).held.add(event.lane)
                break
            event.journal[f"{step}:{other.acceptance}:{other.id}"] = b"[]\n" + other.body.encode()
            other.into = event.id
            self.end(other, EventState.DONE, "", ())
            if self.graves.get(event.lane, other.acceptance) < other.acceptance:
                self.graves[event.lane] = other.acceptance
        return Joined({name: entry for name, entry in event.journal.items() if name.startswith(f"{step}:")})

    def settle(self, settlement: Settlement) -> Settled | SettleRefused:
        lease, outcome = settlement.lease, settlement.outcome
        event = self.events[lease.event_id]
        if event.settled is not None and event.settled[0] == lease.token:
            said = event.settled[1]
            return Settled(said.state, self.wake(said.wake.event_id) if said.wake else None)
        lane = self.held_lane(lease)
        if lane is None:
            self.shard(event.lane).fenced += 1
            return SettleRefused()
        hop = outcome.queue if isinstance(outcome, Released) else None
        waits = isinstance(outcome, Retry | Parked | Released)
        rolled_back = event.cancel is CancelReason.ROLLED_BACK
        if rolled_back and not waits and state_after(settlement) is not EventState.CANCELLED:
            return SettleRefused("rollback")
        is_begun_again = waits and (hop is not None or rolled_back or event.next_frame > 1)
        if event.cancel is not None and not is_begun_again:
            frames = settlement.final_frames if state_after(settlement) is EventState.CANCELLED else ()
            if isinstance(outcome, Dropped | DeadLettered):
                frames = settlement.final_frames[:-1]
            answer = self.end(event, EventState.CANCELLED, event.cancel, frames)
        elif isinstance(outcome, Retry | Parked | Released):
            answer = self.give_back(event, lane, settlement)
        else:
            reason = "" if isinstance(outcome, Done) else str(outcome.reason)
            if isinstance(outcome, DeadLettered):
                event.failures += outcome.error is not None
                self.bury(event)
            answer = self.end(event, state_after(settlement), reason, settlement.final_frames)
        event.settled = (lease.token, answer)
        return answer

    def give_back(self, event: ModelEvent, lane: ModelLane, settlement: Settlement) -> Settled:
        """The event stays the head, so that the order is kept."""
        event.state, event.deaths = state_after(settlement), event.deaths - 1
        delay = settlement.delay if event.cancel is None else min(settlement.delay, timedelta(seconds=1))
        event.due_ms = lane.alarm_ms = self.now_ms + delay // timedelta(milliseconds=1)
        lane.lease, lane.grace_ms = None, FIRST_GRACE_MS
        if isinstance(settlement.outcome, Retry):
            event.attempt, event.deaths = event.attempt + 1, 0
            event.failures += 1
        if isinstance(settlement.outcome, Released):
            if settlement.outcome.queue is not None:
                event.queue, event.hops = settlement.outcome.queue, event.hops + 1
            lane.alarm_ms = self.now_ms + FIRST_GRACE_MS
            return Settled(event.state, self.wake(event.id))
        return Settled(event.state, None)

    def end(self, event: ModelEvent, state: EventState, reason: str, frames: object) -> Settled:
        """Close the event; if it was the head, the lane moves on."""
        assert isinstance(frames, tuple)
        event.frames += frames
        event.state, event.reason, event.deaths = state, reason, 0
        if state is not EventState.DEAD:
            event.journal.clear()  # nobody will go on from it
        event.endings += 1
        self.shard(event.lane).ended[state] += 1
        lane = self.lanes[event.lane]
        was_head = lane.waiting[0] == event.id
        lane.waiting.remove(event.id)
        if not lane.waiting:
            del self.lanes[event.lane]
            return Settled(state, None)
        if not was_head:
            return Settled(state, None)
        lane.lease, lane.grace_ms = None, FIRST_GRACE_MS
        return Settled(state, self.arm(lane))

    def bury(self, event: ModelEvent) -> None:
        letters = self.shard(event.lane).letters
        letters.append((self.now_ms, event.id))
        letters.sort()
        del letters[: -self.max_dead]
        self.graves.setdefault(event.lane, 0)

    def redrive(self, event_id: str, frame: bytes, *, force: bool) -> Redriven:
        """Another life for a dead event, in its old place."""
        event = self.events.get(event_id)
        if event is None or not self.purge(event_id, only_look=True):
            return Redriven("gone")
        if self.graves[event.lane] > event.acceptance and not force:
            return Redriven("superseded")
        self.purge(event_id)
        self.shard(event.lane).redriven += 1
        event.frames.append(frame)
        event.state, event.attempt, event.deaths, event.due_ms = EventState.QUEUED, 1, 0, 0
        event.accepted_ms, event.started, event.cancel, event.settled = self.now_ms, False, None, None
        event.lives += 1
        event.hops, event.burst = 0, None
        lane = self.lanes.setdefault(event.lane, ModelLane())
        others = [self.events[id_] for id_ in lane.waiting]
        place = [not other.started and other.acceptance > event.acceptance for other in others]
        lane.waiting.insert(place.index(True) if any(place) else len(others), event.id)
        if lane.waiting[0] != event.id:
            return Redriven("redriven")
        lane.alarm_ms = self.now_ms + FIRST_GRACE_MS
        return Redriven("redriven", self.wake(event.id))

    def purge(self, event_id: str, *, only_look: bool = False) -> int:
        """Forget a dead letter; how many there were."""
        kept = [(shard, letter) for shard in self.shards.values() for letter in shard.letters if letter[1] == event_id]
        for shard, letter in () if only_look else kept:
            shard.letters.remove(letter)
        return len(kept)

    def rouse(self, wake: Wake) -> RouseResult:
        """What the event waited for has come."""
        event = self.events.get(wake.event_id)
        if event is None or self.keys.shard_of(event.lane) != self.keys.shard_of(wake.lane):
            return "gone"
        if event.state is EventState.RUNNING:
            return "coming"
        if event.state not in (EventState.WAITING_LIMIT, EventState.QUEUED) or event.lane != wake.lane:
            return "gone"
        if self.paused:
            self.shard(event.lane).held.add(event.lane)
        if event.state is EventState.QUEUED:
            return "gone" if self.paused else "coming"
        event.due_ms = self.now_ms
        if self.paused:
            return "gone"
        self.lanes[event.lane].alarm_ms = self.now_ms + FIRST_GRACE_MS
        return "wake"

    def resume(self) -> bool:
        """What was refused meanwhile is looked at by the next sweep."""
        was_paused, self.paused = self.paused, False
        for shard in self.shards.values():
            for name in shard.held & self.lanes.keys():
                lane = self.lanes[name]
                lane.grace_ms, lane.alarm_ms = FIRST_GRACE_MS, min(lane.alarm_ms, self.now_ms)
            shard.held.clear()
        return was_paused

    def cancel(self, event_id: str, reason: CancelReason) -> Cancellation:
        event = self.events.get(event_id)
        if event is None:
            return Cancellation("unknown")
        if event.into is not None:
            return self.cancel(event.into, reason)
        if event.state.ended:
            return Cancellation("ended")
        if event.state is EventState.RUNNING:
            event.cancel = event.cancel or reason
            return Cancellation("cancelling")
        if event.next_frame > 1:
            event.cancel, event.due_ms = event.cancel or reason, self.now_ms
            self.lanes[event.lane].alarm_ms = self.now_ms + FIRST_GRACE_MS
            return Cancellation("cancelling", self.wake(event.id))
        return Cancellation("cancelled", self.end(event, EventState.CANCELLED, reason, ()).wake)

    def sweep(self) -> list[Wake]:
        wakes = []
        for lane in self.lanes.values():
            if lane.alarm_ms > self.now_ms:
                continue
            head = self.events[lane.waiting[0]]
            later = max(lane.lease.expiry_ms if lane.lease else 0, head.due_ms)
            if later > self.now_ms:
                lane.alarm_ms = later
                continue
            wakes.append(self.wake(head.id))
            lane.alarm_ms = self.now_ms + lane.grace_ms
            lane.grace_ms = min(lane.grace_ms * 2, LAST_GRACE_MS)
        return wakes

    def wake(self, event_id: str) -> Wake:
        event = self.events[event_id]
        return Wake(event.lane, event.id, event.type, event.queue)

    def held_lane(self, lease: Lease) -> ModelLane | None:
        """The lane, if the lease holds it. Expiry alone takes nothing away."""
        lane = self.lanes.get(lease.lane)
        if lane is None or lane.lease is None:
            return None
        held = lane.lease
        return lane if (held.owner, held.epoch, held.event_id) == (lease.owner, lease.epoch, lease.event_id) else None


def state_after(settlement: Settlement) -> EventState:
    """The state that an outcome leads to when nobody asked to stop the event."""
    return {
        "Done": EventState.DONE,
        "Dropped": EventState.DROPPED,
        "Cancelled": EventState.CANCELLED,
        "Retry": EventState.WAITING_RETRY,
        "Parked": EventState.WAITING_LIMIT,
        "Released": EventState.QUEUED,
        "DeadLettered": EventState.DEAD,
    }[type(settlement.outcome).__name__]
