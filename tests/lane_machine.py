"""A hypothesis state machine that drives the scripts and the model side by side.

Crashes, lost replies, lost and doubled wake-ups, stale workers, cancels at any moment, an event published to two lanes,
pauses, redriven and forgotten dead letters, forgotten scripts: after each step the state equals the model's, and the
invariants hold on the raw keys.
"""

import asyncio
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from schemas.events import Event
from schemas.outcome import (
    Cancelled,
    CancelReason,
    DeadLettered,
    Done,
    Dropped,
    DropReason,
    EventState,
    Outcome,
    Parked,
    ParkReason,
    Released,
    ReleaseReason,
    Retry,
)
from tests.builders import message_event
from tests.lane_builders import LEASE, QUEUE, TurnedClock, dead, event, lanes_on, retry
from tests.lane_model import LaneModel
from workers.lanes.connection import State
from workers.lanes.dead_letters import TRYING_AGAIN
from workers.lanes.keys import Keys
from workers.lanes.pauses import Paused
from workers.lanes.records import Append, Begun, JournalStep, Settlement, Start, Wake
from workers.lanes.scripts import pipeline_of
from workers.policies.delivery import Lease

THREADS = ("thr_a", "thr_b", "thr_c")
NAMES = tuple(f"e{number}" for number in range(9))
TURNS = NAMES[:7]
"""A turn that has begun supersedes what died before it."""
MODES = {"e1": "steer", "e2": "interrupt", "e3": "rollback", "e4": "reject"}
"""How those meet other turns of their lane that do not wait."""
QUIET = {"e1": 2, "e3": 0.7, "e5": 2, "e6": 3}
"""How many seconds those want their lane to be quiet for."""


@cache
def published(name: str, thread: str = THREADS[0]) -> Event:
    """An event of either kind; the same name is the same event, whatever thread it says."""
    if name in TURNS:
        mode, quiet = MODES.get(name, "enqueue"), QUIET.get(name)
        return message_event(thread, id=name, tenant="acme", double_text=mode, debounce=quiet)
    return event(name, thread)


EVENTS = {published(name).event_id: name for name in NAMES}
LANES = tuple(published("e0", thread).lane for thread in THREADS)
PAUSE = Paused("tenant", "acme")
PER_LANE, WAITING, MAX_DEAD, SHARDS = 4, 12, 2, 2

STEPS = ("", "r0", "t0:call")
index = st.integers(min_value=0, max_value=1_000)
publications = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(THREADS)), min_size=1, max_size=4)
durations = st.sampled_from([1, 700, 2_000, 3_000, 10_001, 60_000, 300_000])
outcomes: st.SearchStrategy[Outcome | str] = st.sampled_from(
    [
        Done(),
        Dropped(DropReason.EXPIRED),
        Cancelled(CancelReason.USER),
        Parked(ParkReason.RATE_LIMIT, timedelta(seconds=2)),
        Released(ReleaseReason.SHUTDOWN),
        Released(ReleaseReason.HANDOFF, "chatkit.agent.other"),
        "retry",
        "dead",
    ]
)


@dataclass(slots=True)
class Raw:
    """What stands in the state, read with nothing of the code under test."""

    events: dict[str, dict[str, str]]
    streams: dict[str, list[tuple[str, dict[str, str]]]]
    journals: dict[str, dict[str, str]]
    waiting: dict[str, list[str]]
    leases: dict[str, dict[str, str]]
    alarms: dict[str, int]
    ready: dict[str, int]
    refused: set[str]
    open: set[str]
    counts: Counter[str]
    dead: set[str]


