"""Real workers with the asyncio pool, on Redis and on RabbitMQ: limits, revokes, outcomes, requests."""

import signal
from collections.abc import Iterator

import pytest

from tests.eventually import eventually_sync
from tests.pool_world import BROKERS, PoolWorld, world_of
from tests.worker_process import WorkerProcess


@pytest.fixture(scope="module", params=BROKERS)
def world(request: pytest.FixtureRequest) -> Iterator[PoolWorld]:
    yield from world_of(request)


@pytest.fixture(scope="module")
def worker(world: PoolWorld) -> Iterator[WorkerProcess]:
    """One process with two hundred slots, for every test that leaves none of them taken."""
    with world.worker({"worker_concurrency": 200}) as worker:
        yield worker


@pytest.fixture(scope="module")
def narrow(request: pytest.FixtureRequest, world: PoolWorld) -> Iterator[WorkerProcess]:
    """One process with one slot, on a queue of its own."""
    with world.worker({"worker_concurrency": 1}, environment={"POOL_QUEUE": f"{world.queue}-narrow"}) as worker:
        yield worker


def send_narrow(world: PoolWorld, task: str, *args: object, **options: object) -> str:
    return world.send(task, *args, queue=f"{world.queue}-narrow", **options)


def test_two_hundred_tasks_sleep_together_in_one_process(world: PoolWorld, worker: WorkerProcess) -> None:
    ids = [world.send("nap", "together", 1.5) for _ in range(200)]
    eventually_sync(lambda: len(world.marked("together")) == 400, within=20)
    assert world.marked("together")[:200] == ["begin"] * 200
    eventually_sync(lambda: all("succeeded" in world.events.of(id_) for id_ in ids))
    assert set().union(*(world.events.pids(id_) for id_ in ids)) == {worker.pid}


def test_an_event_log_tells_received_started_succeeded(world: PoolWorld, worker: WorkerProcess) -> None:
    task = world.send("nap", "short", 0.01)
    world.wait_event(task, "succeeded")
    assert world.events.of(task) == ["received", "started", "succeeded"]


def test_a_soft_limit_reaches_coroutine_and_body_and_the_body_may_await_again(
    world: PoolWorld, worker: WorkerProcess
) -> None:
    task = world.send("careful", "soft", 30.0, 0.05, soft_time_limit=0.2)
    world.wait_event(task, "succeeded")
    assert world.marked("soft") == [
        "begin",
        "released: soft_time_limit",
        "body: soft limit",
        "body: awaited again",
    ]


def test_a_soft_limit_that_nobody_catches_is_a_failure(world: PoolWorld, worker: WorkerProcess) -> None:
    task = world.send("nap", "soft-fail", 30.0, soft_time_limit=0.2)
    world.wait_event(task, "failed")
    assert "SoftTimeLimitExceeded" in world.events.failure(task)
    assert world.marked("soft-fail") == ["begin"]


def test_a_hard_limit_ends_the_task(world: PoolWorld, worker: WorkerProcess) -> None:
    task = world.send("nap", "hard", 30.0, time_limit=0.2)
    world.wait_event(task, "failed")
    assert "TimeLimitExceeded" in world.events.failure(task)
    assert world.marked("hard") == ["begin"]


def test_a_hard_limit_frees_the_slot_of_a_body_that_swallows_cancellation(
    world: PoolWorld, narrow: WorkerProcess
) -> None:
    stubborn = send_narrow(world, "stubborn", "stubborn", 1.0, time_limit=0.2)
    next_ = send_narrow(world, "nap", "after-stubborn", 0.01)
    world.wait_event(next_, "succeeded")
    assert world.marked("stubborn") == ["begin", "swallowed"]
    world.wait_marked("stubborn", "begin", "swallowed", "end")
    assert world.events.of(stubborn) == ["received", "started", "failed"]


def test_a_running_task_that_is_revoked_with_terminate_stops(world: PoolWorld, worker: WorkerProcess) -> None:
    task = world.send("careful", "terminate", 30.0, 0.05)
    world.wait_marked("terminate", "begin")
    world.app.control.revoke(task, terminate=True)
    world.wait_event(task, "revoked")
    world.wait_marked("terminate", "begin", "released: terminated")
    assert world.events.of(task) == ["received", "started", "revoked"]


