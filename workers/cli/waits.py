"""Why a lane does not move, in words, and what to do about it."""

from collections.abc import Sequence
from datetime import timedelta
from typing import assert_never

from schemas.outcome import EventState, ParkReason
from workers.lanes.standing import StandingLane
from workers.policies.rate_limit import InLine

NO_WORKER = "no worker has signed the roll: start one, or see why it ends (its stderr)"
PARKED = {
    ParkReason.RATE_LIMIT: "waits for a limit (`chatkit-workers limits show`)",
    ParkReason.CIRCUIT_OPEN: "its model's circuit is open (`chatkit-workers limits show`)",
    ParkReason.OVERLOAD: "its worker had no free connection to the provider",
    ParkReason.AUTHENTICATION: "the provider or a service refused the key: the user has to sign in again",
    ParkReason.RETRY_BUDGET: "too much has failed lately: retries are held back",
    ParkReason.LIMITER_AWAY: "the limits could not be asked (`chatkit-workers doctor`)",
    ParkReason.DATABASE: "the database was away (`chatkit-workers doctor`)",
    ParkReason.STATE_AWAY: "Redis was away (`chatkit-workers doctor`)",
}


def why(lane: StandingLane, place: InLine | None, workers: Sequence[str]) -> str:
    """What the head of a lane waits for.

    Args:
        lane: as it stands.
        place: its place in line, if it stands in one.
        workers: those on the roll.
    """
    if lane.worker is not None and lane.lease_ends_in is not None:
        if lane.lease_ends_in > timedelta(0):
            return f"runs in {lane.worker}"
        return f"its worker {lane.worker} is gone since {_seconds(-lane.lease_ends_in)}; {_next(lane, workers)}"
    if lane.paused:
        options = " and ".join(f"`chatkit-workers resume --{one.kind} {one.value}`" for one in lane.paused)
        return f"paused until {options}"
    match lane.state:
        case EventState.WAITING_LIMIT if place is not None:
            eta = _seconds(place.eta)
            return f"number {place.place} in line for {place.model}, about {eta}; {_parked(place.reason)}"
        case EventState.WAITING_LIMIT:
            return f"{_parked(lane.reason)}; {_next(lane, workers)}"
        case EventState.WAITING_RETRY:
            return f"attempt {lane.attempt} is next, after {lane.last_error}; {_next(lane, workers)}"
        case EventState.QUEUED if lane.due_in is not None and lane.due_in > timedelta(0):
            return f"waits until its thread is quiet; {_next(lane, workers)}"
        case EventState.QUEUED | EventState.RUNNING:
            return f"a worker has to take it; {_next(lane, workers)}"
        case EventState.DONE | EventState.DROPPED | EventState.CANCELLED | EventState.DEAD:
            return "has ended just now"
        case _:
            assert_never(lane.state)


def _parked(reason: str | None) -> str:
    return PARKED[ParkReason(reason)] if reason in set(ParkReason) else f"waits ({reason})"


def _next(lane: StandingLane, workers: Sequence[str]) -> str:
    if not workers:
        return NO_WORKER
    if lane.due_in is not None and lane.due_in > timedelta(0):
        return f"due in {_seconds(lane.due_in)}"
    if lane.alarm_in is None:
        return "nothing will wake it: that is a fault of this program, please report it"
    return f"woken again in {_seconds(max(lane.alarm_in, timedelta(0)))}"


def _seconds(duration: timedelta) -> str:
    return f"{duration.total_seconds():.0f} s"
