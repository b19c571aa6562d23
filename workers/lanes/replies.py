"""What the scripts answer, as records."""

from collections.abc import Sequence
from typing import Any

from schemas.events import Event
from schemas.outcome import CancelReason, EventState, ParkReason
from workers.lanes.records import (
    Accepted,
    Appended,
    AppendRefused,
    Begun,
    Cancellation,
    Joined,
    JoinRefused,
    NotBegun,
    Refused,
    RenewResult,
    Settled,
    SettleRefused,
    Start,
    Wake,
)
from workers.lanes.views import moment
from workers.policies.delivery import Lease, Waited

LANE_FULL_SECONDS = 5.0
"""When to try again: a full lane waits for one of its own turns to end, a full system for any of thousands."""

SYSTEM_FULL_SECONDS = 1.0


def accepted_of(event: Event, lane: str, reply: Sequence[Any]) -> Accepted | Refused:
    """Answer of accept."""
    match reply:
        case [b"new", acceptance, *head]:
            wake = wake_of(lane, head)
            return Accepted(event.event_id, lane, acceptance, EventState.QUEUED, duplicate=False, wake=wake)
        case [b"known", acceptance, state, head, *kept]:
            wake = wake_of(lane, [event.event_id.encode(), *kept]) if head else None
            return Accepted(
                event.event_id, lane, int(acceptance), EventState(state.decode()), duplicate=True, wake=wake
            )
        case [b"busy", by]:
            return Refused(event.event_id, lane, "busy", LANE_FULL_SECONDS, by.decode())
        case [b"lane_full"]:
            return Refused(event.event_id, lane, "lane_full", LANE_FULL_SECONDS)
        case _:
            return Refused(event.event_id, lane, "system_full", SYSTEM_FULL_SECONDS)


def begun_of(start: Start, owner: str, reply: Sequence[Any]) -> Begun | NotBegun:
    """Answer of begin."""
    if len(reply) == 1:
        return NotBegun(reply[0].decode())
    _, epoch, attempt, deaths, acceptance, number, accepted, cancel, body, journaled, redriven, queue, hops, *times = (
        reply
    )
    age, waited, parked = times
    return Begun(
        lease=Lease(start.lane, start.event_id, owner, start.token, int(epoch)),
        body=body.decode() if start.want_body else None,
        attempt=int(attempt),
        deaths=deaths,
        acceptance=int(acceptance),
        next_frame=int(number),
        accepted_at=moment(accepted),
        cancelled=CancelReason(cancel.decode()) if cancel else None,
        journaled=bool(journaled),
        redriven=bool(redriven),
        queue=queue.decode(),
        hops=int(hops),
        age_seconds=age / 1000,
        waited=Waited(int(waited) / 1000, ParkReason(parked.decode()) if parked else None) if waited else None,
    )


def renewed_of(reply: bytes) -> RenewResult:
    """Answer of renew."""
    match reply.decode():
        case "held" | "lost" as word:
            return word
        case reason:
            return CancelReason(reason)


def appended_of(reply: Sequence[Any]) -> Appended | AppendRefused:
    """Answer of append."""
    verdict, number, full = reply
    return Appended(number, bool(full)) if verdict == b"appended" else AppendRefused(verdict.decode(), number)


def joined_of(reply: Sequence[Any]) -> Joined | JoinRefused:
    """Answer of join."""
    verdict, *pairs = reply
    if verdict != b"joined":
        return JoinRefused(verdict.decode())
    return Joined({name.decode(): entry for name, entry in zip(pairs[::2], pairs[1::2], strict=True)})


def settled_of(lane: str, reply: Sequence[Any]) -> Settled | SettleRefused:
    """Answer of settle."""
    if len(reply) == 1:
        return SettleRefused(reply[0].decode())
    _, state, *head = reply
    return Settled(EventState(state.decode()), wake_of(lane, head))


def cancellation_of(lane: str, reply: Sequence[Any]) -> Cancellation:
    """Answer of cancel."""
    result, *head = reply
    return Cancellation(result.decode(), wake_of(lane, head))


def wakes_of(flat: Sequence[bytes]) -> list[Wake]:
    """The lanes that a sweep found: lane, event, type and queue of each, one after another."""
    fields = [field.decode() for field in flat]
    return [Wake(*fields[start : start + 4]) for start in range(0, len(fields), 4)]


def wake_of(lane: str, head: Sequence[bytes]) -> Wake | None:
    """The head of a lane: event, type and queue; nothing when the lane is empty."""
    if not head:
        return None
    event_id, type_, queue = head
    return Wake(lane, event_id.decode(), type_.decode(), queue.decode())
