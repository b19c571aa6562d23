"""Looks of many readers, on a real Redis: few round trips, and nobody's fault is another's."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.exceptions import RedisError, ResponseError

from tests.services import free_port
from workers.lanes.connection import State, connect
from workers.streams.looks import TOGETHER, Looks

pytestmark = pytest.mark.redis


class Counted:
    """A client that counts its pipelines, each of which is a round trip."""

    def __init__(self, state: State) -> None:
        self._state, self.round_trips = state, 0

    def pipeline(self, **options: Any) -> Any:
        self.round_trips += 1
        return self._state.pipeline(**options)


@pytest.fixture
async def state(redis_url: str) -> AsyncIterator[State]:
    state = connect(redis_url, max_connections=2)
    yield state
    await state.aclose()


async def test_looks_that_come_together_go_together_and_each_gets_its_own_answer(state: State) -> None:
    for number in range(100):
        await state.xadd(f"s{number}", {"d": f"{number}"})
    counted: Any = Counted(state)
    looks = Looks(counted)
    found = await asyncio.gather(*(looks.entries(f"s{number}", "-", 10) for number in range(100)))
    assert [rows[0][1][b"d"] for rows in found] == [b"%d" % number for number in range(100)]
    assert counted.round_trips == 100 // TOGETHER
    assert await looks.last("s7") == found[7]
    assert await looks.fields("no such record", "a", "b") == [None, None]


async def test_a_look_that_fails_and_one_whose_reader_has_left_harm_no_other(state: State) -> None:
    await state.set("text", "no stream")
    await state.xadd("stream", {"d": "1"})
    looks = Looks(state)
    left = asyncio.create_task(looks.entries("stream", "-", 10))
    wrong = asyncio.create_task(looks.entries("text", "-", 10))
    right = asyncio.create_task(looks.entries("stream", "-", 10))
    await asyncio.sleep(0)  # all three have asked
    left.cancel()
    with pytest.raises(ResponseError):
        await wrong
    assert len(await right) == 1
    assert left.cancelled()


async def test_no_round_trip_is_spent_on_readers_that_have_left(state: State) -> None:
    counted: Any = Counted(state)
    looks = Looks(counted)
    left = [asyncio.create_task(looks.entries("stream", "-", 10)) for _ in range(2 * TOGETHER)]
    await asyncio.sleep(0)  # all have asked
    for one in left:
        one.cancel()
    assert await looks.entries("stream", "-", 10) == []
    assert counted.round_trips == 1


async def test_while_the_state_is_away_every_look_says_so_and_later_ones_find_it_again(redis_url: str) -> None:
    away = connect(f"redis://127.0.0.1:{free_port()}/0")
    looks = Looks(away)
    failures = await asyncio.gather(*(looks.entries("s", "-", 1) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(failure, RedisError) for failure in failures)
    looks._state = connect(redis_url)
    assert await looks.entries("s", "-", 1) == []
    await away.aclose()
    await looks._state.aclose()
