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


def take_cancellation() -> None:
    """Make nothing more of a cancellation that was understood: what is left to do must not be cut short by it, as
    `asyncio.timeout` would."""
    task = asyncio.current_task()
    if task is not None:
        while task.cancelling():
            task.uncancel()
