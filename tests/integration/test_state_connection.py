"""The state's connection packs and reads by itself: it must do what redis-py's own does."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from workers.lanes.connection import connect

pytestmark = pytest.mark.redis


@pytest.fixture
async def state(redis_url: str) -> AsyncIterator[Redis]:
    client = cast("Redis", connect(redis_url, max_connections=1))
    yield client
    await client.aclose()


async def test_replies_of_every_kind_come_back_in_order_around_an_error(state: Redis) -> None:
    pipeline = state.pipeline(transaction=False)
    pipeline.set("text", "ü" * 10)
    pipeline.get("text")
    pipeline.get("nothing")
    pipeline.incr("text")
    pipeline.rpush("list", b"a", bytearray(b"b"), 3)
    pipeline.lrange("list", 0, -1)
    pipeline.hset("hash", "field", "value")
    pipeline.hgetall("hash")
    pipeline.sadd("set", "member")
    pipeline.smembers("set")
    pipeline.zadd("sorted", {"member": 1.5})
    pipeline.zscore("sorted", "member")
    text, error = "ü" * 10, "value is not an integer or out of range"
    got = await pipeline.execute(raise_on_error=False)
    assert got[:3] == [True, text.encode(), None]
    assert isinstance(got[3], ResponseError)
    assert str(got[3]) == error
    assert got[4:] == [3, [b"a", b"b", b"3"], 1, {b"field": b"value"}, 1, {b"member"}, 1, 1.5]
    assert await state.get("text") == text.encode()


async def test_a_pipeline_larger_than_any_buffer_is_whole(state: Redis) -> None:
    sent = [str(number).encode() * 10_000 for number in range(100)]
    pipeline = state.pipeline(transaction=False)
    for number, value in enumerate(sent):
        pipeline.set(f"k{number}", value)
        pipeline.get(f"k{number}")
    assert (await pipeline.execute())[1::2] == sent


async def test_a_command_of_two_words_is_sent_as_two(state: Redis) -> None:
    assert len(str(await state.script_load("return 1"))) == 40


async def test_a_call_that_is_cancelled_leaves_no_reply_to_the_next_one(state: Redis) -> None:
    async def echo(word: str) -> object:
        return await state.execute_command("ECHO", word)  # type: ignore[no-untyped-call]  # redis-py has no type for it

    for _ in range(20):
        call = asyncio.create_task(echo("first"))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert await echo("second") == b"second"
