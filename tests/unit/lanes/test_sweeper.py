"""The sweeper wakes what a sweep finds; rounds go on whatever happens."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

import fakeredis
import pytest

from tests.eventually import eventually
from tests.lane_builders import Deployment, deployment_on, event
from workers.lanes.records import Wake
from workers.lanes.rounds import INTERVAL, Rounds
from workers.lanes.sweeper import Sweeper

FIRST = event("e1", "thr_1")


class RecordingWaker:
    """Keeps the wake-ups that it is given."""

    def __init__(self) -> None:
        self.woken: list[Wake] = []

    async def wake(self, wakes: Any) -> None:
        self.woken += wakes


async def test_the_sweeper_sends_the_wakes_it_finds(deployment: Deployment) -> None:
    waker = RecordingWaker()
    sweeper = Sweeper(deployment.lanes, waker.wake)
    await deployment.accepted(FIRST)
    await sweeper.sweep()
    assert waker.woken == []
    deployment.clock.turn(timedelta(seconds=2))
    await sweeper.sweep()
    assert [wake.event_id for wake in waker.woken] == [FIRST.event_id]


async def nothing() -> None:
    pass


@pytest.mark.parametrize(("workers", "tenths"), [(0, 1), (1, 1), (7, 7)])
def test_workers_share_their_rounds_whatever_their_number(workers: int, tenths: int) -> None:
    pauses = [
        Rounds(nothing, lambda: workers, failure="failed", random=partial(float, roll)).pause
        for roll in (0.0, 0.5, 1.0)
    ]
    assert pauses == [INTERVAL * tenths * factor for factor in (0.5, 1.0, 1.5)]


async def test_rounds_go_on_after_the_state_was_away(caplog: pytest.LogCaptureFixture) -> None:
    server = fakeredis.FakeServer()
    state = fakeredis.FakeAsyncRedis(server=server)
    deployment, waker = deployment_on(state, "ck"), RecordingWaker()
    await deployment.accepted(FIRST)
    server.connected = False
    rounds = Rounds(Sweeper(deployment.lanes, waker.wake).sweep, lambda: 1, failure="sweep_failed")
    task = asyncio.create_task(rounds.run())

    async def noticed() -> bool:
        return "sweep_failed" in caplog.messages

    await eventually(noticed)
    server.connected = True
    deployment.clock.turn(timedelta(seconds=2))

    async def woken() -> bool:
        return bool(waker.woken)

    await eventually(woken)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await state.aclose()
