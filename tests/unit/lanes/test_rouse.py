"""Rousing what waits for a limit."""

from datetime import timedelta

from schemas.outcome import Parked, ParkReason
from tests.lane_builders import QUEUE, Deployment, done, event, released, retry
from workers.lanes.pauses import Paused
from workers.lanes.records import Settlement, Wake

ONE = event("e1", "thr_1")
WAKE = Wake(ONE.lane, ONE.event_id, ONE.type, QUEUE)


async def test_an_event_that_waits_for_a_limit_is_due_at_once(deployment: Deployment) -> None:
    lease = await deployment.started(ONE)
    parked = Parked(ParkReason.RATE_LIMIT, timedelta(minutes=5))
    await deployment.lanes.settle([Settlement(lease, parked, delay=parked.delay)])
    assert await deployment.lanes.rouse([WAKE]) == ["wake"]
    assert await deployment.alarm_ms(ONE) == 2000  # behind a lost wake-up
    await deployment.begun(ONE, "t2")
    assert await deployment.lanes.rouse([WAKE]) == ["coming"]


async def test_what_has_not_begun_comes_by_itself_and_what_waits_for_something_else_or_has_ended_does_not(
    deployment: Deployment,
) -> None:
    assert await deployment.lanes.rouse([WAKE]) == ["gone"]
    await deployment.accepted(ONE)
    assert await deployment.lanes.rouse([WAKE]) == ["coming"]
    await deployment.lanes.settle([retry((await deployment.begun(ONE)).lease)])
    assert await deployment.lanes.rouse([WAKE]) == ["gone"]
    deployment.clock.turn(timedelta(seconds=5))
    await deployment.lanes.settle([done((await deployment.begun(ONE, "t2")).lease)])
    assert await deployment.lanes.rouse([WAKE]) == ["gone"]


async def test_what_is_paused_does_not_come_and_is_due_once_it_is_resumed(deployment: Deployment) -> None:
    pause = Paused("type", ONE.type)
    lease = await deployment.started(ONE)
    parked = Parked(ParkReason.RATE_LIMIT, timedelta(minutes=5))
    await deployment.lanes.settle([Settlement(lease, parked, delay=parked.delay)])
    await deployment.lanes.pauses.pause(pause)
    assert await deployment.lanes.rouse([WAKE]) == ["gone"]
    await deployment.lanes.pauses.resume(pause)
    assert await deployment.lanes.sweep() == [WAKE]  # not in five minutes
    await deployment.lanes.settle([released((await deployment.begun(ONE, "t2")).lease)])
    await deployment.lanes.pauses.pause(pause)
    assert await deployment.lanes.rouse([WAKE]) == ["gone"]  # given back by a worker that drained