def test_a_running_task_that_is_revoked_without_terminate_ends(world: PoolWorld, worker: WorkerProcess) -> None:
    task = world.send("nap", "revoke-running", 0.5)
    world.wait_marked("revoke-running", "begin")
    world.app.control.revoke(task)
    world.wait_event(task, "succeeded")


@pytest.mark.parametrize("terminate", [False, True])
def test_a_task_that_is_revoked_while_it_waits_for_a_slot_never_begins(
    world: PoolWorld, narrow: WorkerProcess, terminate: bool
) -> None:
    key = f"revoke-pending-{terminate}"
    first = send_narrow(world, "nap", key, 0.6)
    waiting = send_narrow(world, "nap", key, 0.01)
    world.wait_event(waiting, "received")
    world.app.control.revoke(waiting, terminate=terminate)
    if terminate:  # at once, though there is no slot yet
        world.wait_event(waiting, "revoked")
        assert "succeeded" not in world.events.of(first)
    after = send_narrow(world, "nap", f"{key}-after", 0.01)
    world.wait_event(after, "succeeded")
    assert world.events.of(waiting) == ["received", "revoked"]
    assert world.marked(key) == ["begin", "end"]


def test_a_task_that_expires_while_it_waits_for_a_slot_never_begins(world: PoolWorld, narrow: WorkerProcess) -> None:
    send_narrow(world, "nap", "expire-first", 0.6)
    waiting = send_narrow(world, "nap", "expire", 0.01, expires=0.3)
    world.wait_event(waiting, "revoked")
    assert world.marked("expire") == []


def test_inspect_tells_what_runs_and_what_waits(world: PoolWorld, narrow: WorkerProcess) -> None:
    running = send_narrow(world, "nap", "inspect", 1.0)
    waiting = send_narrow(world, "nap", "inspect", 0.01)
    world.wait_event(waiting, "received")
    world.wait_event(running, "started")
    inspect = world.app.control.inspect([narrow.name], timeout=2, limit=1)
    [active] = inspect.active()[narrow.name]
    assert (active["id"], active["acknowledged"]) == (running, True)
    assert isinstance(active["worker_pid"], int)
    [reserved] = inspect.reserved()[narrow.name]
    assert (reserved["id"], reserved["acknowledged"]) == (waiting, False)
    pool = inspect.stats()[narrow.name]["pool"]
    assert (pool["max-concurrency"], pool["running"], pool["pending"]) == (1, 1, 1)
    world.wait_event(waiting, "succeeded")


def test_a_worker_grows_and_shrinks_on_command(world: PoolWorld, narrow: WorkerProcess) -> None:
    world.app.control.pool_grow(1, destination=[narrow.name], reply=True)
    ids = [send_narrow(world, "nap", "grown", 0.5) for _ in range(2)]
    world.wait_marked("grown", "begin", "begin")
    world.app.control.pool_shrink(1, destination=[narrow.name], reply=True)
    for task in ids:
        world.wait_event(task, "succeeded")
    [first, second] = [send_narrow(world, "nap", "shrunk", 0.1) for _ in range(2)]
    world.wait_event(second, "succeeded")
    assert world.marked("shrunk") == ["begin", "end", "begin", "end"]
    assert "succeeded" in world.events.of(first)


def test_autoretry_goes_on_under_the_same_id(world: PoolWorld, worker: WorkerProcess) -> None:
    task = world.send("flaky", "flaky", 2)
    world.wait_event(task, "succeeded")
    assert world.marked("flaky") == [0, 1, 2]
    assert world.events.of(task).count("retried") == 2


def test_an_exception_is_a_failure_event(world: PoolWorld, worker: WorkerProcess) -> None:
    task = world.send("fail", "no such luck")
    world.wait_event(task, "failed")
    assert "ValueError('no such luck')" in world.events.failure(task)


def test_a_retry_that_publishes_nothing_shows_as_retried(world: PoolWorld, worker: WorkerProcess) -> None:
    task = world.send("unpublished_retry")
    world.wait_event(task, "retried")
    assert world.events.of(task) == ["received", "started", "retried"]


