"""Cancellation that cannot get lost."""

import asyncio


def raise_if_cancelled() -> None:
    """Raise `CancelledError` again if this task was cancelled and something swallowed it.

    redis-py sends with `asyncio.wait_for`, which up to Python 3.11 swallows a cancellation that comes just as the
    sending ends. A loop that nobody else ends calls this once per round; without it, a shutdown now and then hangs.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
