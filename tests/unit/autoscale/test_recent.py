"""What was lately is the same in the state, for all gateways, and in one process."""

from datetime import timedelta

import pytest
from fakeredis import FakeAsyncRedis
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lane_builders import TurnedClock
from workers.autoscale.recent import SECONDS, TURNS, UNSEEN, Needed, Recent
from workers.lanes.figures import Figures, Load
from workers.lanes.keys import Keys

KEYS = Keys("ck", 2)
IDLE = timedelta(seconds=60)
NO_WORKER = Load(0, 0)

looks = st.lists(
    st.tuples(st.integers(min_value=0, max_value=9), st.sampled_from([0.5, 10.0, 30.0, 60.0])), max_size=12
)


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@settings(deadline=None, max_examples=40)
@given(looks)
async def test_two_gateways_and_one_process_remember_the_same(looks: list[tuple[int, float]]) -> None:
    state, clock, here = FakeAsyncRedis(), TurnedClock(), Needed(IDLE.total_seconds())
    gateways = [Recent(state, KEYS, clock) for _ in range(2)]
    for number, (wanted, pause) in enumerate(looks):
        most = await gateways[number % 2].most_needed(wanted, IDLE)
        assert most == here.most(wanted, clock.us / 1e6)
        clock.turn(timedelta(seconds=pause))
    await state.aclose()


async def test_what_nobody_watched_was_not_idle(clock: TurnedClock) -> None:
    state = FakeAsyncRedis()
    recent = Recent(state, KEYS, clock)
    assert await recent.most_needed(1, IDLE) is None
    for name in ("wanted", "watched"):
        assert 0 < await state.pttl(f"{KEYS.figures}{name}") <= UNSEEN.total_seconds() * 1000
    await state.aclose()


async def test_the_pace_is_that_of_the_last_minutes(clock: TurnedClock) -> None:
    state = FakeAsyncRedis()
    recent, figures = Recent(state, KEYS, clock), Figures(state, KEYS)
    assert await recent.service_seconds() is None

    async def ended(number: int, turns: int, each: float) -> None:
        await figures.tell("p", number, {SECONDS: turns * each, TURNS: turns}, "", NO_WORKER)

    await ended(1, 1000, 2.0)
    assert await recent.service_seconds() == pytest.approx(2.0)
    clock.turn(timedelta(seconds=61))
    await recent.service_seconds()
    clock.turn(timedelta(seconds=61))
    await ended(2, 10, 30.0)
    assert await recent.service_seconds() == pytest.approx(30.0)
    clock.turn(timedelta(seconds=121))
    await recent.service_seconds()
    clock.turn(timedelta(seconds=121))
    assert await recent.service_seconds() == pytest.approx(2300 / 1010), "none of late: that of all"
    await state.aclose()
