"""A Celery app for the tests of the pool: tasks that wait, fail, and resist. Its settings come from `POOL_*`."""

import asyncio
import json
import logging
import os
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import redis
from celery import Celery, Task
from celery.exceptions import Ignore, Retry, SoftTimeLimitExceeded

from workers.errors import SettingsError
from workers.pool import DrainTimeout, on_loop_start, on_loop_stop, run_coroutine, stop_cause

BROKER_URL = os.environ.get("POOL_BROKER_URL", "redis://127.0.0.1:6379/0")
MARKS_URL = os.environ.get("POOL_MARKS_URL", "redis://127.0.0.1:6379/0")


app = Celery("pool-tests", broker=BROKER_URL, set_as_current=False)
app.conf.update(
    worker_pool="workers.pool:TaskPool",
    worker_prefetch_multiplier=4,
    worker_send_task_events=True,
    task_ignore_result=True,
    task_default_queue=os.environ.get("POOL_QUEUE", "pool"),
    broker_connection_retry_on_startup=True,
)
app.conf.update(json.loads(os.environ.get("POOL_SETTINGS", "{}")))
marks = redis.Redis.from_url(MARKS_URL)


def task(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`app.task`, typed."""
    return lambda body: app.task(body, **options)


named: ContextVar[str] = ContextVar("named", default="nobody")


def mark(key: str, value: Any) -> None:
    """Leave a mark that the test reads: what really happened, whatever Celery says."""
    marks.rpush(key, json.dumps(value))


@on_loop_start
async def started() -> None:
    if os.environ.get("POOL_FAIL_START"):
        raise SettingsError("POOL_FAIL_START: set, and must not be")
    mark("loop", "start")


@on_loop_stop
async def stopped() -> None:
    mark("loop", "stop")


@task(bind=True)
def nap(self: Task, key: str, seconds: float) -> str:
    """Wait, and mark begin and end."""
    mark(key, "begin")
    cause = run_coroutine(_nap(seconds))
    mark(key, cause or "end")
    return str(cause or "end")


async def _nap(seconds: float) -> str | None:
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError as error:
        if stop_cause() != error.args[0]:
            raise RuntimeError("the message of the cancellation is not its cause") from error
        raise
    return stop_cause()


@task(bind=True, acks_late=True)
def late_nap(self: Task, key: str, seconds: float) -> None:
    """The same, acknowledged when it ends."""
    mark(key, "begin")
    run_coroutine(asyncio.sleep(seconds))
    mark(key, "end")


@task(acks_late=True)
def late_careful(key: str, seconds: float) -> None:
    """The same, and mark why it is stopped."""
    mark(key, "begin")

    async def work() -> None:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            mark(key, f"released: {stop_cause()}")
            raise

    run_coroutine(work())
    mark(key, "end")


@task()
def careful(key: str, seconds: float, release_seconds: float) -> None:
    """Tell the causes of a stop apart, and take time to let go."""
    mark(key, "begin")

    async def work() -> None:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            await asyncio.sleep(release_seconds)
            mark(key, f"released: {stop_cause()}")
            raise

    try:
        run_coroutine(work())
    except SoftTimeLimitExceeded:
        mark(key, "body: soft limit")
        run_coroutine(asyncio.sleep(0.01))
        mark(key, "body: awaited again")
    except DrainTimeout:
        mark(key, "body: drain")
        raise


@task()
def stubborn(key: str, seconds: float) -> None:
    """Swallow every cancellation."""
    mark(key, "begin")

    async def work() -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                await asyncio.sleep(deadline - time.monotonic())
            except asyncio.CancelledError:
                mark(key, "swallowed")

    run_coroutine(work())
    mark(key, "end")


@task()
def fail(message: str) -> None:
    raise ValueError(message)


class Flaky(Exception):  # noqa: N818  # a name for the row in Flower
    """What autoretry retries."""


@task(bind=True, autoretry_for=(Flaky,), retry_kwargs={"countdown": 0, "max_retries": 3})
def flaky(self: Task, key: str, failures: int) -> None:
    mark(key, self.request.retries)
    run_coroutine(asyncio.sleep(0))
    if self.request.retries < failures:
        raise Flaky


@task()
def unpublished_retry() -> None:
    raise Retry("parked", when=1.0)


@task()
def ignored() -> None:
    raise Ignore("nothing to do")


@task()
def leave() -> None:
    raise SystemExit(3)


@task(bind=True)
def whoami(self: Task, key: str) -> None:
    """Which request and which context this body has, before and after others ran in between."""
    before, named_before = self.request.id, named.get()
    named.set(str(before))
    seen = run_coroutine(_whoami())
    mark(key, [before, self.request.id, named_before, seen, named.get()])


async def _whoami() -> str:
    await asyncio.sleep(0.05)
    return named.get()


@task()
def crash_in_background(key: str) -> None:
    """Leave a task behind that fails, and one that blocks nobody."""

    async def work() -> None:
        asyncio.get_running_loop().call_soon(_raise)
        await asyncio.sleep(0.01)

    run_coroutine(work())
    mark(key, "end")


def _raise() -> None:
    logging.getLogger(__name__).debug("about to raise")
    raise RuntimeError("nobody awaits this")