def test_an_ignored_task_has_no_outcome_and_frees_its_slot(world: PoolWorld, narrow: WorkerProcess) -> None:
    task = send_narrow(world, "ignored")
    world.wait_event(send_narrow(world, "nap", "after-ignored", 0.01), "succeeded")
    assert world.events.of(task) == ["received", "started"]


def test_a_body_that_exits_fails_alone(world: PoolWorld, narrow: WorkerProcess) -> None:
    task = send_narrow(world, "leave")
    world.wait_event(task, "failed")
    assert "SystemExit(3)" in world.events.failure(task)
    world.wait_event(send_narrow(world, "nap", "after-exit", 0.01), "succeeded")
    assert narrow.exit_code is None


def test_each_body_sees_its_own_request_and_context(world: PoolWorld, worker: WorkerProcess) -> None:
    ids = [world.send("whoami", "whoami") for _ in range(50)]
    eventually_sync(lambda: len(world.marked("whoami")) == 50)
    expected = sorted([id_, id_, "nobody", id_, id_] for id_ in ids)
    assert sorted(world.marked("whoami")) == expected


def test_what_fails_in_the_background_is_logged(world: PoolWorld, worker: WorkerProcess) -> None:
    task = world.send("crash_in_background", "background")
    world.wait_event(task, "succeeded")
    worker.wait_for_line("RuntimeError: nobody awaits this")


def test_autoscale_grows_with_the_queue_and_shrinks_when_it_is_quiet(world: PoolWorld) -> None:
    mine = {"POOL_QUEUE": f"{world.queue}-scaled", "AUTOSCALE_KEEPALIVE": "1"}
    with world.worker(options=["--autoscale=20,2"], environment=mine) as worker:
        inspect = world.app.control.inspect([worker.name], timeout=2, limit=1)

        def slots() -> int:
            return int(inspect.stats()[worker.name]["pool"]["max-concurrency"])

        assert slots() == 2
        for _ in range(30):
            world.send("nap", "scaled", 0.6, queue=mine["POOL_QUEUE"])
        eventually_sync(lambda: world.marked("scaled").count("begin") >= 20)
        assert world.marked("scaled").count("begin") == 20
        assert slots() == 20
        eventually_sync(lambda: world.marked("scaled").count("end") == 30)
        eventually_sync(lambda: slots() == 2, within=10, every=0.3)


def test_our_autoscaler_grows_with_what_waits_and_takes_back_what_nobody_needed(world: PoolWorld) -> None:
    mine = {"POOL_QUEUE": f"{world.queue}-decided", "AUTOSCALE_KEEPALIVE": "1"}
    settings = {"worker_autoscaler": "workers.autoscale.slots:PoolAutoscaler"}
    with world.worker(settings, options=["--autoscale=8,2"], environment=mine) as worker:
        inspect = world.app.control.inspect([worker.name], timeout=2, limit=1)

        def slots() -> int:
            return int(inspect.stats()[worker.name]["pool"]["max-concurrency"])

        assert slots() == 2
        for _ in range(12):
            world.send("nap", "decided", 3, queue=mine["POOL_QUEUE"])
        eventually_sync(lambda: slots() == 8, within=10, every=0.3)
        eventually_sync(lambda: world.marked("decided").count("end") == 12, within=30)
        eventually_sync(lambda: slots() == 2, within=15, every=0.3)


def test_a_killed_worker_leaves_a_late_acknowledged_task_to_the_next(world: PoolWorld) -> None:
    queue = f"{world.queue}-killed"
    # Redis: a message is given out again when nobody acknowledged it for as long as this, and a sweep sees it
    redelivery = {"visibility_timeout": 1, "unacked_restore_interval": 1, "unacked_restore_throttle": 1}
    settings = {"broker_transport_options": redelivery} if world.on_redis else {}
    with world.worker(settings, environment={"POOL_QUEUE": queue}) as first:
        task = world.send("late_nap", "killed", 0.5, queue=queue)
        world.wait_marked("killed", "begin")
        first.signal(signal.SIGKILL)
        assert first.wait() == -signal.SIGKILL
    with world.worker(settings, environment={"POOL_QUEUE": queue}):
        world.wait_event(task, "succeeded", within=20)
    assert world.marked("killed") == ["begin", "begin", "end"]
