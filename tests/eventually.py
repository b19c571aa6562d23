"""Wait for a state, not for a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(probe: Callable[[], Awaitable[T]], *, within: float = 10.0, every: float = 0.02) -> T:
    """Call `probe` until it returns something true; its last answer is in the failure."""
    deadline = time.monotonic() + within
    while True:
        answer = await probe()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {within} s; last answer: {answer!r}"
        await asyncio.sleep(every)


def eventually_sync(probe: Callable[[], T], *, within: float = 10.0, every: float = 0.02) -> T:
    """The same for a test without a loop."""
    deadline = time.monotonic() + within
    while True:
        answer = probe()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {within} s; last answer: {answer!r}"
        time.sleep(every)
