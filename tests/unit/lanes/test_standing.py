"""Which lanes wait longest, and what for."""

from datetime import timedelta

from schemas.outcome import EventState, ParkReason
from tests.builders import message_event
from tests.lane_builders import LEASE, Deployment, done, event, parked, retry
from workers.cli.waits import NO_WORKER, PARKED, why
from workers.lanes.pauses import Paused
from workers.lanes.standing import StandingLane, StandingLanes
from workers.policies.rate_limit import InLine

FIRST, NEXT = event("e1", "thr_1"), event("e2", "thr_1")
OTHER = event("e3", "thr_2", tenant="other")
WORKERS = ["host:1"]


def lanes(deployment: Deployment) -> StandingLanes:
    return StandingLanes(deployment.state, deployment.keys, deployment.clock)


async def of(deployment: Deployment, lane: str = FIRST.lane) -> StandingLane:
    found = await lanes(deployment).standing(lane)
    assert found is not None
    return found


async def test_lanes_are_listed_by_the_age_of_their_oldest_event(deployment: Deployment) -> None:
    await deployment.accepted(FIRST)
    deployment.clock.turn(timedelta(seconds=30))
    await deployment.accepted(OTHER, NEXT)
    deployment.clock.turn(timedelta(seconds=30))
    view = lanes(deployment)
    everything = await view.oldest(older=timedelta(0), tenant=None, limit=10)
    assert [(found.lane, found.events) for found in everything] == [(FIRST.lane, 2), (OTHER.lane, 1)]
    assert [one.lane for one in await view.oldest(older=timedelta(seconds=31), tenant=None, limit=10)] == [FIRST.lane]
    assert [one.lane for one in await view.oldest(older=timedelta(0), tenant="other", limit=10)] == [OTHER.lane]
    assert [one.lane for one in await view.oldest(older=timedelta(0), tenant=None, limit=1)] == [FIRST.lane]


async def test_what_has_ended_stands_nowhere(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    await deployment.lanes.settle([done(lease)])
    view = lanes(deployment)
    assert await view.oldest(older=timedelta(0), tenant=None, limit=10) == []
    assert await view.standing(FIRST.lane) is None


async def test_a_running_head_names_its_worker_until_the_lease_is_over(deployment: Deployment) -> None:
    await deployment.started(FIRST)
    found = await of(deployment)
    assert (found.state, found.worker, found.lease_ends_in) == (EventState.RUNNING, "worker-1", LEASE)
    assert why(found, None, WORKERS) == "runs in worker-1"
    deployment.clock.turn(LEASE + timedelta(seconds=3))
    assert why(await of(deployment), None, WORKERS) == "its worker worker-1 is gone since 3 s; woken again in 0 s"


async def test_a_pause_is_named_with_the_command_that_ends_it_and_looking_changes_nothing(
    deployment: Deployment,
) -> None:
    await deployment.accepted(FIRST)
    await deployment.lanes.pauses.pause(Paused("tenant", "acme"))
    before = await deployment.state.keys()
    found = await of(deployment)
    assert found.paused == (Paused("tenant", "acme"),)
    assert why(found, None, WORKERS) == "paused until `chatkit-workers resume --tenant acme`"
    assert await deployment.state.keys() == before


async def test_a_retry_tells_the_last_error_and_when_it_is_due(deployment: Deployment) -> None:
    await deployment.lanes.settle([retry(await deployment.started(FIRST))])
    found = await of(deployment)
    assert (found.state, found.attempt, found.due_in) == (EventState.WAITING_RETRY, 2, timedelta(seconds=3))
    assert why(found, None, WORKERS) == 'attempt 2 is next, after TransientError: 503 "busy"; due in 3 s'


async def test_who_waits_for_a_limit_has_a_place_or_a_time(deployment: Deployment) -> None:
    await deployment.lanes.settle([parked(await deployment.started(FIRST))])
    found = await of(deployment)
    limit = "waits for a limit (`chatkit-workers limits show`)"
    assert why(found, None, WORKERS) == f"{limit}; due in 7 s"
    place = InLine("gpt-4.1", 3, timedelta(seconds=8), "rate_limit")
    assert why(found, place, WORKERS) == f"number 3 in line for gpt-4.1, about 8 s; {limit}"


async def test_a_message_of_a_burst_waits_until_its_thread_is_quiet(deployment: Deployment) -> None:
    item = message_event("thr_1", tenant="acme", debounce=4)
    await deployment.accepted(item)
    assert why(await of(deployment, item.lane), None, WORKERS) == "waits until its thread is quiet; due in 4 s"


async def test_without_a_worker_that_is_what_it_waits_for(deployment: Deployment) -> None:
    await deployment.accepted(FIRST)
    found = await of(deployment)
    assert why(found, None, []) == f"a worker has to take it; {NO_WORKER}"
    assert why(found, None, WORKERS) == "a worker has to take it; woken again in 2 s"


def test_each_reason_to_park_has_words() -> None:
    assert set(PARKED) == set(ParkReason)
