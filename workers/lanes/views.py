"""What is read of the lanes: one event, the depth. Nothing here changes anything."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from schemas.outcome import ENDED_STATES, EventState
from schemas.records import EventStatus
from workers.lanes.connection import State
from workers.lanes.keys import Keys
from workers.lanes.records import Depth, Owner
from workers.lanes.scripts import Argument, Call, Clock, ScriptRunner, script


class LaneViews:
    """The reading half of `Lanes`."""

    def __init__(self, state: State, keys: Keys, clock: Clock | None = None) -> None:
        self._state, self._keys = state, keys
        self._clock = clock
        self._scripts = ScriptRunner(state)
        self._tags = [keys.tag(shard) for shard in range(keys.shards)]

    async def status(self, event_id: str) -> tuple[EventStatus, Owner] | None:
        """Where an event is, and whom it belongs to. None when it is unknown, or past its retention."""
        lane = await self._lane_of(event_id)
        if lane is None:
            return None
        [reply] = await self._scripts.run([Call(script("status"), self._keys.tag_of(lane), [event_id])])
        return _status_of(event_id, reply) if reply else None

    async def body(self, event_id: str) -> str | None:
        """The event as it was accepted, as JSON."""
        lane = await self._lane_of(event_id)
        if lane is None:
            return None
        found: Any = await self._state.get(f"{self._keys.tag_of(lane)}body:{event_id}")
        return None if found is None else str(found, "utf-8")

    async def events_of(self, lane: str) -> list[str]:
        """Ids of the events that wait or run in a lane, head first."""
        ids: Any = await self._state.lrange(f"{self._keys.tag_of(lane)}lane:{lane}", 0, -1)
        return [event_id.decode() for event_id in ids]

    async def depth(self) -> Depth:
        """What all shards hold, in one round trip."""
        replies = await self._scripts.run([Call(script("depth"), tag, [self._now()]) for tag in self._tags])
        counts: Counter[str] = Counter()
        for _, _, _, counters, *_ in replies:
            for name, value in zip(counters[::2], counters[1::2], strict=True):
                counts[name.decode()] += int(value)
        return Depth(
            states={state: counts[state] for state in EventState},
            oldest_age_seconds=max(age for age, *_ in replies) / 1000,
            lanes=sum(lanes for _, lanes, *_ in replies),
            dropped=_by_name(counts, EventState.DROPPED),
            dead=_by_name(counts, EventState.DEAD),
            dead_kept=sum(kept for _, _, kept, *_ in replies),
            fenced_writes=counts["fenced"],
            fenced=_by_name(counts, "fenced"),
            ended={
                (type_, state): count
                for state in ENDED_STATES
                for type_, count in _by_name(counts, f"ended:{state}").items()
            },
            retried=_by_name(counts, "retry"),
            frames=counts["frames"],
            ready=sum(ready for *_, ready, _ in replies),
            ready_age_seconds=max(age for *_, age in replies) / 1000,
        )

    async def _lane_of(self, event_id: str) -> str | None:
        lane: Any = await self._state.get(self._keys.where(event_id))
        return None if lane is None else str(lane, "utf-8")

    def _now(self) -> Argument:
        return "" if self._clock is None else self._clock()


def _by_name(counts: Mapping[str, int], kind: str) -> dict[str, int]:
    start = f"{kind}:"
    return {name.removeprefix(start): count for name, count in counts.items() if name.startswith(start)}


def moment(milliseconds: bytes | int) -> datetime:
    """A time of the state."""
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)


def _status_of(event_id: str, reply: Sequence[Any]) -> tuple[EventStatus, Owner]:
    source, type_, lane, state, reason, attempt, accepted, started, ended, acceptance, number, *rest = reply
    tenant, user, trace, place, into = rest
    last = int(number) - 1
    status = EventStatus(
        id=event_id,
        source=source.decode(),
        type=type_.decode(),
        lane=lane.decode(),
        state=EventState(state.decode()),
        reason=reason.decode() if reason else None,
        attempt=int(attempt or 1),
        place=place,
        accepted_at=moment(accepted),
        started_at=moment(started) if started else None,
        ended_at=moment(ended) if ended else None,
        last_frame_id=f"{int(acceptance)}-{last}" if last and not into else None,
        traceparent=trace.decode() if trace else None,
        joined=into.decode() if into else None,
    )
    return status, Owner(tenant.decode(), user.decode())