class LaneMachine(RuleBasedStateMachine):
    """Two workers, a few lanes in two shards, and whatever can happen to them."""

    def __init__(self, connect: Callable[[], State]) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.clock = TurnedClock()
        self.keys = Keys(f"m{uuid.uuid4().hex[:10]}", SHARDS)
        self.state = self.loop.run(self._connect(connect))
        self.workers = [self._worker("worker-1"), self._worker("worker-2")]
        self.model = LaneModel(
            self.keys, LEASE // timedelta(milliseconds=1), PER_LANE, WAITING // SHARDS, MAX_DEAD, self.clock.us
        )
        self.wakes: list[Wake] = []
        self.runs: list[Begun] = []
        self.starts: list[tuple[Start, int]] = []
        self.settlements: list[Settlement] = []
        self.begun_order: dict[str, list[str]] = {lane: [] for lane in LANES}
        self.forced: set[str] = set()
        self.ended: dict[str, Any] = {}
        self.raw: Raw | None = None

    async def _connect(self, connect: Callable[[], State]) -> State:
        return connect()  # inside the loop: a cluster client asks for the running one

    def _worker(self, owner: str) -> Any:
        return lanes_on(
            self.state, self.keys, self.clock, owner=owner, per_lane=PER_LANE, waiting=WAITING, max_dead=MAX_DEAD
        )

    def teardown(self) -> None:
        try:
            self._heal()
        finally:
            self.loop.run(self.state.aclose())
            self.loop.close()

    # -- what clients do

    @initialize()
    def a_lane_is_busy(self) -> None:
        """Most faults need a turn that runs and another behind it."""
        self.publish([("e0", THREADS[0]), ("e1", THREADS[0]), ("e2", THREADS[1])])
        self.take_up_a_wake(which=1, worker=0, doubled=False, want_body=True)

    @rule(batch=publications)
    def publish(self, batch: list[tuple[str, str]]) -> None:
        events = [published(name, thread) for name, thread in batch]
        answers = self.loop.run(self.workers[0].accept([(item, QUEUE) for item in events]))
        assert answers == [self.model.accept(item, QUEUE) for item in events]
        self.wakes += [answer.wake for answer in answers if getattr(answer, "wake", None)]

    @precondition(lambda self: self.runs)
    @rule(which=index, reason=st.sampled_from(CancelReason))
    def cancel_what_runs(self, which: int, reason: CancelReason) -> None:
        self.cancel(EVENTS[self._run(which).lease.event_id], reason)

    @rule(name=st.sampled_from([*NAMES, "never published"]), reason=st.sampled_from(CancelReason))
    def cancel(self, name: str, reason: CancelReason) -> None:
        id_ = published(name).event_id
        answer = self.loop.run(self.workers[1].cancel(id_, reason))
        assert answer == self.model.cancel(id_, reason)
        self.wakes += [answer.wake] if answer.wake else []

    # -- what workers do

    @precondition(lambda self: self.wakes)
    @rule(which=index, worker=st.integers(0, 1), doubled=st.booleans(), want_body=st.booleans())
    def take_up_a_wake(self, which: int, worker: int, doubled: bool, want_body: bool) -> None:
        wake = self.wakes[-1 - which % min(3, len(self.wakes))]
        if not doubled:
            self.wakes.remove(wake)
        self._begin(Start(wake.lane, wake.event_id, uuid.uuid4().hex, want_body), worker)

    @rule(name=st.sampled_from(NAMES), lane=st.sampled_from([None, None, None, *LANES]), worker=st.integers(0, 1))
    def take_up_anything(self, name: str, lane: str | None, worker: int) -> None:
        id_ = published(name).event_id
        self._begin(Start(lane or self.model.where.get(id_, LANES[0]), id_, uuid.uuid4().hex), worker)

    @precondition(lambda self: self.starts)
    @rule()
    def ask_again_after_a_lost_reply_of_begin(self) -> None:
        self._begin(*self.starts[-1])

    def _begin(self, start: Start, worker: int) -> None:
        [answer] = self.loop.run(self.workers[worker].begin([start]))
        assert answer == self.model.begin(start, f"worker-{worker + 1}")
        self.starts.append((start, worker))
        if isinstance(answer, Begun) and answer not in self.runs:
            self.runs.append(answer)
            self.begun_order[start.lane].append(answer.lease.event_id)
            self._check_order(start.lane)

    @precondition(lambda self: self.runs)
    @rule(
        which=index, shift=st.sampled_from([0, 0, 0, -1, -2, 1]), count=st.integers(0, 3), step=st.sampled_from(STEPS)
    )
    def append(self, which: int, shift: int, count: int, step: str) -> None:
        self._append(self._run(which).lease, shift, count, step)

    def _append(self, lease: Lease, shift: int, count: int, step: str = "") -> None:
        first = max(1, self.model.events[lease.event_id].next_frame + shift)
        frames = [f'{{"{lease.epoch}":{first + offset}}}'.encode() for offset in range(count)]
        kept = JournalStep(step, f"{lease.epoch}".encode()) if step else None
        wish = Append(lease, first, frames, kept)
        assert self.loop.run(self.workers[0].append([wish])) == [self.model.append(wish)]

    @precondition(lambda self: self.runs)
    @rule(which=index, step=st.sampled_from(["s0", "s1"]))
    def join(self, which: int, step: str) -> None:
        lease = self._run(which).lease
        assert self.loop.run(self.workers[0].join(lease, step)) == self.model.join(lease, step)

    @precondition(lambda self: self.runs)
    @rule(which=index, outcome=outcomes, frames=st.integers(0, 2))
    def settle(self, which: int, outcome: Outcome | str, frames: int) -> None:
        lease = self._run(which).lease
        last = tuple(f'{{"last":{number}}}'.encode() for number in range(frames))
        self._settle(self._settlement(outcome, lease, last))

    @precondition(lambda self: self.settlements)
    @rule(which=index)
    def ask_again_after_a_lost_reply_of_settle(self, which: int) -> None:
        self._settle(self.settlements[which % len(self.settlements)])

    def _settlement(self, outcome: Outcome | str, lease: Lease, last: tuple[bytes, ...]) -> Settlement:
        match outcome:
            case "retry":
                return retry(lease)
            case "dead":
                return dead(lease, last)
            case Parked(delay=delay):
                return Settlement(lease, outcome, delay=delay)
            case Released():
                return Settlement(lease, outcome)
            case Done() | Dropped() | Cancelled() | Retry() | DeadLettered():
                return Settlement(lease, outcome, final_frames=last)
            case _:
                raise AssertionError(outcome)

    def _settle(self, settlement: Settlement) -> None:
        """What is to be rolled back ends in no other way: its worker hears of that, and says so."""
        [answer] = self.loop.run(self.workers[1].settle([settlement]))
        assert answer == self.model.settle(settlement)
        self.settlements.append(settlement)
        self.wakes += [answer.wake] if getattr(answer, "wake", None) else []

    @precondition(lambda self: self.runs)
    @rule(which=index)
    def renew(self, which: int) -> None:
        lease = self._run(which).lease
        assert self.loop.run(self.workers[0].renew([lease])) == [self.model.renew(lease)]

    def _run(self, which: int) -> Begun:
        """Any run that ever began, the latest ones more often: a worker may be alive and stale."""
        return self.runs[-1 - which % min(3, len(self.runs))] if which % 4 else self.runs[which % len(self.runs)]

    # -- what happens to them

    @precondition(lambda self: self.runs)
    @rule(which=index)
    def crash(self, which: int) -> None:
        """The worker of a run says no more, and its lease runs out: another begins the event."""
        run = self.runs.pop(-1 - which % min(3, len(self.runs)))
        self.time_passes(10_001)
        self._begin(Start(run.lease.lane, run.lease.event_id, uuid.uuid4().hex), which % 2)

    @precondition(lambda self: self.runs)
    @rule(which=index, count=st.integers(1, 3))
    def a_stale_worker_goes_on(self, which: int, count: int) -> None:
        """Another begins the event after the lease ran out; the first one comes back and still writes and settles."""
        stale = self._run(which)
        self.time_passes(10_001)
        self._begin(Start(stale.lease.lane, stale.lease.event_id, uuid.uuid4().hex), 0)
        self._append(stale.lease, 0, count)
        self._settle(Settlement(stale.lease, Done()))

    @precondition(lambda self: self.wakes)
    @rule(which=index)
    def lose_a_wake(self, which: int) -> None:
        self.wakes.pop(which % len(self.wakes))

    @rule(ms=durations)
    def time_passes(self, ms: int) -> None:
        self.clock.turn(timedelta(milliseconds=ms))
        self.model.now_us = self.clock.us

    @rule()
    def sweep(self) -> None:
        self._sweep()

    @rule()
    def the_server_forgets_the_scripts(self) -> None:
        self.loop.run(self._forget_scripts())

    async def _forget_scripts(self) -> None:
        await self.state.script_flush()

    @rule(on=st.sampled_from([False, False, False, True]))
    def pause(self, on: bool) -> None:
        pauses = self.workers[0].pauses
        if on:
            assert self.loop.run(pauses.pause(PAUSE)) is not self.model.paused
            self.model.paused = True
        else:
            assert self.loop.run(pauses.resume(PAUSE)) == self.model.resume()

    @precondition(lambda self: self.model.lanes)
    @rule(which=index, ms=durations)
    def a_lane_is_refused_while_all_is_paused(self, which: int, ms: int) -> None:
        self.pause(on=True)
        name = sorted(self.model.lanes)[which % len(self.model.lanes)]
        self._begin(Start(name, self.model.lanes[name].waiting[0], uuid.uuid4().hex), 0)
        self.time_passes(ms)
        self.pause(on=False)

    @precondition(lambda self: self._live_leases())
    @rule(which=index, ms=st.sampled_from([0, 1_999, 2_000]), paused=st.booleans())
    def an_event_waits_and_is_roused(self, which: int, ms: int, paused: bool) -> None:
        live = self._live_leases()
        lease, delay = live[which % len(live)], timedelta(seconds=2)
        self._settle(Settlement(lease, Parked(ParkReason.RATE_LIMIT, delay), delay=delay))
        if paused:
            self.pause(on=True)
        self.time_passes(ms)
        self._rouse(lease.event_id)
        if paused:
            self.pause(on=False)

    @rule(name=st.sampled_from(NAMES), lane=st.sampled_from([None, *LANES]))
    def rouse_anything(self, name: str, lane: str | None) -> None:
        self._rouse(published(name).event_id, lane)

    def _rouse(self, id_: str, lane: str | None = None) -> None:
        wake = Wake(lane or self.model.where.get(id_, LANES[0]), id_, "any", QUEUE)
        assert self.loop.run(self.workers[0].rouse([wake])) == [self.model.rouse(wake)]

    @precondition(lambda self: self._live_leases())
    @rule(which=index, force=st.sampled_from([False, False, True]), later=st.integers(0, 2))
    def an_event_dies_and_is_redriven(self, which: int, force: bool, later: int) -> None:
        """Meanwhile its lane may go on."""
        live = self._live_leases()
        lease = live[which % len(live)]
        self._settle(dead(lease))
        for _ in range(later):
            if lane := self.model.lanes.get(lease.lane):
                self._begin(Start(lease.lane, lane.waiting[0], uuid.uuid4().hex), 0)
                self._settle(Settlement(self.runs[-1].lease, Done()))
        self._redrive(lease.event_id, force=force)

    def _live_leases(self) -> list[Lease]:
        return [run.lease for run in self.runs if self.model.held_lane(run.lease) is not None]

    @rule(name=st.sampled_from(NAMES), force=st.booleans())
    def redrive_anything(self, name: str, force: bool) -> None:
        self._redrive(published(name).event_id, force=force)

    def _redrive(self, id_: str, *, force: bool) -> None:
        answer = self.loop.run(self.workers[0].dead_letters.redrive(id_, force=force))
        assert answer == self.model.redrive(id_, TRYING_AGAIN, force=force)
        if answer.result == "redriven":
            self.ended.pop(id_, None)
            self.forced |= {id_} if force else set()
        self.wakes += [answer.wake] if answer.wake else []

    @precondition(lambda self: self.model.in_state(EventState.DEAD))
    @rule(which=index)
    def purge(self, which: int) -> None:
        dead_ones = self.model.in_state(EventState.DEAD)
        id_ = dead_ones[which % len(dead_ones)]
        assert self.loop.run(self.workers[0].dead_letters.purge([id_])) == self.model.purge(id_)

    def _sweep(self) -> list[Wake]:
        wakes: list[Wake] = self.loop.run(self.workers[0].sweep())
        assert sorted(wakes, key=str) == sorted(self.model.sweep(), key=str)
        self.wakes += wakes
        return wakes

    def _heal(self) -> None:
        """No more faults: with nothing but the alarms, every accepted event ends."""
        self.pause(on=False)
        for _ in range(4 * len(self.model.events) + 4):
            if not self.model.lanes:
                break
            self.time_passes(300_001)
            for wake in self._sweep():
                token = uuid.uuid4().hex
                self._begin(Start(wake.lane, wake.event_id, token), 0)
                assert self.runs[-1].lease.token == token, "a woken lane could not be begun"
                self._settle(Settlement(self.runs[-1].lease, Done()))
                if self.runs[-1].cancelled is CancelReason.ROLLED_BACK:
                    self._settle(Settlement(self.runs[-1].lease, Cancelled(CancelReason.ROLLED_BACK)))
            self.invariants_hold()
        assert not self.model.lanes, "a lane that nobody woke"

    # -- what must always be true

    @invariant()
    def invariants_hold(self) -> None:
        raw = self.raw = self.loop.run(self._read())
        self._equals_the_model(raw)
        assert set(raw.alarms) == {lane for lane, ids in raw.waiting.items() if ids}, "a lane with work has an alarm"
        live = {id_ for id_, fields in raw.events.items() if not EventState(fields["state"]).ended}
        assert raw.open == live == {id_ for ids in raw.waiting.values() for id_ in ids}
        tally = Counter(fields["state"] for fields in raw.events.values())
        tally[EventState.DEAD] += sum(shard.redriven for shard in self.model.shards.values())  # it counts deaths
        assert {state: raw.counts[state] for state in EventState} == {state: tally[state] for state in EventState}
        for id_, fields in raw.events.items():
            self._check_event(raw, id_, fields)
        self._check_ready(raw)

    def _check_ready(self, raw: Raw) -> None:
        """Ready is each lane whose head needs nothing but a worker, from when it does."""
        now = self.clock.ms
        for lane, ids in raw.waiting.items():
            if not ids:
                assert lane not in raw.ready
                continue
            head = raw.events[ids[0]]
            state, due = EventState(head["state"]), int(head.get("due", "0"))
            if state is EventState.QUEUED or state is EventState.WAITING_RETRY:
                assert lane in raw.ready or lane in raw.refused, (lane, head, raw.ready, now)
            if lane in raw.ready and state is EventState.RUNNING:
                assert int(raw.leases[lane]["expiry"]) <= now, "what runs needs no other worker"
            if lane in raw.ready and state is not EventState.RUNNING:
                assert due <= max(now, raw.ready[lane]), "what has to wait needs no worker"

    def _check_order(self, lane: str) -> None:
        """Nothing begins once a later-accepted event has, but for what was redriven: that only asks for the turns."""
        *before, newest = [self.model.events[id_] for id_ in self.begun_order[lane]]
        if newest.id in self.forced:
            return
        later = [one.id for one in before if one.acceptance > newest.acceptance and (one.is_turn or newest.lives == 1)]
        assert not later, f"{newest.id} began after {later}"

    def _check_event(self, raw: Raw, id_: str, fields: dict[str, str]) -> None:
        stream = raw.streams[id_]
        numbers = [frame_id for frame_id, _ in stream]
        assert numbers == [f"{fields['acceptance']}-{n}" for n in range(1, len(stream) + 1)], "frames without a gap"
        ends = ["e" in entry for _, entry in stream]
        ended = EventState(fields["state"]).ended
        assert sum(ends) == self.model.events[id_].lives - int(not ended)
        assert not ended or ends[-1]
        lease = raw.leases[fields["lane"]]
        if fields["state"] == EventState.RUNNING:
            assert lease["event"] == id_ == raw.waiting[fields["lane"]][0], "what runs is the head, under the one lease"
        if ended:
            assert self.ended.setdefault(id_, (fields, stream)) == (fields, stream), "an ended event changed"

    def _equals_the_model(self, raw: Raw) -> None:
        model = self.model
        assert {lane: ids for lane, ids in raw.waiting.items() if ids} == {
            name: lane.waiting for name, lane in model.lanes.items()
        }
        assert raw.alarms == {name: lane.alarm_ms for name, lane in model.lanes.items()}
        assert {lane: lease["token"] for lane, lease in raw.leases.items() if "token" in lease} == {
            name: lane.lease.token for name, lane in model.lanes.items() if lane.lease
        }
        assert raw.dead == {id_ for shard in model.shards.values() for _, id_ in shard.letters}
        assert raw.counts["fenced"] == sum(shard.fenced for shard in model.shards.values())
        assert set(raw.events) == set(model.events)
        for id_, fields in raw.events.items():
            known = model.events[id_]
            seen = (fields["state"], fields.get("attempt", "1"), fields.get("deaths", "0"), fields["next"])
            assert seen == (known.state, str(known.attempt), str(known.deaths), str(known.next_frame))
            assert fields.get("history", "").count('"at"') == known.failures
            assert [entry["d"].encode() for _, entry in raw.streams[id_] if "d" in entry] == known.frames
            assert raw.journals[id_] == {step: entry.decode() for step, entry in known.journal.items()}

    async def _read(self) -> Raw:
        pipeline = pipeline_of(self.state)
        model, keys = self.model, self.keys
        for id_ in EVENTS:
            lane = model.where.get(id_, LANES[0])
            pipeline.hgetall(f"{keys.tag_of(lane)}event:{id_}")
            pipeline.xrange(keys.stream(lane, id_))
            pipeline.hgetall(keys.journal(lane, id_))
        for lane in LANES:
            pipeline.lrange(f"{keys.tag_of(lane)}lane:{lane}", 0, -1)
            pipeline.hgetall(f"{keys.tag_of(lane)}lease:{lane}")
        for shard in range(SHARDS):
            pipeline.zrange(f"{keys.tag(shard)}alarms", 0, -1, withscores=True)
            pipeline.zrange(f"{keys.tag(shard)}ready", 0, -1, withscores=True)
            pipeline.smembers(f"{keys.tag(shard)}held")
            pipeline.smembers(f"{keys.tag(shard)}releasing")
            pipeline.zrange(f"{keys.tag(shard)}open", 0, -1)
            pipeline.hgetall(f"{keys.tag(shard)}counts")
            pipeline.zrange(f"{keys.tag(shard)}dead", 0, -1)
        found = iter([text_of(reply) for reply in await pipeline.execute()])
        raw = Raw({}, {}, {}, {}, {}, {}, {}, set(), set(), Counter(), set())
        for id_ in EVENTS:
            fields, stream, journal = next(found), next(found), next(found)
            if fields:
                raw.events[id_], raw.streams[id_], raw.journals[id_] = fields, stream, journal
        for lane in LANES:
            raw.waiting[lane], raw.leases[lane] = next(found), next(found)
        for _ in range(SHARDS):
            raw.alarms |= {lane: int(score) for lane, score in next(found)}
            raw.ready |= {lane: int(score) for lane, score in next(found)}
            raw.refused |= next(found) | next(found)
            raw.open |= set(next(found))
            raw.counts.update({name: int(count) for name, count in next(found).items()})
            raw.dead |= set(next(found))
        return raw


def text_of(reply: Any) -> Any:
    """A reply of Redis with its bytes as text."""
    match reply:
        case bytes():
            return reply.decode()
        case dict():
            return {text_of(key): text_of(value) for key, value in reply.items()}
        case list() | tuple() | set():
            return type(reply)(text_of(item) for item in reply)
        case _:
            return reply
