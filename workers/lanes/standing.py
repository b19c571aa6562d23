"""Which lanes have work, the one that waits longest first, and what each waits for. Nothing here changes anything."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from schemas.outcome import EventState
from workers.lanes.pauses import Paused, PauseKind
from workers.lanes.scripts import Call, pipeline_of, script
from workers.lanes.views import LaneViews, moment

LOOKED_AT = 1_000
"""Of each shard's oldest events."""

PAUSES: tuple[PauseKind, ...] = ("type", "tenant", "queue")


@dataclass(frozen=True, slots=True)
class StandingLane:
    """A lane with work. All but `lane` and `events` is of its head; times from now are negative when they are past.

    `reason` is of the last time that it waited; `deaths` are the workers that ended in the middle of it; `worker` holds
    its lease; `alarm_in` is when the lane is looked at again; `last_error` is the class and the cleaned message of the
    last attempt that failed.
    """

    lane: str
    events: int
    event_id: str
    type: str
    queue: str
    state: EventState
    reason: str | None
    attempt: int
    deaths: int
    accepted_at: datetime
    started_at: datetime | None
    due_in: timedelta | None
    worker: str | None
    lease_ends_in: timedelta | None
    alarm_in: timedelta | None
    last_error: str | None
    paused: tuple[Paused, ...]


class StandingLanes(LaneViews):
    """What an operator asks about lanes that do not move."""

    async def standing(self, lane: str) -> StandingLane | None:
        """One lane. None when nothing waits or runs in it."""
        return (await self._read([lane]))[0]

    async def oldest(self, *, older: timedelta, tenant: str | None, limit: int) -> list[StandingLane]:
        """The lanes of the oldest events, oldest first.

        Args:
            older: how long the oldest event of a lane has been there at least.
            tenant: of this tenant only.
            limit: lanes at most. No more than the `LOOKED_AT` oldest events of each shard are looked at.
        """
        pipeline = pipeline_of(self._state)
        for tag in self._tags:
            pipeline.zrange(f"{tag}open", 0, LOOKED_AT - 1, withscores=True)
        pipeline.time()
        *shards, (seconds, microseconds) = await pipeline.execute()
        now_ms = seconds * 1000 + microseconds / 1000 if self._clock is None else self._clock() / 1000
        until = now_ms - older.total_seconds() * 1000
        pipeline = pipeline_of(self._state)
        ages: list[float] = []
        for tag, found in zip(self._tags, shards, strict=True):
            for event_id, accepted in found:
                if accepted <= until:
                    ages.append(accepted)
                    pipeline.hget(f"{tag}event:{event_id.decode()}", "lane")
        lanes = await pipeline.execute() if ages else []
        known = sorted((age, lane.decode()) for age, lane in zip(ages, lanes, strict=True) if lane is not None)
        wanted = [lane for lane in dict.fromkeys(lane for _, lane in known) if _is_of(lane, tenant)]
        return [found for found in await self._read(wanted[:limit]) if found is not None]

    async def _read(self, lanes: Sequence[str]) -> list[StandingLane | None]:
        look = script("lane")
        calls = [Call(look, self._keys.tag_of(lane), [self._now(), lane]) for lane in lanes]
        replies = await self._scripts.run(calls)
        return [_standing(lane, reply) for lane, reply in zip(lanes, replies, strict=True)]


def _is_of(lane: str, tenant: str | None) -> bool:
    return tenant is None or lane.startswith(f"{tenant}/")


def _standing(lane: str, reply: bytes) -> StandingLane | None:
    if not reply:
        return None
    found: dict[str, Any] = json.loads(reply)
    lease_ends_in = _from_now(found.get("lease_in"))
    runs = lease_ends_in is not None and lease_ends_in > timedelta(0)
    pauses = (Paused(kind, found[kind]) for kind in PAUSES if found[f"by_{kind}"])
    return StandingLane(
        lane=lane,
        events=found["events"],
        event_id=found["id"],
        type=found["type"],
        queue=found["queue"],
        state=EventState(found["state"]),
        reason=found.get("reason") or None,
        attempt=found["attempt"],
        deaths=found["deaths"] - runs,  # a run is counted when it begins, and taken back when it is settled
        accepted_at=moment(found["accepted"]),
        started_at=moment(found["started"]) if "started" in found else None,
        due_in=_from_now(found.get("due_in")),
        worker=found.get("worker"),
        lease_ends_in=lease_ends_in,
        alarm_in=_from_now(found.get("alarm_in")),
        last_error=json.loads(found["history"])[-1]["error"] if "history" in found else None,
        paused=tuple(pauses),
    )


def _from_now(milliseconds: int | None) -> timedelta | None:
    return None if milliseconds is None else timedelta(milliseconds=milliseconds)
