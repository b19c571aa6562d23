"""begin and renew: one lease at a time, an epoch that only grows, deaths counted before the work."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas.outcome import CancelReason, EventState, Parked, ParkReason, Released, ReleaseReason
from tests.lane_builders import LEASE, QUEUE, Deployment, done, event, retry
from workers.lanes.records import NotBegun, Settlement, Start, Wake
from workers.policies.delivery import Waited

FIRST = event("e1", "thr_1")
SECOND = event("e2", "thr_1")


def start(token: str = "t2", item: Any = FIRST, **options: Any) -> Start:
    return Start(item.lane, item.event_id, token, **options)


async def test_begin_gives_the_event_and_where_it_stands(deployment: Deployment) -> None:
    await deployment.accepted(FIRST)
    begun = await deployment.begun(FIRST)
    assert begun.body == FIRST.to_json()
    assert (begun.attempt, begun.deaths, begun.acceptance, begun.next_frame) == (1, 1, 1, 1)
    assert begun.accepted_at == datetime.fromtimestamp(deployment.clock.ms / 1000, UTC)
    assert begun.cancelled is None
    assert (begun.lease.owner, begun.lease.token) == ("worker-1", "t1")


async def test_the_body_may_be_left_out(deployment: Deployment) -> None:
    await deployment.accepted(FIRST)
    [begun] = await deployment.lanes.begin([start(want_body=False)])
    assert getattr(begun, "body", "nothing begun") is None


@pytest.mark.parametrize("item", [SECOND, event("stranger", "thr_1"), event("stranger", "thr_9")])
async def test_only_the_head_begins(deployment: Deployment, item: Any) -> None:
    await deployment.accepted(FIRST, SECOND)
    [answer] = await deployment.lanes.begin([start(item=item)])
    assert answer == NotBegun("not_head" if item is SECOND else "unknown")


async def test_an_ended_event_does_not_begin_again(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    await deployment.lanes.settle([done(lease)])
    assert await deployment.lanes.begin([start()]) == [NotBegun("ended")]


async def test_a_leased_lane_begins_for_nobody_else_until_the_lease_expires(deployment: Deployment) -> None:
    await deployment.started(FIRST)
    deployment.clock.turn(LEASE - timedelta(milliseconds=1))
    assert await deployment.other.begin([start()]) == [NotBegun("leased")]
    deployment.clock.turn(timedelta(milliseconds=1))
    assert (await deployment.begun(FIRST, "t3", lanes=deployment.other)).lease.owner == "worker-2"


async def test_an_event_does_not_begin_before_it_is_due(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    await deployment.lanes.settle([retry(lease, timedelta(seconds=3))])
    deployment.clock.turn(timedelta(seconds=2.999))
    assert await deployment.lanes.begin([start()]) == [NotBegun("not_due")]
    deployment.clock.turn(timedelta(milliseconds=1))
    assert (await deployment.begun(FIRST, "t3")).attempt == 2


@pytest.mark.parametrize("member", [f"type:{FIRST.type}", "tenant:acme", f"queue:{QUEUE}"])
async def test_what_is_paused_does_not_begin_and_keeps_its_place(deployment: Deployment, member: str) -> None:
    await deployment.accepted(FIRST)
    state: Any = deployment.state
    paused = f"{deployment.keys.tag_of(FIRST.lane)}paused"
    await state.sadd(paused, member)
    assert await deployment.lanes.begin([start()]) == [NotBegun("paused")]
    await state.srem(paused, member)
    assert (await deployment.begun(FIRST)).deaths == 1


async def test_each_worker_that_does_not_come_back_is_a_death_and_no_attempt(deployment: Deployment) -> None:
    await deployment.started(FIRST)
    for deaths in (2, 3):
        deployment.clock.turn(LEASE)
        begun = await deployment.begun(FIRST, f"run-{deaths}")
        assert (begun.deaths, begun.attempt) == (deaths, 1)


async def test_the_same_token_gets_the_same_answer_and_counts_no_death(deployment: Deployment) -> None:
    await deployment.accepted(FIRST)
    begun = await deployment.begun(FIRST)
    deployment.clock.turn(timedelta(seconds=4))
    assert await deployment.lanes.begin([start("t1")]) == [begun]
    assert await deployment.alarm_ms(FIRST) == 10_000, "what it is given again is a whole lease"


async def test_epochs_are_the_time_and_grow_even_when_the_clock_stands_or_goes_back(deployment: Deployment) -> None:
    await deployment.accepted(FIRST, SECOND)
    first = (await deployment.begun(FIRST)).lease
    assert first.epoch == deployment.clock.us
    await deployment.lanes.settle([done(first)])
    deployment.clock.turn(-timedelta(hours=1))
    second = (await deployment.begun(SECOND, "t2")).lease
    assert second.epoch == first.epoch + 1


async def test_epochs_grow_when_the_shard_has_lost_its_memory(deployment: Deployment) -> None:
    first = await deployment.started(FIRST)
    await deployment.state.flushall()
    deployment.clock.turn(timedelta(milliseconds=1))
    second = await deployment.started(FIRST)
    assert second.epoch > first.epoch


async def test_the_alarm_of_a_running_lane_is_the_expiry_of_its_lease(deployment: Deployment) -> None:
    await deployment.started(FIRST)
    assert await deployment.alarm_ms(FIRST) == LEASE // timedelta(milliseconds=1)


async def test_renew_moves_expiry_and_alarm(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    deployment.clock.turn(timedelta(seconds=9))
    assert await deployment.lanes.renew([lease]) == ["held"]
    assert await deployment.alarm_ms(FIRST) == 10_000
    deployment.clock.turn(timedelta(seconds=9))
    assert await deployment.other.begin([start()]) == [NotBegun("leased")]


async def test_an_expired_lease_that_nobody_took_is_renewed_and_a_taken_one_is_lost(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    deployment.clock.turn(timedelta(seconds=11))
    assert await deployment.lanes.renew([lease]) == ["held"]
    deployment.clock.turn(timedelta(seconds=11))
    taken = await deployment.begun(FIRST, "t2", lanes=deployment.other)
    assert await deployment.lanes.renew([lease, taken.lease]) == ["lost", "held"]


async def test_renew_tells_that_the_user_wants_it_stopped(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    await deployment.lanes.cancel(FIRST.event_id, CancelReason.OPERATOR)
    assert await deployment.lanes.renew([lease]) == [CancelReason.OPERATOR]


async def test_the_first_begin_is_when_the_event_started(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    started = datetime.fromtimestamp(deployment.clock.ms / 1000, UTC)
    await deployment.lanes.settle([retry(lease)])
    deployment.clock.turn(timedelta(seconds=5))
    await deployment.begun(FIRST, "t2")
    found = await deployment.lanes.status(FIRST.event_id)
    assert found is not None
    assert (found[0].started_at, found[0].state) == (started, EventState.RUNNING)


async def test_a_run_is_told_how_long_it_could_have_been_begun(deployment: Deployment) -> None:
    """Accepted, due again, given back; or parked, and what for. The age is since acceptance."""
    clock, lanes = deployment.clock, deployment.lanes
    await deployment.accepted(FIRST)
    clock.turn(timedelta(seconds=3))
    begun = await deployment.begun(FIRST, "t1")
    assert (begun.waited, begun.age_seconds) == (Waited(3.0), 3.0)
    assert (await deployment.begun(FIRST, "t1")).waited == Waited(3.0)  # the reply was lost
    clock.turn(timedelta(seconds=1))
    again = retry(begun.lease)
    await lanes.settle([again])
    clock.turn(again.delay + timedelta(seconds=2))
    begun = await deployment.begun(FIRST, "t2")
    assert begun.waited == Waited(2.0)
    await lanes.settle([Settlement(begun.lease, Parked(ParkReason.RATE_LIMIT, timedelta(minutes=1)))])
    clock.turn(timedelta(seconds=20))
    await lanes.rouse([Wake(FIRST.lane, FIRST.event_id, FIRST.type, QUEUE)])
    begun = await deployment.begun(FIRST, "t3")
    assert begun.waited == Waited(20.0, ParkReason.RATE_LIMIT)
    await lanes.settle([Settlement(begun.lease, Released(ReleaseReason.SHUTDOWN))])
    clock.turn(timedelta(seconds=4))
    begun = await deployment.begun(FIRST, "t4")
    assert begun.waited == Waited(4.0)
    clock.turn(LEASE * 2)  # its worker dies
    assert (await deployment.begun(FIRST, "t5")).waited is None
