"""Lanes: one event of a lane runs at a time, in order of acceptance, across any number of workers.

Each transition is one Lua script, and each method one round trip for a whole batch (`accept` takes two).
"""

import json
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Any, assert_never

from schemas.debounce import PATIENCE
from schemas.double_text import DoubleText
from schemas.events import Event
from schemas.outcome import (
    Cancelled,
    CancelReason,
    DeadLettered,
    Done,
    Dropped,
    ErrorRecord,
    EventState,
    Outcome,
    Parked,
    Released,
    Retry,
)
from schemas.records import DeadLetter
from workers.errors import SettingsError
from workers.lanes import replies
from workers.lanes.acceptance_spans import note_acceptance
from workers.lanes.connection import State
from workers.lanes.dead_letters import DeadLetters
from workers.lanes.floods import Floods
from workers.lanes.keys import Keys
from workers.lanes.pauses import Pauses
from workers.lanes.records import (
    FIRST_GRACE,
    LAST_GRACE,
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
    Seat,
    Settled,
    Settlement,
    SettleRefused,
    Start,
    Wake,
)
from workers.lanes.scripts import Argument, Call, Clock, pipeline_of, script
from workers.lanes.sign_ins import SignIns
from workers.lanes.views import LaneViews
from workers.policies.delivery import Lease
from workers.telemetry import spans

MAX_DEAD = 10_000
"""Dead letters that a shard keeps. Their bodies: of an accepted event the one that is kept with its record, of another
event all of it, of what never parsed the first 256 KiB."""

JOURNAL_BYTES = 4 * 1024 * 1024
"""What the journal of one event may hold. A model's response is some kilobytes."""


MESSAGE = "chatkit.threads.add_user_message"
"""What may steer a turn, or join a burst: it is nothing but a message."""

NO_DEFAULTS: Mapping[str, DoubleText] = MappingProxyType({})
NO_DEBOUNCE: Mapping[str, float] = MappingProxyType({})


