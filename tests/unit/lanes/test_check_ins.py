"""Signs of life: once a minute, whoever gives them."""

from fakeredis import FakeAsyncRedis, FakeServer

from workers.lanes.check_ins import CheckIns
from workers.lanes.keys import Keys


async def test_one_of_all_workers_tells_and_another_when_that_one_is_gone() -> None:
    state, keys, told = FakeAsyncRedis(server=FakeServer()), Keys("ck", 2), list[str]()
    now = [0.0]
    first, second = (
        CheckIns(state, keys, lambda name=name: told.append(name), clock=lambda: now[0])  # type: ignore[misc]  # bound
        for name in ("first", "second")
    )
    for one in (first, second, first):
        await one.done()
    assert told == ["first"]
    assert 55_000 < await state.pttl(keys.check_in) <= 60_000
    await state.delete(keys.check_in)  # the minute is over
    await second.done()
    assert told == ["first"]  # not yet its time to ask again
    now[0] = 6.0
    await second.done()
    assert told == ["first", "second"]
