"""The roll of live workers."""

import asyncio

from fakeredis import FakeAsyncRedis

from tests.eventually import eventually
from workers.lanes.keys import Keys
from workers.lanes.roll import Roll


async def test_workers_see_each_other_and_leave_when_they_stop() -> None:
    state, keys = FakeAsyncRedis(), Keys("ck", 8)
    first, second = Roll(state, keys), Roll(state, keys)
    await first.sign("w1")
    running = asyncio.create_task(second.run("w2"))

    async def both() -> bool:
        return await first.names() == ["w1", "w2"]

    assert await eventually(both)
    assert second.live == 2
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert await first.names() == ["w1"]
    await state.aclose()


async def test_a_worker_that_signed_long_ago_is_gone() -> None:
    state, keys = FakeAsyncRedis(), Keys("ck", 8)
    await state.zadd(keys.workers, {"ghost": 1.0})
    roll = Roll(state, keys)
    await roll.sign("w1")
    assert roll.live == 1
    assert await roll.names() == ["w1"]
    await state.aclose()
