"""Pausing a type, a tenant or a queue at run time."""

from datetime import timedelta
from typing import Any

import pytest

from tests.lane_builders import QUEUE, Deployment, event
from workers.lanes import pauses as pauses_module
from workers.lanes.pauses import Paused
from workers.lanes.records import NotBegun, Start

ONE, OTHER = event("e1", "thr_1", tenant="acme"), event("e2", "thr_2", tenant="other")


async def begin(deployment: Deployment, item: object = ONE, token: str = "t1") -> object:
    assert item in (ONE, OTHER)
    chosen = ONE if item is ONE else OTHER
    [answer] = await deployment.lanes.begin([Start(chosen.lane, chosen.event_id, token)])
    return answer


@pytest.mark.parametrize(
    ("what", "stops_other"),
    [(Paused("type", ONE.type), True), (Paused("tenant", "acme"), False), (Paused("queue", QUEUE), True)],
)
async def test_what_is_paused_is_kept_and_does_not_begin_until_it_is_resumed(
    deployment: Deployment, what: Paused, stops_other: bool
) -> None:
    pauses = deployment.lanes.pauses
    assert await pauses.pause(what)
    assert not await pauses.pause(what)
    await deployment.accepted(ONE, OTHER)
    assert await begin(deployment) == NotBegun("paused")
    assert (await begin(deployment, OTHER) == NotBegun("paused")) is stops_other
    assert await pauses.all() == [what]
    assert await pauses.resume(what)
    assert not await pauses.resume(what)
    assert await pauses.all() == []
    await deployment.begun(ONE, "t2")


async def test_what_runs_goes_on_to_its_end(deployment: Deployment) -> None:
    lease = await deployment.started(ONE)
    await deployment.lanes.pauses.pause(Paused("tenant", "acme"))
    assert await deployment.lanes.renew([lease]) == ["held"]


async def test_a_resumed_lane_is_woken_by_the_next_sweep_however_long_it_was_paused(deployment: Deployment) -> None:
    await deployment.lanes.pauses.pause(Paused("tenant", "acme"))
    await deployment.accepted(ONE)
    for _ in range(8):  # the wake-ups back off
        deployment.clock.turn(timedelta(minutes=6))
        await deployment.lanes.sweep()
        await begin(deployment)
    assert await deployment.lanes.sweep() == []
    await deployment.lanes.pauses.resume(Paused("tenant", "acme"))
    assert [wake.event_id for wake in await deployment.lanes.sweep()] == [ONE.event_id]


async def test_a_lane_that_ended_while_it_was_held_gets_no_alarm(deployment: Deployment) -> None:
    await deployment.lanes.pauses.pause(Paused("tenant", "acme"))
    await deployment.accepted(ONE)
    await begin(deployment)
    await deployment.lanes.cancel(ONE.event_id)
    await deployment.lanes.pauses.resume(Paused("tenant", "acme"))
    assert await deployment.alarm_ms(ONE) is None


async def test_a_resume_ends_though_its_lanes_are_paused_for_another_reason_as_well(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it releases is refused, and held, again before it looks for more."""
    monkeypatch.setattr(pauses_module, "LANES_PER_CALL", 2)
    pauses, run, calls = deployment.lanes.pauses, deployment.lanes.pauses._scripts.run, 0
    items = [event(f"p{number}", f"thr_{number}") for number in range(8)]
    free = [event(f"q{number}", f"thr_{number}", tenant="other") for number in range(8)]

    async def refused_meanwhile(*arguments: Any) -> list[Any]:
        nonlocal calls
        calls += 1
        assert calls < 20, "it goes on for ever"
        answers = await run(*arguments)
        await deployment.lanes.begin([Start(item.lane, item.event_id, "t") for item in items])
        return answers

    for what in (Paused("queue", QUEUE), Paused("tenant", "acme")):
        await pauses.pause(what)
    await deployment.accepted(*items, *free)
    await deployment.lanes.begin([Start(item.lane, item.event_id, "t") for item in (*items, *free)])
    monkeypatch.setattr(pauses._scripts, "run", refused_meanwhile)
    assert await pauses.resume(Paused("queue", QUEUE))
    monkeypatch.undo()
    woken = {wake.event_id for wake in await deployment.lanes.sweep()}
    assert woken >= {item.event_id for item in free}  # each of those that may go on
    assert await pauses.resume(Paused("tenant", "acme"))
    assert {wake.event_id for wake in await deployment.lanes.sweep()} >= {item.event_id for item in items}
