"""What waits for a sign-in, and what wakes it."""

from datetime import timedelta

from schemas.events import Event
from schemas.outcome import Parked, ParkReason
from tests.builders import delivery_of
from tests.lane_builders import QUEUE, Deployment, event
from workers.lanes.records import Owner, Settlement, Wake
from workers.lanes.sign_ins import KEPT

MINE, ALSO_MINE = event("e1", "thr_1"), event("e2", "thr_2")
THEIRS = event("e3", "thr_3", user="u2")
ME = Owner("acme", "u1")


async def refused(deployment: Deployment, *events: Event) -> bool:
    """Events that ran into a 401; whether that is told to an operator."""
    told = False
    for item in events:
        lease = await deployment.started(item)
        parked = Parked(ParkReason.AUTHENTICATION, timedelta(minutes=1))
        await deployment.lanes.settle([Settlement(lease, parked, delay=parked.delay)])
        told = await deployment.lanes.sign_ins.wait([delivery_of(item, lease=lease, queue=QUEUE)])
    return told


def wake(item: Event) -> Wake:
    return Wake(item.lane, item.event_id, item.type, QUEUE)


async def test_a_sign_in_wakes_what_waits_for_it_once_and_nobody_elses(deployment: Deployment) -> None:
    await refused(deployment, MINE, ALSO_MINE, THEIRS)
    woken = await deployment.lanes.sign_ins.signed_in([ME, Owner("acme", "u9")])
    assert sorted(woken, key=str) == [wake(MINE), wake(ALSO_MINE)]
    await deployment.begun(MINE, "t2")  # it is due
    assert await deployment.lanes.sign_ins.signed_in([ME]) == []


async def test_what_has_ended_meanwhile_is_not_woken(deployment: Deployment) -> None:
    await refused(deployment, MINE)
    await deployment.lanes.cancel(MINE.event_id)
    assert await deployment.lanes.sign_ins.signed_in([ME]) == []


async def test_another_key_than_before_wakes_everybody(deployment: Deployment) -> None:
    sign_ins = deployment.lanes.sign_ins
    assert await sign_ins.key_is("one") == []
    await refused(deployment, MINE, THEIRS)
    assert await sign_ins.key_is("one") == []
    assert sorted(await sign_ins.key_is("two"), key=str) == [wake(MINE), wake(THEIRS)]
    assert await sign_ins.key_is("two") == []


async def test_an_operator_is_told_once_in_some_minutes(deployment: Deployment) -> None:
    assert await refused(deployment, MINE)
    assert not await refused(deployment, ALSO_MINE)


async def test_who_never_signs_in_again_is_forgotten(deployment: Deployment) -> None:
    await refused(deployment, MINE)
    deployment.clock.turn(KEPT)
    await refused(deployment, THEIRS)
    key = deployment.keys.sign_ins
    assert await deployment.state.zrange(key, 0, -1) == [deployment.keys.sign_in("acme/u2").encode()]
    assert 0 < await deployment.state.pttl(key) <= KEPT / timedelta(milliseconds=1)


async def test_who_signs_in_before_it_is_noted_that_somebody_waits_is_not_missed(deployment: Deployment) -> None:
    """The page asks for a sign-in as soon as it is shown one, which is before the event is settled and noted."""
    sign_ins = deployment.lanes.sign_ins
    assert await sign_ins.signed_in([ME]) == []
    await refused(deployment, MINE, THEIRS)
    assert await sign_ins.missed([ME, Owner("acme", "u2")]) == [wake(MINE)]
    lease = (await deployment.begun(MINE, "t2")).lease
    parked = Parked(ParkReason.AUTHENTICATION, timedelta(minutes=1))
    await deployment.lanes.settle([Settlement(lease, parked, delay=parked.delay)])
    await sign_ins.wait([delivery_of(MINE, lease=lease, queue=QUEUE)])
    assert await sign_ins.missed([ME]) == [], "once for each sign-in"
