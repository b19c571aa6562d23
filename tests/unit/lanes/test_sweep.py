"""sweep: lanes that need a look are woken, again and again, until somebody takes them up."""

from datetime import timedelta

from schemas.outcome import EventState
from tests.lane_builders import LEASE, QUEUE, Deployment, dead, done, event, lanes_on, letter, retry
from workers.lanes.records import Wake

FIRST = event("e1", "thr_1")
WAKE = Wake(FIRST.lane, FIRST.event_id, FIRST.type, QUEUE)
MILLISECOND = timedelta(milliseconds=1)


async def test_a_lost_wake_up_is_sent_again_after_a_grace_that_doubles_up_to_five_minutes(
    deployment: Deployment,
) -> None:
    await deployment.accepted(FIRST)
    for seconds in (2, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300):
        deployment.clock.turn(timedelta(seconds=seconds) - MILLISECOND)
        assert await deployment.lanes.sweep() == []
        deployment.clock.turn(MILLISECOND)
        assert await deployment.lanes.sweep() == [WAKE]


async def test_begin_resets_the_grace(deployment: Deployment) -> None:
    await deployment.accepted(FIRST)
    for seconds in (2, 2, 4):
        deployment.clock.turn(timedelta(seconds=seconds))
        await deployment.lanes.sweep()
    await deployment.begun(FIRST)
    deployment.clock.turn(LEASE)
    assert await deployment.lanes.sweep() == [WAKE]
    assert await deployment.alarm_ms(FIRST) == 2_000


async def test_the_lane_of_a_dead_worker_is_woken_when_its_lease_expires(deployment: Deployment) -> None:
    await deployment.started(FIRST)
    deployment.clock.turn(LEASE - MILLISECOND)
    assert await deployment.lanes.sweep() == []
    deployment.clock.turn(MILLISECOND)
    assert await deployment.other.sweep() == [WAKE]


async def test_a_due_retry_is_woken_when_it_is_due(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    await deployment.lanes.settle([retry(lease, timedelta(minutes=2))])
    deployment.clock.turn(timedelta(minutes=2) - MILLISECOND)
    assert await deployment.lanes.sweep() == []
    deployment.clock.turn(MILLISECOND)
    assert await deployment.lanes.sweep() == [WAKE]


async def test_an_early_alarm_rearms_itself_at_the_expiry_or_the_due_time(deployment: Deployment) -> None:
    alarms = f"{deployment.keys.tag_of(FIRST.lane)}alarms"
    lease = await deployment.started(FIRST)
    await deployment.state.zadd(alarms, {FIRST.lane: 0})
    assert await deployment.lanes.sweep() == []
    assert await deployment.alarm_ms(FIRST) == 10_000
    await deployment.lanes.settle([retry(lease, timedelta(minutes=2))])
    await deployment.state.zadd(alarms, {FIRST.lane: 0})
    assert await deployment.lanes.sweep() == []
    assert await deployment.alarm_ms(FIRST) == 120_000


async def test_an_empty_lane_loses_its_alarm(deployment: Deployment) -> None:
    await deployment.state.zadd(f"{deployment.keys.tag_of(FIRST.lane)}alarms", {FIRST.lane: 0})
    assert await deployment.lanes.sweep() == []
    assert await deployment.alarm_ms(FIRST) is None


async def test_a_sweep_takes_a_bounded_number_of_alarms_and_the_next_takes_the_rest(deployment: Deployment) -> None:
    await deployment.accepted(*(event(f"b{number}", f"thr_b{number}") for number in range(9)))
    deployment.clock.turn(timedelta(seconds=2))
    woken = [await deployment.lanes.sweep(limit_per_shard=2) for _ in range(6)]
    assert all(len(wakes) <= 4 for wakes in woken)
    assert len({wake.lane for wakes in woken for wake in wakes}) == sum(map(len, woken)) == 9


async def test_every_sweeper_may_sweep_and_a_lane_is_woken_once(deployment: Deployment) -> None:
    await deployment.accepted(FIRST)
    deployment.clock.turn(timedelta(seconds=2))
    assert [await deployment.lanes.sweep(), await deployment.other.sweep()] == [[WAKE], []]


async def test_dead_letters_past_retention_are_forgotten(deployment: Deployment) -> None:
    lease = await deployment.started(FIRST)
    await deployment.lanes.settle([dead(lease)])
    await deployment.lanes.bury([letter("raw_1")])
    deployment.clock.turn(timedelta(hours=23))
    await deployment.lanes.sweep()
    assert len((await deployment.lanes.dead_letters.page()).items) == 2
    deployment.clock.turn(timedelta(hours=1))
    await deployment.lanes.sweep()
    assert (await deployment.lanes.dead_letters.page()).items == []
    assert (await deployment.lanes.depth()).dead_kept == 0


async def test_the_outbox_is_emptied_over_several_sweeps(deployment: Deployment) -> None:
    lanes = lanes_on(deployment.state, deployment.keys, deployment.clock)
    items = [event(f"o{number}", "thr_1") for number in range(12)]
    await lanes.accept([(item, QUEUE) for item in items])
    for item in items:
        await lanes.settle([done((await deployment.begun(item, item.id)).lease)])
    for _ in range(3):
        await lanes.sweep(limit_per_shard=1)
    assert (await lanes.depth()).states[EventState.DONE] == 12
    assert all([await deployment.state.pttl(deployment.keys.where(item.event_id)) > 0 for item in items])
