"""The pool itself, in this process and without a broker: slots, stops, contexts, hooks."""

import asyncio
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from random import Random
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded, Terminated, WorkerLostError
from kombu.asynchronous import Hub

from tests.eventually import eventually_sync
from workers.pool import (
    DrainTimeout,
    StopCause,
    TaskPool,
    current_loop,
    jobs,
    loop,
    on_loop_start,
    on_loop_stop,
    run_coroutine,
    stop_cause,
    task_pool,
)
from workers.pool.callbacks import Callbacks
from workers.pool.loop import LoopThread

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


class Seen:
    """What Celery would have been told about one job."""

    def __init__(self) -> None:
        self.accepted: list[int] = []
        self.results: list[Any] = []
        self.failures: list[BaseException] = []
        self.timeouts: list[tuple[bool, float]] = []

    def options(self) -> dict[str, Any]:
        return {
            "accept_callback": lambda pid, _: self.accepted.append(pid),
            "callback": self.results.append,
            "error_callback": lambda info: self.failures.append(info.exception.exc),
            "timeout_callback": lambda soft, seconds: self.timeouts.append((soft, seconds)),
        }

    @property
    def ended(self) -> bool:
        return bool(self.results or self.failures or any(not soft for soft, _ in self.timeouts))


class Gate:
    """A body that runs until it is let go, and counts how many run together."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.inside = 0

    def __call__(self) -> str:
        self.inside += 1
        try:
            run_coroutine(self._wait())
        finally:
            self.inside -= 1
        return "through"

    async def _wait(self) -> None:
        while not self.open.is_set():
            await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATKIT_DRAIN_SECONDS", "0.3")
    monkeypatch.setattr(jobs, "RELEASE_SECONDS", 0.3)
    monkeypatch.setattr(task_pool, "RELEASE_SECONDS", 0.3)
    monkeypatch.setattr(loop, "_start_hooks", [])
    monkeypatch.setattr(loop, "_stop_hooks", [])


@pytest.fixture
def pool() -> Iterator[TaskPool]:
    pool = TaskPool(2)
    pool.start()
    yield pool
    pool.stop()


def run(pool: TaskPool, body: Callable[[], Any], **options: Any) -> Seen:
    """Hand a job over and wait for its end."""
    seen = Seen()
    pool.apply_async(body, **seen.options(), **options)
    eventually_sync(lambda: seen.ended)
    return seen


def counts(pool: TaskPool) -> tuple[int, int, int]:
    return pool.info["running"], pool.info["pending"], pool.info["abandoned"]


def test_no_more_jobs_run_than_there_are_slots_and_the_others_are_not_accepted(pool: TaskPool) -> None:
    gate, seen = Gate(), [Seen() for _ in range(5)]
    for one in seen:
        pool.apply_async(gate, **one.options())
    eventually_sync(lambda: counts(pool) == (2, 3, 0))
    assert [bool(one.accepted) for one in seen] == [True, True, False, False, False]
    gate.open.set()
    eventually_sync(lambda: all(one.results == ["through"] for one in seen))
    assert len({one.accepted[0] for one in seen}) == 5
    eventually_sync(lambda: counts(pool) == (0, 0, 0))


def test_growing_starts_what_waits_and_shrinking_stops_nothing(pool: TaskPool) -> None:
    gate, seen = Gate(), [Seen() for _ in range(4)]
    for one in seen:
        pool.apply_async(gate, **one.options())
    pool.grow(2)
    eventually_sync(lambda: counts(pool) == (4, 0, 0))
    assert pool.num_processes == 4
    pool.shrink(3)
    late = Seen()
    pool.apply_async(gate, **late.options())
    eventually_sync(lambda: counts(pool) == (4, 1, 0))
    gate.open.set()
    eventually_sync(lambda: late.results == ["through"])
    assert pool.info["max-concurrency"] == 1


def test_a_callback_that_raises_costs_no_slot(pool: TaskPool, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a broken callback")

    for _ in range(5):
        pool.apply_async(lambda: None, callback=broken, accept_callback=broken, error_callback=broken)
    assert run(pool, lambda: 7).results == [7]
    eventually_sync(lambda: counts(pool) == (0, 0, 0))
    assert caplog.text.count("pool_callback_failed") == 10


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_a_body_that_raises_more_than_an_exception_fails_alone(pool: TaskPool, error: BaseException) -> None:
    def body() -> None:
        raise error

    [failure] = run(pool, body).failures
    assert isinstance(failure, WorkerLostError)
    assert repr(error) in str(failure)
    assert run(pool, lambda: "next").results == ["next"]


def test_an_exit_of_a_background_task_leaves_the_loop_running(pool: TaskPool, caplog: pytest.LogCaptureFixture) -> None:
    async def leave() -> None:
        raise SystemExit(3)

    async def work() -> str:
        background = asyncio.create_task(leave())
        await asyncio.sleep(0.05)
        return repr(background.exception())

    assert run(pool, lambda: run_coroutine(work())).results == ["SystemExit(3)"]
    assert "loop_interrupted" in caplog.text


def test_a_body_that_cancels_itself_is_a_failure(pool: TaskPool) -> None:
    async def work() -> None:
        raise asyncio.CancelledError

    [failure] = run(pool, lambda: run_coroutine(work())).failures
    assert isinstance(failure, WorkerLostError)


def test_each_job_starts_in_a_clean_context(pool: TaskPool) -> None:
    def body() -> str:
        before = tenant.get()
        tenant.set("acme")
        run_coroutine(asyncio.sleep(0.01))
        return f"{before}, {tenant.get()}"

    seen = [Seen() for _ in range(6)]  # the last four start when a slot of the first two becomes free
    for one in seen:
        pool.apply_async(body, **one.options())
    eventually_sync(lambda: all(one.results == ["nobody, acme"] for one in seen))


def test_the_cause_of_a_stop_is_known_in_the_coroutine_and_in_its_child_tasks(pool: TaskPool) -> None:
    causes: list[object] = []

    async def child() -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            causes.append(stop_cause())
            raise

    async def work() -> None:
        try:
            await asyncio.gather(child())
        except asyncio.CancelledError as error:
            causes.append(error.args[0])
            raise

    [failure] = run(pool, lambda: run_coroutine(work()), soft_timeout=0.05).failures
    assert isinstance(failure, SoftTimeLimitExceeded)
    assert causes == [StopCause.SOFT_TIME_LIMIT, StopCause.SOFT_TIME_LIMIT]


def test_a_timeout_block_works_after_a_soft_limit(pool: TaskPool) -> None:
    async def timed() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(30)
        except TimeoutError:
            return "timed out"
        return "not reached"

    def body() -> str:
        with pytest.raises(SoftTimeLimitExceeded):
            run_coroutine(asyncio.sleep(30))
        return run_coroutine(timed())

    seen = run(pool, body, soft_timeout=0.05)
    assert seen.results == ["timed out"]
    assert seen.timeouts == [(True, 0.05)]


def test_the_limits_of_the_worker_hold_for_jobs_without_their_own() -> None:
    pool = TaskPool(1, timeout=0.05, soft_timeout=None)
    pool.start()
    seen = run(pool, lambda: run_coroutine(asyncio.sleep(30)))
    pool.stop()
    assert seen.timeouts == [(False, 0.05)]
    assert (seen.results, seen.failures) == ([], [])


def stubborn(seconds: float) -> None:
    """Swallow every cancellation."""

    async def work() -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    run_coroutine(work())


def test_a_hard_limit_holds_for_a_body_that_swallows_cancellation_and_reports_once(pool: TaskPool) -> None:
    first, second = Seen(), Seen()
    for one in (first, second):
        pool.apply_async(lambda: stubborn(0.4), timeout=0.05, **one.options())
    assert run(pool, lambda: "next").results == ["next"]
    assert counts(pool) == (0, 0, 2)
    eventually_sync(lambda: counts(pool) == (0, 0, 0))
    assert (first.timeouts, first.results, first.failures) == ([(False, 0.05)], [], [])


def test_a_terminated_body_that_does_not_react_loses_its_slot(pool: TaskPool, caplog: pytest.LogCaptureFixture) -> None:
    seen = Seen()
    pool.shrink(1)
    pool.apply_async(lambda: stubborn(1.0), **seen.options())
    eventually_sync(lambda: seen.accepted)
    pool.terminate_job(seen.accepted[0], 15)
    assert run(pool, lambda: "next").results == ["next"]
    assert "job_abandoned" in caplog.text
    assert not seen.ended


def test_a_waiting_job_is_terminated_without_being_accepted(pool: TaskPool) -> None:
    gate, waiting = Gate(), Seen()
    for _ in range(2):
        pool.apply_async(gate)
    job = pool.apply_async(gate, **waiting.options())
    job.terminate(15)
    eventually_sync(lambda: waiting.failures)
    assert isinstance(waiting.failures[0], Terminated)
    assert not waiting.accepted
    gate.open.set()


def test_what_waits_is_dropped_when_the_connection_is_lost(pool: TaskPool) -> None:
    gate, waiting = Gate(), Seen()
    for _ in range(2):
        pool.apply_async(gate)
    pool.apply_async(gate, **waiting.options())
    pool.flush()
    eventually_sync(lambda: counts(pool) == (2, 0, 0))
    gate.open.set()
    eventually_sync(lambda: counts(pool) == (0, 0, 0))
    assert not waiting.accepted
    assert not waiting.ended


def test_stopping_gives_back_what_waits_and_drains_what_runs() -> None:
    pool, gate, running, waiting = TaskPool(1), Gate(), Seen(), Seen()
    pool.start()
    pool.apply_async(gate, **running.options())
    pool.apply_async(gate, **waiting.options())
    eventually_sync(lambda: counts(pool) == (1, 1, 0))
    pool.stop()
    assert [type(one.failures[0]) for one in (running, waiting)] == [DrainTimeout, DrainTimeout]
    assert (len(running.accepted), len(waiting.accepted)) == (1, 0)
    assert current_loop() is None


def test_stopping_ends_in_bounded_time_whatever_the_bodies_do() -> None:
    pool, seen = TaskPool(2), Seen()
    pool.start()
    pool.apply_async(lambda: stubborn(3.0), **seen.options())
    eventually_sync(lambda: seen.accepted)
    began = time.monotonic()
    pool.stop()
    assert time.monotonic() - began < 3
    assert not seen.ended


def test_hooks_run_on_the_loop_before_the_first_job_and_after_the_last() -> None:
    order: list[str] = []

    def hook(name: str) -> Callable[[], Any]:
        async def note() -> None:
            order.append(name if asyncio.get_running_loop() is current_loop() else "another loop")

        return note

    on_loop_start(hook("open a"))
    on_loop_start(hook("open b"))
    on_loop_stop(hook("close a"))
    on_loop_stop(hook("close b"))
    pool = TaskPool(1)
    pool.start()
    run(pool, lambda: order.append("job"))
    pool.stop()
    assert order == ["open a", "open b", "job", "close b", "close a"]


def test_a_start_hook_that_fails_stops_the_start_and_closes_what_was_opened() -> None:
    closed: list[str] = []

    @on_loop_start
    async def fail() -> None:
        raise ConnectionError("no Redis there")

    @on_loop_stop
    async def close() -> None:
        closed.append("closed")

    with pytest.raises(ConnectionError, match="no Redis there"):
        TaskPool(1).start()
    assert closed == ["closed"]
    assert current_loop() is None


def test_a_stop_hook_that_fails_does_not_keep_the_others_from_closing(caplog: pytest.LogCaptureFixture) -> None:
    closed: list[str] = []

    @on_loop_stop
    async def close() -> None:
        closed.append("closed")

    @on_loop_stop
    async def fail() -> None:
        raise RuntimeError("cannot close")

    pool = TaskPool(1)
    pool.start()
    pool.stop()
    assert closed == ["closed"]
    assert "stop_hook_failed" in caplog.text


def test_what_nobody_awaits_is_logged_when_it_fails(pool: TaskPool, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise RuntimeError("nobody awaits this")

    async def work() -> None:
        asyncio.get_running_loop().call_soon(fail)
        await asyncio.sleep(0.01)

    with caplog.at_level(logging.ERROR):
        run(pool, lambda: run_coroutine(work()))
    assert "loop_exception" in caplog.text
    assert "nobody awaits this" in caplog.text


def test_result_objects_can_be_referred_to_weakly_and_vanish_with_the_job(pool: TaskPool) -> None:
    seen = Seen()
    result = weakref.ref(pool.apply_async(lambda: 1, **seen.options()))
    eventually_sync(lambda: seen.ended)
    eventually_sync(lambda: result() is None)


def fails() -> None:
    raise ValueError("no such luck")


def sleeps() -> None:
    run_coroutine(asyncio.sleep(0.02))


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_to_jobs_each_is_reported_at_most_once_and_every_slot_comes_back(seed: int) -> None:
    random = Random(seed)
    pool, most = TaskPool(8), 0
    pool.start()
    bodies: list[Callable[[], None]] = [sleeps, fails, lambda: stubborn(0.05), lambda: None]
    seen = []
    for _ in range(300):
        one = Seen()
        seen.append(one)
        options = {"soft_timeout": random.choice([None, 0.01]), "timeout": random.choice([None, 0.015])}
        job = pool.apply_async(random.choice(bodies), **options, **one.options())
        if random.random() < 0.2:
            threading.Timer(random.random() / 50, job.terminate).start()
        most = max(most, pool.info["running"])
        time.sleep(random.random() / 500)
    eventually_sync(lambda: counts(pool) == (0, 0, 0))
    pool.stop()
    reports = [len(one.results) + len(one.failures) + sum(not soft for soft, _ in one.timeouts) for one in seen]
    assert set(reports) <= {0, 1}
    assert reports.count(1) >= 200, "only what was terminated while it ran is left to Celery"
    assert 0 < most <= 8


def test_reports_reach_celery_in_order_though_its_thread_is_busy() -> None:
    thread = LoopThread()
    hub: Any = Hub()  # type: ignore[no-untyped-call]  # kombu has few types; nobody turns this hub
    reports = Callbacks(thread.loop, hub)
    reports.listen(hub)
    thread.start()
    told: list[int] = []
    for number in range(100):
        thread.call(reports.post, told.append, number)
    eventually_sync(lambda: told == list(range(100)), within=2)
    thread.stop()
    reports.close()
    hub.close()