class Lanes(LaneViews):
    """All lanes of a deployment. Every method takes a batch, and may be called again with the same tokens."""

    def __init__(
        self,
        state: State,
        keys: Keys,
        *,
        owner: str,
        lease: timedelta,
        max_waiting_per_lane: int,
        max_waiting: int,
        retention: timedelta,
        max_dead: int = MAX_DEAD,
        double_text: Mapping[str, DoubleText] = NO_DEFAULTS,
        debounce: Mapping[str, float] = NO_DEBOUNCE,
        clock: Clock | None = None,
    ) -> None:
        """`max_dead` is per shard, `clock` for tests; without one the time is that of Redis. `double_text`: the mode of
        each event type that asks for none, `*` for all others; enqueue if it does not say either. `debounce`: likewise
        the quiet time in seconds of messages that ask for none."""
        super().__init__(state, keys, clock)
        self.dead_letters = DeadLetters(state, keys, clock)
        self.pauses = Pauses(state, keys, clock)
        self.floods = Floods(state, keys, clock)
        self.sign_ins = SignIns(state, keys, self.rouse, clock)
        self._owner = owner
        self._lease_ms = _ms(lease)
        self._lane_bound = max_waiting_per_lane
        self._shard_bound = max(1, max_waiting // keys.shards)
        self._retention_ms = _ms(retention)
        self._dead_bound = max_dead
        self._double_text, self._debounce = double_text, debounce

    async def check(self) -> None:
        """Make sure that this process counts the shards as the deployment was made.

        Raises:
            SettingsError: it does not; events would be looked for where they are not.
        """
        key, shards = self._keys.shard_count, self._keys.shards
        await self._state.set(key, shards, nx=True)
        made_with = int(await self._state.get(key) or shards)
        if made_with != shards:
            message = f"is {shards}, but this deployment was made with {made_with}; the number of shards cannot change"
            raise SettingsError(f"CHATKIT_SHARDS: {message}")

    async def accept(self, events: Sequence[tuple[Event, str]], *, redriven: bool = False) -> list[Accepted | Refused]:
        """Keep events, in order. Each comes with the queue of its wake-ups. `redriven`: they were dead letters."""
        began = time.monotonic()
        recorded = await self._record_lanes([event for event, _ in events])
        lanes = [known or event.lane for (event, _), known in zip(events, recorded, strict=True)]
        last: dict[str, str] = {}
        calls = []
        for (event, queue), lane in zip(events, lanes, strict=True):
            calls.append(self._accept_call(event, queue, lane, before=last.get(lane, ""), redriven=redriven))
            last[lane] = event.event_id
        answers = [
            replies.accepted_of(event, lane, reply)
            for (event, _), lane, reply in zip(
                events, lanes, await self._scripts.run(calls, in_order=True), strict=True
            )
        ]
        await self._keep_records(answers, recorded)
        if spans.is_on() and not redriven:
            note_acceptance(zip((event for event, _ in events), answers, strict=True), time.monotonic() - began)
        return answers

    async def begin(self, starts: Sequence[Start]) -> list[Begun | NotBegun]:
        """Lease the heads of lanes to this worker."""
        now, begin = self._now(), script("begin")
        calls = [
            self._call(
                begin,
                start.lane,
                [now, start.event_id, start.lane, start.token, self._owner, self._lease_ms, int(start.want_body)],
            )
            for start in starts
        ]
        answers = await self._scripts.run(calls)
        return [replies.begun_of(start, self._owner, reply) for start, reply in zip(starts, answers, strict=True)]

    async def renew(self, leases: Sequence[Lease]) -> list[RenewResult]:
        """Keep leases for another term."""
        now, renew = self._now(), script("renew")
        calls = [
            self._call(renew, lease.lane, [now, lease.event_id, lease.lane, lease.owner, lease.epoch, self._lease_ms])
            for lease in leases
        ]
        return [replies.renewed_of(reply) for reply in await self._scripts.run(calls)]

    async def append(self, appends: Sequence[Append]) -> list[Appended | AppendRefused]:
        """Show frames to the clients of events, and keep completed steps in their journals."""
        append = script("append")
        calls = []
        for item in appends:
            lease, step = item.lease, item.step
            who: list[Argument] = [lease.event_id, lease.lane, lease.owner, lease.epoch, item.first]
            kept: list[Argument] = [step.name, step.entry] if step is not None else ["", ""]
            calls.append(self._call(append, lease.lane, [*who, *kept, JOURNAL_BYTES, *item.frames]))
        return [replies.appended_of(reply) for reply in await self._scripts.run(calls)]

    async def join(self, lease: Lease, step: str) -> Joined | JoinRefused:
        """Take the messages that wait to steer this turn into its journal, as part of a step of it."""
        who: list[Argument] = [self._now(), lease.event_id, lease.lane, lease.owner, lease.epoch]
        arguments = [*who, step, JOURNAL_BYTES, self._retention_ms]
        [reply] = await self._scripts.run([self._call(script("join"), lease.lane, arguments)])
        return replies.joined_of(reply)

    async def settle(self, settlements: Sequence[Settlement]) -> list[Settled | SettleRefused]:
        """Say what came of runs. The lanes that move on are to be woken by the caller."""
        answers = await self._scripts.run([self._settle_call(settlement) for settlement in settlements])
        return [
            replies.settled_of(settlement.lease.lane, reply)
            for settlement, reply in zip(settlements, answers, strict=True)
        ]

    async def cancel(
        self, event_id: str, reason: CancelReason = CancelReason.USER, *, lane: str | None = None
    ) -> Cancellation:
        """Stop an event. Once this has answered, no more of its text appears. Wake the lane that is named. `lane`,
        where it is known, saves a round trip."""
        lane = lane or await self._lane_of(event_id)
        if lane is None:
            return Cancellation("unknown")
        arguments: list[Argument] = [self._now(), event_id, reason, self._keys.cancel_channel()]
        arguments += [self._retention_ms, _ms(FIRST_GRACE)]
        [reply] = await self._scripts.run([self._call(script("cancel"), lane, arguments)])
        return replies.cancellation_of(lane, reply)

    async def sweep(self, limit_per_shard: int = 100) -> list[Wake]:
        """Find the lanes that need a wake-up, in one round trip, and start the clocks of ended events' records."""
        arguments = [self._now(), limit_per_shard, _ms(FIRST_GRACE), _ms(LAST_GRACE), self._retention_ms]
        swept = await self._scripts.run([Call(script("sweep"), tag, arguments) for tag in self._tags])
        await self._expire_records([ended for _, ended in swept])
        return [wake for wakes, _ in swept for wake in replies.wakes_of(wakes)]

    async def rouse(self, granted: Sequence[Wake]) -> list[RouseResult]:
        """Make events that wait for a limit due now. Wake those that say so."""
        now, rouse = self._now(), script("rouse")
        calls = [self._call(rouse, one.lane, [now, one.event_id, one.lane, _ms(FIRST_GRACE)]) for one in granted]
        return [reply.decode() for reply in await self._scripts.run(calls)]

    async def seat(self, seats: Sequence[Seat]) -> list[bool]:
        """Let events that nobody has begun wait; of each, whether it does."""
        now, seat = self._now(), script("seat")
        calls = [self._call(seat, one.lane, [now, one.event_id, one.lane, _ms(one.delay), one.reason]) for one in seats]
        return [reply == 1 for reply in await self._scripts.run(calls)]

    async def bury(self, letters: Sequence[DeadLetter]) -> list[bool]:
        """Keep what never became an event, with its reason; of each, whether it was not kept before."""
        now, bury = self._now(), script("bury")
        answers = await self._scripts.run(
            [
                self._call(
                    bury,
                    letter.id,
                    [now, letter.id, letter.reason, *_letter(letter), self._retention_ms, self._dead_bound],
                )
                for letter in letters
            ]
        )
        return [answer == 1 for answer in answers]

    async def _record_lanes(self, events: Sequence[Event]) -> list[str | None]:
        """Record the lane of each event, and give those that had been recorded before: they are what counts."""
        if not events:
            return []
        pipeline = pipeline_of(self._state)
        for event in events:
            # as a plain command: `set()` spends longer on its many options than all else here together
            pipeline.execute_command("SET", self._keys.where(event.event_id), event.lane, "NX", "GET", get=True)
        return [None if lane is None else lane.decode() for lane in await pipeline.execute()]

    async def _keep_records(self, answers: Sequence[Accepted | Refused], recorded: Sequence[str | None]) -> None:
        """A record made by an earlier, refused acceptance may be about to expire."""
        pipeline = pipeline_of(self._state)
        for answer, known in zip(answers, recorded, strict=True):
            if known is not None and isinstance(answer, Accepted) and not answer.duplicate:
                pipeline.persist(self._keys.where(answer.event_id))
        if len(pipeline):
            await pipeline.execute()

    async def _expire_records(self, ended: Sequence[Sequence[bytes]]) -> None:
        """Two round trips: on a cluster the first may fail alone, and then the outbox must still name the event."""
        if not any(ended):
            return
        pipeline = pipeline_of(self._state)
        for event_id in (event_id for ids in ended for event_id in ids):
            pipeline.execute_command("PEXPIRE", self._keys.where(event_id.decode()), self._retention_ms)
        await pipeline.execute()
        pipeline = pipeline_of(self._state)
        for tag, ids in zip(self._tags, ended, strict=True):
            if ids:
                pipeline.execute_command("ZREM", f"{tag}ended", *ids)
        await pipeline.execute()

    def _call(self, script_: Any, lane: str, arguments: Sequence[Argument]) -> Call:
        return Call(script_, self._keys.tag_of(lane), arguments)

    def _accept_call(self, event: Event, queue: str, lane: str, *, before: str, redriven: bool) -> Call:
        bounds = [self._lane_bound, self._shard_bound, _ms(FIRST_GRACE)]
        who = [event.tenant, event.userid, event.source, event.traceparent or ""]
        which = [event.event_id, lane, before]
        what: list[Argument] = [int(event.needs_turn), int(redriven), event.to_json(), int(event.is_streamed)]
        mode = DoubleText.ENQUEUE if redriven else self._mode_of(event)
        quiet_ms = 0 if redriven else self._quiet_ms(event)
        what += [mode, self._keys.cancel_channel(), self._retention_ms]
        what += [quiet_ms, int(event.type == MESSAGE), PATIENCE]
        arguments = [self._now(), *which, *bounds, event.type, queue, *who, *what]
        return self._call(script("accept"), lane, arguments)

    def _mode_of(self, event: Event) -> DoubleText:
        if not event.may_meet_a_turn:
            return DoubleText.ENQUEUE
        default = self._double_text.get(event.type, self._double_text.get("*", DoubleText.ENQUEUE))
        mode = event.double_text or default
        return DoubleText.ENQUEUE if mode is DoubleText.STEER and event.type != MESSAGE else mode

    def _quiet_ms(self, event: Event) -> int:
        if not event.may_begin_a_burst:
            return 0
        asked = event.debounce_seconds
        default = self._debounce.get(event.type, self._debounce.get("*", 0.0))
        return round(1000 * (default if asked is None else asked))

    def _settle_call(self, settlement: Settlement) -> Call:
        lease, dead = settlement.lease, settlement.dead
        state, reason, error = _effect(settlement.outcome)
        if state is EventState.DEAD and dead is None:
            raise ValueError("an event that goes dead needs its dead letter")
        who = [self._now(), lease.event_id, lease.lane, lease.owner, lease.epoch, lease.token]
        times = [_ms(settlement.delay), self._retention_ms, _ms(FIRST_GRACE)]
        error_json = json.dumps(f"{error.kind}: {error.message}") if error else ""
        letter, _ = _letter(dead) if dead else ("", "")
        queue = (settlement.outcome.queue or "") if isinstance(settlement.outcome, Released) else ""
        arguments = [*who, state, reason, *times, error_json, letter, self._dead_bound, queue, *settlement.final_frames]
        return self._call(script("settle"), lease.lane, arguments)


def _effect(outcome: Outcome) -> tuple[EventState, str, ErrorRecord | None]:
    """The state that an outcome leads to, its reason, and the failed attempt that the event's history keeps."""
    match outcome:
        case Done():
            return EventState.DONE, "", None
        case Dropped(reason):
            return EventState.DROPPED, reason, None
        case Cancelled(reason):
            return EventState.CANCELLED, reason, None
        case Retry(reason, _, error):
            return EventState.WAITING_RETRY, reason, error
        case Parked(reason):
            return EventState.WAITING_LIMIT, reason, None
        case Released(reason):
            return EventState.QUEUED, reason, None
        case DeadLettered(reason, error):
            return EventState.DEAD, reason, error
        case _:
            assert_never(outcome)


def _letter(letter: DeadLetter) -> tuple[str, str]:
    """What lists read of a letter, and its body."""
    return letter.model_dump_json(exclude={"body"}), letter.body or ""


def _ms(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1000)
