"""A cancellation that somebody swallows still ends our loops."""

import asyncio
from contextlib import suppress

from workers.cancellation import raise_if_cancelled


async def swallows_cancellation() -> None:
    """What redis-py's sending does when the cancellation comes just as it ends."""
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(3600)


async def test_a_loop_ends_although_its_cancellation_was_swallowed() -> None:
    async def loop_for_ever() -> None:
        while True:
            await asyncio.create_task(swallows_cancellation())
            raise_if_cancelled()

    task = asyncio.create_task(loop_for_ever())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=5)
    assert task.cancelled()


async def test_a_swallowed_timeout_is_still_a_timeout() -> None:
    timed_out = False
    try:
        async with asyncio.timeout(0.01):
            await swallows_cancellation()
            raise_if_cancelled()
    except TimeoutError:
        timed_out = True
    assert timed_out
    raise_if_cancelled()
