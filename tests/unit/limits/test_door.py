"""The door: a user's minute's worth, and nobody else's."""

from datetime import timedelta

from fakeredis import FakeAsyncRedis
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.lanes.keys import Keys
from workers.lanes.records import Owner
from workers.limits.door import Door

ADA, BOB = Owner("acme", "ada"), Owner("acme", "bob")


class Doorstep:
    """A door whose time the test turns."""

    def __init__(self, per_minute: int) -> None:
        self.state, self.us = FakeAsyncRedis(), 1_000_000_000_000_000
        self.door = Door(self.state, Keys("ck", 8), per_minute, clock=lambda: self.us)

    def turn(self, seconds: float) -> None:
        self.us += round(seconds * 1e6)


async def test_a_minutes_worth_may_come_at_once_and_then_one_by_one() -> None:
    step = Doorstep(60)
    assert [await step.door.admit(ADA) for _ in range(60)] == [None] * 60
    assert await step.door.admit(ADA) == timedelta(seconds=1)
    step.turn(1)
    assert await step.door.admit(ADA) is None
    assert await step.door.admit(ADA) == timedelta(seconds=1)


async def test_users_and_tenants_do_not_count_for_each_other() -> None:
    step = Doorstep(1)
    assert await step.door.admit(ADA) is None
    assert await step.door.admit(ADA) is not None
    assert await step.door.admit(BOB) is None
    assert await step.door.admit(Owner("umbrella", "ada")) is None


async def test_a_batch_counts_whole_and_one_larger_than_a_minute_counts_as_one() -> None:
    step = Doorstep(60)
    assert await step.door.admit(ADA, 50) is None
    assert await step.door.admit(ADA, 20) == timedelta(seconds=10)
    assert await step.door.admit(ADA, 10) is None
    assert await step.door.admit(BOB, 500) is None
    assert await step.door.admit(BOB) is not None


async def test_who_sends_nothing_is_forgotten_and_zero_lets_everybody_in() -> None:
    step = Doorstep(60)
    await step.door.admit(ADA)
    [key] = await step.state.keys()
    assert 0 < await step.state.pttl(key) <= 60_000
    free = Doorstep(0)
    assert [await free.door.admit(ADA) for _ in range(5)] == [None] * 5
    assert await free.state.keys() == []


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 100), st.lists(st.floats(0, 20), max_size=60))
async def test_never_more_than_two_minutes_worth_in_any_minute(per_minute: int, pauses: list[float]) -> None:
    step, let_in = Doorstep(per_minute), list[int]()
    for pause in [0.0] * per_minute + pauses:
        step.turn(pause)
        if await step.door.admit(ADA) is None:
            let_in.append(step.us)
    for start in let_in:
        assert sum(1 for at in let_in if start <= at < start + 60_000_000) <= 2 * per_minute
